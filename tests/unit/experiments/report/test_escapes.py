"""Names and settings stay text in a report, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from verl_actfocus.experiments.report.escapes import csv_cell, fenced, literal, markdown

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


def test_a_command_stays_in_its_block_whatever_it_holds() -> None:
    lines = fenced(["echo '", "````", "# not a heading'"]).splitlines()
    assert lines[0] == "`````sh" and lines[-1] == "`````"
    assert fenced(["ls", "pwd"]) == "```sh\nls\npwd\n```"


def test_a_label_with_dollar_signs_is_drawn_as_it_is() -> None:
    figure = Figure()
    text = figure.text(0, 0, literal("alpha $5, $x_2$"))
    assert text._preprocess_math(text.get_text()) == ("alpha $5, $x_2$", False)
