"""The report's sentences follow the numbers, whichever way they fall."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from verl_actfocus.experiments.report.summary import Difference, Summary, points, summarise, with_interval
from verl_actfocus.experiments.results.run_result import read_runs
from verl_actfocus.experiments.results.statistics import Estimate
from verl_actfocus.storage.errors import ExperimentError

RecordRun = Callable[..., Path]
TASKS = 40


def outcomes(solved: int, shift: int = 0) -> dict[int, list[int]]:
    """Two episodes on each of 40 tasks, `solved` tasks of them solved from task `shift` on."""
    chosen = {(shift + n) % TASKS for n in range(solved)}
    return {task: [int(task in chosen)] * 2 for task in range(TASKS)}


def record(out: Path, record_run: RecordRun, uniform: tuple[int, int], actfocus: tuple[int, int]) -> Summary:
    """Runs whose start and final evaluations solve these many tasks."""
    for weighting, (start, final) in {"uniform": uniform, "actfocus": actfocus}.items():
        shift = 3 if weighting == "actfocus" else 0
        record_run(out, weighting, 0, {0: outcomes(start), 2: outcomes(final, shift)})
    return summarise(read_runs(out))


def test_the_baseline_stands_first_and_the_numbers_are_those_of_the_runs(tmp_path: Path, record_run: RecordRun) -> None:
    summary = record(tmp_path, record_run, uniform=(10, 20), actfocus=(10, 30))
    assert [one.weighting.name for one in summary.weightings] == ["uniform", "actfocus"]
    uniform, actfocus = summary.weightings
    assert (uniform.start.value, uniform.final.value) == (0.25, 0.5)
    assert (actfocus.final.value, actfocus.peak_steps) == (0.75, [2])
    assert [d.estimate.value for d in summary.differences] == [0.25]


def test_better_is_called_better_and_one_seed_is_called_one_seed(tmp_path: Path, record_run: RecordRun) -> None:
    (difference,) = record(tmp_path, record_run, uniform=(10, 12), actfocus=(10, 38)).differences
    assert "+65.0 points" in difference.sentence and "ActFocus did better than Uniform" in difference.sentence
    assert "One training seed" in difference.scope and "not how much a repeated training run" in difference.scope


def test_worse_is_called_worse(tmp_path: Path, record_run: RecordRun) -> None:
    (difference,) = record(tmp_path, record_run, uniform=(10, 38), actfocus=(10, 12)).differences
    assert "-65.0 points" in difference.sentence and "ActFocus did worse than Uniform" in difference.sentence


def test_too_close_is_called_too_close(tmp_path: Path, record_run: RecordRun) -> None:
    (difference,) = record(tmp_path, record_run, uniform=(10, 20), actfocus=(10, 21)).differences
    assert "includes zero" in difference.sentence and "inconclusive between ActFocus and Uniform" in difference.sentence


def test_a_product_is_read_row_by_row_each_weighting_against_the_baseline_under_its_estimator(
    tmp_path: Path, record_run: RecordRun
) -> None:
    for estimator, finals in {"gigpo": (12, 20), "": (10, 30)}.items():
        for weighting, final in zip(("actfocus", "uniform"), finals, strict=True):
            record_run(tmp_path, weighting, 0, {0: outcomes(5), 2: outcomes(final)}, estimator=estimator)
    summary = summarise(read_runs(tmp_path))
    assert [one.label for one in summary.weightings] == [
        "Uniform, GRPO",
        "ActFocus, GRPO",
        "Uniform, GiGPO",
        "ActFocus, GiGPO",
    ]
    assert [(d.method, d.baseline, round(40 * d.estimate.value)) for d in summary.differences] == [
        ("ActFocus, GRPO", "Uniform, GRPO", -20),
        ("Uniform, GiGPO", "Uniform, GRPO", -10),
        ("ActFocus, GiGPO", "Uniform, GiGPO", -8),
    ]


def test_an_estimator_of_its_own_is_named_also_where_all_runs_have_it(tmp_path: Path, record_run: RecordRun) -> None:
    for weighting in ("uniform", "actfocus"):
        record_run(tmp_path, weighting, 0, {0: outcomes(5), 2: outcomes(9)}, estimator="gigpo")
    summary = summarise(read_runs(tmp_path))
    assert [one.label for one in summary.weightings] == ["Uniform, GiGPO", "ActFocus, GiGPO"]
    (difference,) = summary.differences
    assert (difference.method, difference.baseline) == ("ActFocus, GiGPO", "Uniform, GiGPO")


def test_a_difference_without_an_interval_says_so() -> None:
    difference = Difference("ActFocus", "Uniform", [0], Estimate(0.0, None, "no interval: equal on every task"))
    assert "no interval: equal on every task" in difference.sentence
    assert "Nothing can be said" in difference.sentence


def test_whether_training_worked_is_said_for_every_weighting(tmp_path: Path, record_run: RecordRun) -> None:
    summary = record(tmp_path, record_run, uniform=(10, 11), actfocus=(10, 30))
    uniform, actfocus = summary.weightings
    assert not uniform.worked and "not shown to have worked" in uniform.sentence
    assert actfocus.worked and "training worked" in actfocus.sentence
    assert "from 25.0 % to 75.0 %" in actfocus.sentence


def test_training_that_harms_is_said_to_harm(tmp_path: Path, record_run: RecordRun) -> None:
    summary = record(tmp_path, record_run, uniform=(30, 5), actfocus=(10, 30))
    assert "training made it worse" in summary.weightings[0].sentence and not summary.weightings[0].worked


def test_several_seeds_are_compared_where_both_weightings_have_them(tmp_path: Path, record_run: RecordRun) -> None:
    for seed, (uniform, actfocus) in enumerate([(10, 18), (12, 22), (14, 24)]):
        record_run(tmp_path, "uniform", seed, {0: outcomes(4), 2: outcomes(uniform)})
        record_run(tmp_path, "actfocus", seed, {0: outcomes(4), 2: outcomes(actfocus)})
    record_run(tmp_path, "actfocus", 9, {0: outcomes(4), 2: outcomes(40)})
    (difference,) = summarise(read_runs(tmp_path)).differences
    assert difference.seeds == [0, 1, 2]
    # (8 + 10 + 10) / 3 of 40 tasks.
    assert difference.estimate.value == pytest.approx(28 / 3 / 40)
    assert "3 training seeds" in difference.scope and "between training runs" in difference.scope


def test_unfinished_runs_are_named_and_not_counted(tmp_path: Path, record_run: RecordRun) -> None:
    record_run(tmp_path, "uniform", 0, {0: outcomes(10), 2: outcomes(20)})
    record_run(tmp_path, "actfocus", 0, {0: outcomes(10), 2: outcomes(20)}, done=False)
    summary = summarise(read_runs(tmp_path))
    assert [run.weighting.name for run in summary.runs] == ["uniform"]
    assert [run.weighting.name for run in summary.unfinished] == ["actfocus"]
    assert summary.differences == []


def test_nothing_finished_is_an_error(tmp_path: Path, record_run: RecordRun) -> None:
    record_run(tmp_path, "uniform", 0, {0: outcomes(10)}, done=False)
    with pytest.raises(ExperimentError, match=r"no run has finished yet \(uniform-seed0\)"):
        summarise(read_runs(tmp_path))


def test_estimates_are_written_with_their_intervals() -> None:
    assert with_interval(Estimate(0.5, (0.4, 0.61), "")) == "50.0 % [40.0, 61.0]"
    assert with_interval(Estimate(0.5, None, "")) == "50.0 %"
    assert points(Estimate(-0.05, (-0.1, 0.0), "")) == "-5.0 [-10.0, +0.0]"
    assert points(Estimate(0.0, None, "")) == "+0.0"
