"""What a table's file says becomes neither a folder elsewhere nor markup."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from verl_actfocus.experiments.report.writing import write_table
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs

from ..declared import SCALES, TABLE

MakeRequest = Callable[..., Request]


@pytest.mark.parametrize(
    "values",
    [
        {"table": TABLE.replace("{label: ActFocus}", "{label: A, settings: {normalize_over: '../../../x'}}")},
        {"table": TABLE.replace("{label: ActFocus}", "{label: A, weighting: 'actfocus alpha=0.2/../../../x'}")},
        {"scales": SCALES.replace("cpu:", "'../../x':"), "scale": "../../x"},
        {"scales": SCALES.replace("large: big/model", "'/../../../x': big/model"), "scale": "gpu"},
    ],
)
def test_every_run_is_below_the_folder_that_was_asked_for(
    make_request: MakeRequest, tmp_path: Path, values: dict[str, str]
) -> None:
    if values.get("scale") == "gpu":
        values["table"] = TABLE.replace("      large: {uniform: [12.5, 26.2], actfocus: [6.8, null]}\n", "")
    runs = distinct_runs(cells(make_request(**values)))
    out = (tmp_path / "out").resolve()
    assert all(run.folder.resolve().is_relative_to(out) and len(run.folder.relative_to(out).parts) == 3 for run in runs)
    assert len({run.folder for run in runs}) == len(runs)


def test_labels_stay_text_in_every_format(make_request: MakeRequest, tmp_path: Path) -> None:
    text = r'"=A|b <i> 50% _x_\n& \\input{y}"'
    table = TABLE.replace("label: ActFocus", f"label: {text}")
    table = table.replace("title: A comparison", 'title: "A\\ncomparison"').replace(
        "frozenlake", "frozenlake\n    label: '=x'"
    )
    plain, hostile = (make_request(table=text) for text in (TABLE, table))
    files = {path.name.partition("cpu")[2]: path.read_text() for path in write_table(hostile, {}, tmp_path / "h")}
    usual = {path.name.partition("cpu")[2]: path.read_text() for path in write_table(plain, {}, tmp_path / "p")}
    assert r"=A\|b &lt;i&gt; 50% _x_ &amp; \\input{y}" in files[".md"]
    assert r"\ensuremath{<}i\ensuremath{>} 50\% \_x\_ \& \textbackslash{}input\{y\}" in files[".tex"]
    assert len(files[".tex"].splitlines()) == len(usual[".tex"].splitlines())
    grid = [line.replace(r"\|", "").count("|") for line in files[".md"].splitlines() if line.startswith("|")]
    assert grid == [line.count("|") for line in usual[".md"].splitlines() if line.startswith("|")]
    for row in csv.DictReader((tmp_path / "h" / "mine-cpu.csv").read_text().splitlines()):
        assert not any(value.startswith("=") for value in row.values())
