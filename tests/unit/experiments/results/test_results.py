"""What a run has left on disk is read back as it was, and contradictions are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from verl_actfocus.experiments.results.run_result import RunResult, read_runs
from verl_actfocus.storage.errors import ExperimentError

RecordRun = Callable[..., Path]
#: Task → outcomes of its episodes, at steps 0, 10 and 20.
CURVE = {
    0: {0: [0, 0], 1: [1, 0], 2: [0, 0]},
    10: {0: [1, 1], 1: [1, 1], 2: [1, 0]},
    20: {0: [1, 1], 1: [1, 0], 2: [0, 0]},
}


def test_the_curve_has_start_peak_and_final(tmp_path: Path, record_run: RecordRun) -> None:
    run = RunResult.read(record_run(tmp_path, "actfocus", 3, CURVE))
    assert (run.weighting.name, run.seed) == ("actfocus", 3)
    assert [(e.step, e.success) for e in run.evaluations] == [(0, 1 / 6), (10, 5 / 6), (20, 3 / 6)]
    assert (run.start.step, run.peak.step, run.final.step) == (0, 10, 20)


def test_outcomes_are_counted_by_task(tmp_path: Path, record_run: RecordRun) -> None:
    outcomes = RunResult.read(record_run(tmp_path, "actfocus", 0, CURVE)).evaluations[1].outcomes
    assert outcomes.tasks.tolist() == [0, 1, 2]
    assert outcomes.successes.tolist() == [2, 2, 1]
    assert outcomes.episodes.tolist() == [2, 2, 2]
    assert outcomes.rate == pytest.approx(5 / 6)


def test_series_and_wall_times_come_from_the_metrics(tmp_path: Path, record_run: RecordRun) -> None:
    run = RunResult.read(record_run(tmp_path, "uniform", 0, CURVE))
    steps, lengths = run.series("rollout/response_length")
    assert steps == list(range(1, 21)) and lengths[0] == 89.0
    assert run.phase_seconds() == {
        "gen": [2.0] * 20,
        "ref": [0.5] * 20,
        "update_actor": [1.5] * 20,
        "step": [4.25] * 20,
    }


def test_episodes_that_contradict_the_metrics_are_refused(tmp_path: Path, record_run: RecordRun) -> None:
    folder = record_run(tmp_path, "uniform", 0, CURVE)
    source, target = folder / "evaluations/10.jsonl", folder / "evaluations/20.jsonl"
    target.write_text(source.read_text())
    with pytest.raises(ExperimentError, match=r"step 20 say success 0\.5000.*say 0\.8333"):
        _ = RunResult.read(folder).evaluations


def test_a_missing_or_malformed_evaluation_is_named(tmp_path: Path, record_run: RecordRun) -> None:
    folder = record_run(tmp_path, "uniform", 0, CURVE)
    (folder / "evaluations/20.jsonl").write_text('{"success": 1}\n')
    with pytest.raises(ExperimentError, match=r"20\.jsonl, line 1"):
        _ = RunResult.read(folder).evaluations
    (folder / "evaluations/20.jsonl").write_text("")
    with pytest.raises(ExperimentError, match=r"20\.jsonl holds no episodes"):
        _ = RunResult.read(folder).evaluations
    (folder / "evaluations/20.jsonl").unlink()
    with pytest.raises(ExperimentError, match=r"20\.jsonl is missing"):
        _ = RunResult.read(folder).evaluations


def test_a_response_with_unicode_line_separators_is_one_line(tmp_path: Path, record_run: RecordRun) -> None:
    """veRL writes responses as they are; Unicode ends lines at characters that JSON leaves within strings."""
    path = record_run(tmp_path, "uniform", 0, CURVE) / "evaluations/20.jsonl"
    episodes = [
        {**json.loads(line), "output": "a\u0085b\u2028c\u2029d"} for line in path.read_text().split("\n") if line
    ]
    text = "".join(json.dumps(episode, ensure_ascii=False) + "\n" for episode in episodes)
    path.write_text(text, encoding="utf-8")
    assert RunResult.read(path.parent.parent).final.outcomes.successes.tolist() == [2, 1, 0]


def test_runs_are_read_by_weighting_and_seed(tmp_path: Path, record_run: RecordRun) -> None:
    for weighting, seed in [("uniform", 1), ("actfocus", 10), ("actfocus", 2), ("uniform", 0)]:
        record_run(tmp_path, weighting, seed, CURVE)
    found = [(run.weighting.name, run.seed) for run in read_runs(tmp_path)]
    assert found == [("actfocus", 2), ("actfocus", 10), ("uniform", 0), ("uniform", 1)]


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="holds no runs"):
        read_runs(tmp_path)
    with pytest.raises(ExperimentError, match=r"no run\.json"):
        RunResult.read(tmp_path)


def lose(path: Path, kept: Callable[[int], bool]) -> None:
    """Drop lines of a file; `kept` gets their positions, from 0 on."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for position, line in enumerate(lines) if kept(position)))


def test_a_finished_run_that_lost_its_last_evaluation_is_refused(tmp_path: Path, record_run: RecordRun) -> None:
    folder = record_run(tmp_path, "uniform", 0, CURVE)
    lose(folder / "metrics-1.jsonl", lambda step: step < 20)
    with pytest.raises(
        ExperimentError, match=r"uniform-seed0 is finished.*no evaluation of step 20.*Delete done\.json"
    ):
        _ = RunResult.read(folder).final


def test_a_finished_run_that_lost_its_first_evaluation_is_refused(tmp_path: Path, record_run: RecordRun) -> None:
    folder = record_run(tmp_path, "uniform", 0, CURVE)
    lose(folder / "metrics-1.jsonl", lambda step: step > 0)
    with pytest.raises(ExperimentError, match=r"no evaluation of step 0.*Delete the folder"):
        _ = RunResult.read(folder).start


def test_a_run_that_was_not_evaluated_before_training_starts_at_its_first_evaluation(
    tmp_path: Path, record_run: RecordRun
) -> None:
    folder = record_run(tmp_path, "uniform", 0, CURVE, settings={"trainer.val_before_train": False})
    lose(folder / "metrics-1.jsonl", lambda step: step > 0)
    assert RunResult.read(folder).start.step == 10


def test_a_success_that_is_no_number_contradicts_the_episodes(tmp_path: Path, record_run: RecordRun) -> None:
    path = record_run(tmp_path, "uniform", 0, CURVE) / "metrics-1.jsonl"
    path.write_text(path.read_text().replace('"val/success": 0.5', '"val/success": NaN'))
    with pytest.raises(ExperimentError, match=r"step 20 say success nan.*say 0\.5000"):
        _ = RunResult.read(path.parent).evaluations


@pytest.mark.parametrize("value", [math.nan, 0.5, None, "no"])
def test_an_episode_is_solved_or_not(tmp_path: Path, record_run: RecordRun, value: object) -> None:
    folder = record_run(tmp_path, "uniform", 0, CURVE)
    with (folder / "evaluations/20.jsonl").open("a") as file:
        file.write(json.dumps({"seed": 2, "success": value}) + "\n")
    with pytest.raises(ExperimentError, match=r"20\.jsonl, line 7: not an evaluation episode with 'success'"):
        _ = RunResult.read(folder).evaluations


def test_an_evaluation_that_lost_episodes_is_refused_though_its_rate_is_right(
    tmp_path: Path, record_run: RecordRun
) -> None:
    folder = record_run(tmp_path, "uniform", 0, CURVE)
    # Outcomes 1, 1, 1, 0, 0, 0: without the first and the last, the rate is the same.
    lose(folder / "evaluations/20.jsonl", lambda position: 0 < position < 5)
    with pytest.raises(ExperimentError, match=r"success 0\.5000 in 6 episodes.*say 0\.5000 in 4"):
        _ = RunResult.read(folder).evaluations


def test_steps_between_a_checkpoint_and_its_metrics_are_known_to_be_missing(
    tmp_path: Path, record_run: RecordRun
) -> None:
    """Killed twice behind a checkpoint: the next attempt evaluates the step again and trains on."""
    folder = record_run(tmp_path, "uniform", 0, CURVE)
    records = [json.loads(line) for line in (folder / "metrics-1.jsonl").read_text().splitlines()]
    evaluated = {step: {k: v for k, v in records[step]["data"].items() if k.startswith("val/")} for step in (10, 15)}
    attempts = [records[:10], [{"step": 10, "data": evaluated[10]}, *records[11:15]], [*records[16:]]]
    for number, attempt in enumerate(attempts, start=1):
        (folder / f"metrics-{number}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in attempt))
    run = RunResult.read(folder)
    assert run.unrecorded_steps == [10, 15]
    assert [evaluation.step for evaluation in run.evaluations] == [0, 10, 20]


def test_metrics_of_resumed_attempts_are_merged(tmp_path: Path, record_run: RecordRun) -> None:
    folder = record_run(tmp_path, "uniform", 0, CURVE)
    lines = (folder / "metrics-1.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics-1.jsonl").write_text("".join(lines[:15]))
    repeated = [json.loads(line) for line in lines[10:]]
    (folder / "metrics-2.jsonl").write_text("".join(json.dumps(record) + "\n" for record in repeated))
    assert RunResult.read(folder).phase_seconds()["step"] == [4.25] * 20
