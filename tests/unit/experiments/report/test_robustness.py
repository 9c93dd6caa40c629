"""A table beside other evaluations of its runs: rates, differences paired by seed, contrasts, what is missing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from verl_actfocus.experiments.report.writing import write_table
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.tables.grid import Request, cells
from verl_actfocus.storage.errors import ExperimentError

from ...conftest import write_lines
from ..declared import finished

DECLARED = """
title: A comparison
source: Nobody 2026, stage 9
algorithm: grpo
quantity: area
weightings:
  uniform: {label: Uniform, weighting: uniform}
  actfocus: {label: ActFocus}
rows:
  - env: frozenlake
  - env: sokoban
contrasts: [{weighting: actfocus, larger: frozenlake, than: sokoban, number: final}]
evaluations:
  greedy: {label: greedy, temperature: 0}
  unseen: {label: other tasks, first_task: 64}
"""
TASKS = 10
#: Solved tasks of ten of seeds 1 and 2: in training at the end, greedily.
SOLVED = {
    ("frozenlake", "uniform"): [(5, 6), (4, 7)],
    ("frozenlake", "actfocus"): [(8, 9), (9, 8)],
    ("sokoban", "uniform"): [(5, 5), (6, 4)],
    ("sokoban", "actfocus"): [(5, 3), (5, 4)],
}


def made_with(run: Path, name: str, changes: dict[str, float]) -> None:
    folder = RunFolder(run).reevaluation(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({"changes": changes}))


@pytest.fixture
def evaluated(make_request: Callable[..., Request], finish: Callable[..., None]) -> Request:
    request = make_request(DECLARED, seeds=2)
    for cell in cells(request):
        for run in cell.runs:
            final, greedy = SOLVED[run.conditions.env, str(run.weighting)][run.seed - 1]
            finish(run, {step: {task: [int(task < n)] for task in range(TASKS)} for step, n in ((0, 1), (4, final))})
            outcomes = [{"seed": task, "success": task < greedy} for task in range(TASKS)]
            write_lines(RunFolder(run.folder).outcomes("greedy"), outcomes)
            made_with(run.folder, "greedy", {"temperature": 0.0})
    return request


def test_every_evaluation_has_a_column_with_rates_differences_and_the_contrast(
    evaluated: Request, tmp_path: Path
) -> None:
    written = {path.name: path for path in write_table(evaluated, finished(evaluated), tmp_path / "written")}
    text = written["mine-cpu.md"].read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    (header,) = (row for row in rows if "greedy" in row)
    assert header == ["environment", "model", "final success of", "in training", "greedy", "other tasks"]
    by_label = {(row[0], row[2]): [cell.split(" ")[0] for cell in row[3:]] for row in rows if len(row) == 6}
    assert by_label["FrozenLake, GRPO", "Uniform"] == ["45.0", "65.0", ""]
    assert by_label["FrozenLake, GRPO", "ActFocus − Uniform"] == ["+40.0", "+20.0", ""]
    assert by_label["Sokoban, GRPO", "ActFocus − Uniform"] == ["-5.0", "-10.0", ""]
    # Differences of the two seeds: +30, +50 and 0, -10; greedily +30, +10 and -20, 0.
    assert by_label["", "ActFocus − Uniform"] == ["+45.0", "+30.0", ""]
    assert "8 of the other evaluations were not made" in text
    with written["mine-cpu-robustness.csv"].open(encoding="utf-8") as file:
        key = ("environment", "weighting", "evaluation", "number")
        numbers = {tuple(row[name] for name in key): row for row in csv.DictReader(file)}
    assert float(numbers["sokoban", "actfocus", "greedy", "difference"]["value"]) == pytest.approx(-0.1)
    assert numbers["sokoban", "actfocus", "greedy", "difference"]["seeds"] == "2"
    assert numbers["sokoban", "actfocus", "unseen", "final"]["value"] == ""
    assert float(numbers["", "actfocus", "greedy", "contrast"]["value"]) == pytest.approx(0.3)
    assert len(numbers) == 4 * 3 * 2 + 2


def test_differences_are_over_the_seeds_that_both_were_evaluated_with(evaluated: Request, tmp_path: Path) -> None:
    for cell in cells(evaluated):
        for run in cell.runs:
            if (run.seed, run.weighting.name, run.conditions.env) == (2, "uniform", "frozenlake"):
                RunFolder(run.folder).outcomes("greedy").unlink()
    written = {path.name: path for path in write_table(evaluated, finished(evaluated), tmp_path / "written")}
    with written["mine-cpu-robustness.csv"].open(encoding="utf-8") as file:
        (one,) = (
            row
            for row in csv.DictReader(file)
            if (row["environment"], row["weighting"]) == ("frozenlake", "actfocus")
            and (row["evaluation"], row["number"]) == ("greedy", "difference")
        )
    assert (float(one["value"]), one["seeds"]) == (pytest.approx(0.3), "1")


def test_without_any_of_them_the_table_says_nothing_of_them(evaluated: Request, tmp_path: Path) -> None:
    for cell in cells(evaluated):
        for run in cell.runs:
            RunFolder(run.folder).outcomes("greedy").unlink()
    written = {path.name: path for path in write_table(evaluated, finished(evaluated), tmp_path / "written")}
    text = written["mine-cpu.md"].read_text(encoding="utf-8")
    assert "Evaluated otherwise" not in text and "greedy" not in text and "other evaluations" not in text


def test_an_evaluation_that_was_made_otherwise_than_declared_is_not_shown_as_if_it_were(
    evaluated: Request, tmp_path: Path
) -> None:
    run = next(run for cell in cells(evaluated) for run in cell.runs)
    made_with(run.folder, "greedy", {"temperature": 0.25})
    written = {path.name: path for path in write_table(evaluated, finished(evaluated), tmp_path / "written")}
    assert "9 of the other evaluations were not made" in written["mine-cpu.md"].read_text(encoding="utf-8")


def test_a_damaged_file_is_named(evaluated: Request, tmp_path: Path) -> None:
    run = cells(evaluated)[0].runs[0]
    RunFolder(run.folder).outcomes("greedy").write_text("{}\n")
    with pytest.raises(ExperimentError, match=r"greedy/outcomes\.jsonl, line 1: not an evaluation episode"):
        write_table(evaluated, finished(evaluated), tmp_path / "written")
