"""Names and settings stay text in a report, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path

from verl_actfocus.experiments.report.escapes import csv_cell, markdown

from .pages import RecordRun, outcomes, parse, write

#: What would begin a column, a tag and a link.
HOSTILE = "actfocus signal=a|b<img/src=x>[c](d)"


def test_markdown_gets_no_column_tag_link_or_line_from_a_text() -> None:
    assert markdown("a|b\nc <i> & [x](y) `z` \\|") == r"a\|b c &lt;i&gt; &amp; [x]\(y) \`z\` \\\|"
    assert markdown(3) == 3


def test_csv_cells_are_no_formulas_and_numbers_stay_numbers() -> None:
    assert [csv_cell(text) for text in ("=1", "+1", "-1", "@x", "\tx")] == ["'=1", "'+1", "'-1", "'@x", "'\tx"]
    assert csv_cell("a=1") == "a=1"
    assert csv_cell(-0.5) == -0.5


def test_a_reports_tables_keep_their_columns_and_its_page_its_tags(tmp_path: Path, record_run: RecordRun) -> None:
    tags, lines = [], []
    for name, weighting in (("plain", "actfocus signal=entropy"), ("hostile", HOSTILE)):
        out = tmp_path / name
        for one in ("uniform", weighting):
            run = record_run(out, one, 0, {0: outcomes(8), 2: outcomes(20)})
            begun = json.loads((run / "run.json").read_text())
            begun["run"]["extra"] = ["x=a|b\n# title"] if name == "hostile" else ["x=a"]
            (run / "run.json").write_text(json.dumps(begun))
        markdown_file, html, _ = write(out)
        tags.append([tag for tag, _ in parse(html).found])
        lines.append(markdown_file.read_text().split("Commands (")[0].splitlines())
    plain, hostile = lines
    assert len(plain) == len(hostile)
    assert [line.count("|") for line in plain] == [line.replace(r"\|", "").count("|") for line in hostile]
    assert not any("<img" in line or "](d)" in line for line in hostile)
    assert tags[0] == tags[1]
    assert "[c](d)" in parse(html).text
