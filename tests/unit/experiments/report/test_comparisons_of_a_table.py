"""A table of final success and area concludes what was declared: paired, corrected, pooled, contrasted."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from verl_actfocus.experiments.report.comparisons import Comparison, comparisons, contrasted, pooled
from verl_actfocus.experiments.report.figures import Line, lines
from verl_actfocus.experiments.report.writing import write_table
from verl_actfocus.experiments.results.run_result import RunResult
from verl_actfocus.experiments.tables.grid import Request, cells
from verl_actfocus.experiments.tables.table import Table

from ..declared import finished

MakeRequest = Callable[..., Request]
Finish = Callable[..., None]
TASKS = 10
DECLARED = """
title: A comparison
source: Nobody 2026, stage 9
algorithm: grpo
quantity: area
weightings:
  uniform: {label: Uniform, weighting: uniform}
  actfocus: {label: ActFocus}
  half: {label: half, weighting: actfocus alpha=0.5}
rows:
  - env: frozenlake
  - env: sokoban
contrasts: [{weighting: actfocus, larger: frozenlake, than: sokoban, number: final}]
"""
#: Solved tasks of ten, at steps 0, 2 and 4, of seeds 1, 2, 3.
SOLVED = {
    ("frozenlake", "uniform"): [(1, 3, 5), (1, 4, 4), (1, 3, 4)],
    ("frozenlake", "actfocus"): [(1, 6, 9), (1, 7, 9), (1, 5, 8)],
    ("frozenlake", "actfocus alpha=0.5"): [(1, 4, 5), (1, 3, 5), (1, 5, 3)],
    ("sokoban", "uniform"): [(2, 3, 6), (2, 4, 5), (2, 2, 5)],
    ("sokoban", "actfocus"): [(2, 3, 5), (2, 5, 5), (2, 1, 4)],
}


def number(row: str, weighting: str, name: str) -> np.ndarray:
    solved = np.array(SOLVED[row, weighting]) / TASKS
    return solved[:, 2] if name == "final" else solved[:, 1:].mean(axis=1)


@pytest.fixture
def played(make_request: MakeRequest, finish: Finish) -> Request:
    request = make_request(DECLARED, seeds=3)
    for cell in cells(request):
        for run in cell.runs:
            solved = SOLVED.get((run.conditions.env, str(run.weighting)))
            if solved:
                steps = zip((0, 2, 4), solved[run.seed - 1], strict=True)
                finish(run, {step: {task: [int(task < n)] for task in range(TASKS)} for step, n in steps})
    return request


def made(request: Request) -> list[Line]:
    return lines(request.table, cells(request), finished(request))


def by_name(request: Request) -> dict[tuple[str, str, str], Comparison]:
    found = comparisons(request.table, made(request))
    return {(one.line.cell.row.name, one.line.cell.weighting, one.number): one for one in found}


def test_what_is_declared_does_not_depend_on_how_much_of_it_is_asked_for(
    make_request: MakeRequest, finish: Finish
) -> None:
    """FrozenLake has two model sizes and Sokoban one, so six comparisons; the scale declares five seeds."""
    declared = DECLARED.partition("contrasts:")[0]
    request = make_request(declared, scale="gpu", seeds=3, only=("frozenlake", "small"))
    for cell in cells(request):
        for run in cell.runs:
            steps = zip((0, 2, 4), SOLVED["frozenlake", str(run.weighting)][run.seed], strict=True)
            finish(run, {step: {task: [int(task < n)] for task in range(TASKS)} for step, n in steps})
    one = by_name(request)["frozenlake", "actfocus", "final"]
    other = by_name(request)["frozenlake", "half", "final"]
    assert one.p_value < 0.05 / 6 and one.corrected == pytest.approx(6 * one.p_value)
    assert other.corrected == pytest.approx(min(1.0, 5 * other.p_value))
    assert one.conclusion != "higher"


def test_comparisons_are_paired_by_seed_and_corrected_over_those_of_one_number(played: Request) -> None:
    found = by_name(played)
    wanted = [("frozenlake", "actfocus"), ("frozenlake", "half"), ("sokoban", "actfocus")]
    assert found.keys() == {(*pair, name) for pair in wanted for name in ("final", "area")}
    for name in ("final", "area"):
        p_values = {}
        for row, weighting in wanted:
            own = number(row, weighting.replace("half", "actfocus alpha=0.5"), name)
            other = number(row, "uniform", name)
            comparison, test = found[row, weighting, name], stats.ttest_rel(own, other)
            assert comparison.estimate.value == pytest.approx((own - other).mean())
            assert comparison.estimate.interval == pytest.approx(
                (test.confidence_interval().low, test.confidence_interval().high)
            )
            assert comparison.p_value == pytest.approx(test.pvalue)
            p_values[row, weighting] = float(test.pvalue)
        # By hand: four are declared (two weightings in two rows), so the smallest times four and so on, never falling.
        largest = 0.0
        for factor, (key, p_value) in zip((4, 3, 2), sorted(p_values.items(), key=lambda pair: pair[1]), strict=True):
            largest = max(largest, min(1.0, factor * p_value))
            assert found[*key, name].corrected == pytest.approx(largest)
    assert found["frozenlake", "actfocus", "final"].conclusion == "higher"
    assert found["frozenlake", "half", "final"].conclusion == "inconclusive"


def test_weightings_are_pooled_over_the_rows_that_were_run(played: Request) -> None:
    found = {(one.weighting, one.number): one for one in pooled(played.table, made(played))}
    assert found.keys() == {("actfocus", "final"), ("actfocus", "area")}  # of the third only one row was run
    one = found["actfocus", "final"]
    scores = np.sort(np.concatenate([number(row, "actfocus", "final") for row in ("frozenlake", "sokoban")]))
    assert one.mean.value == pytest.approx(scores[1:5].mean())
    pairs = [
        np.mean(
            [(a > b) + (a == b) / 2 for a in number(row, "actfocus", "final") for b in number(row, "uniform", "final")]
        )
        for row in ("frozenlake", "sokoban")
    ]
    assert one.improvement.value == pytest.approx(np.mean(pairs)) and pairs[0] == 1
    assert one.rows == ("frozenlake", "sokoban")


def test_a_declared_answer_over_rows_waits_for_all_of_them_and_all_seeds(
    make_request: MakeRequest, played: Request, tmp_path: Path
) -> None:
    """By hand: ActFocus's three runs are all above Uniform's on FrozenLake, and none so on Sokoban."""

    def answers(table: Table, runs: dict[Path, RunResult]) -> list[str]:
        found = pooled(table, lines(table, cells(played), runs))
        return [one.conclusion for one in found if (one.weighting, one.number) == ("actfocus", "final")]

    runs = finished(played)
    assert answers(played.table, runs) == ["not shown"]
    waits = dataclasses.replace(played.table, rows=[*played.table.rows, dataclasses.replace(played.table.rows[0])])
    assert answers(waits, runs) == ["unfinished"]
    assert answers(dataclasses.replace(played.table, seeds=5), runs) == ["unfinished"]
    del runs[next(path for path in runs if path.name == "actfocus-seed3" and "frozenlake" in str(path))]
    assert answers(played.table, runs) == ["unfinished"]
    declared = make_request(DECLARED + "pooled: final\n", seeds=3)
    written = {path.name: path for path in write_table(declared, finished(played), tmp_path / "written")}
    numbers = csv.DictReader(written["mine-cpu-pooled.csv"].read_text("utf-8").splitlines())
    assert [(row["number"], row["conclusion"]) for row in numbers] == [("final", "not shown"), ("area", "")]
    text = " ".join(written["mine-cpu.md"].read_text("utf-8").split())
    assert "P(above Uniform) | conclusion |" in text and "| not shown |" in text


@pytest.mark.parametrize(
    ("ends", "word"), [((0.51, 0.9), "helps"), ((0.1, 0.49), "harms"), ((0.5, 0.9), "not shown"), (None, "not shown")]
)
def test_a_probability_is_an_answer_with_its_whole_interval(
    ends: tuple[float, float] | None, word: str, played: Request
) -> None:
    one = pooled(played.table, made(played))[0]
    estimate = dataclasses.replace(one.improvement, interval=ends)
    assert dataclasses.replace(one, improvement=estimate).conclusion == word


def test_a_contrast_is_welchs_test_over_the_paired_differences(played: Request) -> None:
    (found,) = contrasted(played.table, comparisons(played.table, made(played)))
    differences = [
        number(row, "actfocus", "final") - number(row, "uniform", "final") for row in ("frozenlake", "sokoban")
    ]
    test = stats.ttest_ind(*differences, equal_var=False)
    assert found.p_value == pytest.approx(test.pvalue) and found.number == "final"
    assert found.estimate.value == pytest.approx(differences[0].mean() - differences[1].mean())
    assert found.conclusion == "higher"


def test_nothing_is_concluded_before_all_declared_seeds_have_finished(played: Request) -> None:
    runs = finished(played)
    del runs[next(path for path in runs if path.name == "actfocus-seed3" and "frozenlake" in str(path))]
    found = comparisons(played.table, lines(played.table, cells(played), runs))
    by_row = {
        (one.line.cell.row.name, one.line.cell.weighting): one.conclusion for one in found if one.number == "final"
    }
    assert by_row["frozenlake", "actfocus"] == "unfinished" and by_row["sokoban", "actfocus"] == "inconclusive"
    assert [one.conclusion for one in contrasted(played.table, found)] == ["unfinished"]
    # Fewer seeds than the table declares, as --seeds may ask for.
    declared = dataclasses.replace(played.table, seeds=5)
    assert {one.conclusion for one in comparisons(declared, made(played))} == {"unfinished"}


def test_other_outcomes_are_shown_without_a_conclusion(played: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = RunResult.outcomes
    monkeypatch.setattr(RunResult, "outcomes", lambda run, name="success": stock(run))  # the runs recorded no other
    for row in played.table.rows:
        row.outcome = "purchase"
    found = comparisons(played.table, made(played))
    assert len(found) == 6 and {(one.p_value, one.conclusion) for one in found} == {(None, "no test")}


def test_the_files_say_the_same_in_words_and_numbers(played: Request, tmp_path: Path) -> None:
    written = {path.name: path for path in write_table(played, finished(played), tmp_path / "written")}
    with written["mine-cpu-comparisons.csv"].open(encoding="utf-8") as file:
        rows = {(row["environment"], row["weighting"], row["number"]): row for row in csv.DictReader(file)}
    for key, one in by_name(played).items():
        assert float(rows[key]["difference"]) == pytest.approx(one.estimate.value)
        assert float(rows[key]["p_value_corrected"]) == pytest.approx(one.corrected)
        assert (rows[key]["conclusion"], rows[key]["seeds"]) == (one.conclusion, "1 2 3")
    text = written["mine-cpu.md"].read_text(encoding="utf-8")
    final = by_name(played)["frozenlake", "actfocus", "final"]
    assert f"+43.3 [+29.0, +57.7]: higher (p = {final.corrected:.2g})" in text
    assert "| final | area |" in " ".join(text.split()) and "P(above Uniform)" in text
    assert "difference of differences" in text and "Source: Nobody 2026, stage 9." in text
    assert "peak" not in text and "-0.0" not in text
    assert not re.search(r"\|\n(?!\|)\S", text)  # a table ends with an empty line, or swallows the next one


def test_of_one_pair_of_runs_every_file_has_the_interval_over_tasks(
    make_request: MakeRequest, finish: Finish, tmp_path: Path
) -> None:
    request = make_request(DECLARED, seeds=1)
    for cell, solved in zip(cells(request), (2, 5), strict=False):
        finish(
            cell.runs[0],
            {0: {task: [0] for task in range(TASKS)}, 4: {task: [int(task < solved)] for task in range(TASKS)}},
        )
    written = {path.name: path for path in write_table(request, finished(request), tmp_path / "written")}
    (one,) = csv.DictReader(written["mine-cpu-comparisons.csv"].read_text().splitlines()[:2])
    numbers = list(csv.DictReader(written["mine-cpu.csv"].read_text().splitlines()))
    other = next(row for row in numbers if row["number"] == "difference" and row["value"])
    assert one["number"] == "final" and one["low"]
    assert (one["difference"], one["low"], one["high"]) == (other["value"], other["low"], other["high"])


def test_without_runs_everything_is_blank_and_nothing_is_pooled(make_request: MakeRequest, tmp_path: Path) -> None:
    request = make_request(DECLARED, seeds=3)
    folder = tmp_path / "written"
    folder.mkdir()
    earlier = folder / "mine-cpu-comparisons.csv"
    earlier.write_text("of a table that had runs", encoding="utf-8")
    written = {path.name: path for path in write_table(request, {}, folder)}
    text = written["mine-cpu.md"].read_text(encoding="utf-8")
    assert "P(above" not in text and "difference of differences" not in text and "nan" not in text
    # No file is empty, and none of numbers that are no longer in the table stays.
    assert set(written) == {path.name for path in folder.iterdir()} and not earlier.exists()
    assert all(path.stat().st_size for path in written.values())


def test_the_area_leaves_out_the_evaluation_before_training_alone(make_request: MakeRequest, finish: Finish) -> None:
    request = make_request(DECLARED, seeds=1)
    evaluations = {2: {0: [1], 1: [0]}, 4: {0: [1], 1: [1]}}
    first, second = (cell.runs[0] for cell in cells(request)[:2])
    finish(first, {0: {0: [0], 1: [0]}, **evaluations})
    finish(second, evaluations, settings={"trainer.val_before_train": False})
    areas = [line.second.value for line in made(request) if line.second is not None]
    assert areas == [pytest.approx(0.75)] * 2
