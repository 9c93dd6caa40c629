"""The grid trains what is missing, resumes what died, and goes on when a run fails."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from verl_actfocus.experiments.execution.launcher import Failure, launch, plan
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.runs.composed_run import compose_run
from verl_actfocus.experiments.runs.run import Run
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import locked

MakeRequest = Callable[..., Request]
pytestmark = pytest.mark.usefixtures("trainer")


def train(runs: list[Run], stream: io.StringIO, **options: bool) -> list[Failure]:
    return launch(plan(runs), stream, **options)


def state(run: Run) -> str:
    (planned,) = plan([run])
    return planned.state()


def test_a_failed_run_is_reported_the_others_go_on_and_the_same_call_tries_it_again(
    make_request: MakeRequest, trainer: dict[str, bool]
) -> None:
    runs = distinct_runs(cells(make_request(seeds=1)))
    trainer["dies"] = True
    stream = io.StringIO()
    failures = train(runs, stream)
    assert [failure.run.title for failure in failures] == [
        "frozenlake-grpo/actfocus-seed1",
        "sokoban-grpo/actfocus-seed1",
    ]
    assert [state(run) for run in runs] == ["done", "begun, step 1 of 4"] * 2
    assert "[2/4] frozenlake-grpo/actfocus-seed1  FAILED: " in stream.getvalue()
    assert "MemoryError" in stream.getvalue()
    trainer["dies"] = False
    assert train(runs, io.StringIO()) == []
    assert [state(run) for run in runs] == ["done"] * 4
    # A run that was done is not run again; one that died is.
    assert [(run.folder / "trained").read_text() for run in runs] == ["once\n"] * 4
    assert [len(list(run.folder.glob("attempt-*.json"))) for run in runs] == [1, 2, 1, 2]


def test_a_run_that_is_in_use_or_cannot_be_read_is_reported_and_the_others_go_on(make_request: MakeRequest) -> None:
    runs = distinct_runs(cells(make_request(seeds=1)))
    train(runs[:1], io.StringIO())
    metrics = runs[0].folder / "metrics-1.jsonl"
    metrics.write_text("oops\n" + metrics.read_text())
    with locked(runs[1].folder):
        failures = train(runs, io.StringIO())
    assert [failure.run for failure in failures] == runs[:2]
    assert "metrics-1.jsonl, line 1: not a metrics record" in str(failures[0].error)
    assert "in use by another command" in str(failures[1].error)
    assert [state(run) for run in runs[1:]] == ["to do", "done", "done"]


def test_a_run_whose_folder_cannot_be_made_is_reported_and_the_others_go_on(make_request: MakeRequest) -> None:
    runs = distinct_runs(cells(make_request(seeds=1)))
    planned = plan(runs)
    runs[0].folder.parent.mkdir(parents=True)
    runs[0].folder.symlink_to("nowhere/at/all")  # of a disk that is not mounted any more
    stream = io.StringIO()
    failures = launch(planned, stream)
    assert [failure.run for failure in failures] == runs[:1]
    said = r"FAILED: frozenlake-grpo/uniform-seed1 cannot be trained in .*: \[Errno .*; once that is mended, the same"
    assert re.search(said, stream.getvalue())
    assert [state(run) for run in runs[1:]] == ["done"] * 3


def test_a_damaged_record_is_refused_before_anything_is_trained(make_request: MakeRequest) -> None:
    runs = distinct_runs(cells(make_request(seeds=1)))
    train(runs[2:3], io.StringIO())
    (runs[2].folder / "done.json").write_text("{")
    with pytest.raises(ExperimentError, match=r"sokoban-grpo/uniform-seed1/done\.json cannot be read"):
        train(runs, io.StringIO())
    assert not runs[0].folder.exists()


def test_a_run_killed_within_its_first_line_of_metrics_has_begun(make_request: MakeRequest) -> None:
    (run,) = distinct_runs(cells(make_request(seeds=1, only=("sokoban", "uniform"))))
    folder = RunFolder(run.folder)
    folder.claim(compose_run(run))
    folder.metrics(1).write_text('{"step": 0, "da')
    assert state(run) == "begun"


def checkpoint(run: Run) -> Path:
    """What veRL leaves of a run."""
    path = run.folder / "checkpoints/global_step_4/actor/model.pt"
    path.parent.mkdir(parents=True)
    path.write_text("weights")
    return path


def test_checkpoints_of_finished_runs_are_deleted_if_asked_for_and_no_others(
    make_request: MakeRequest, trainer: dict[str, bool]
) -> None:
    runs = distinct_runs(cells(make_request(seeds=1, only=("sokoban",))))
    uniform, actfocus = runs
    train([uniform], io.StringIO())
    trainer["dies"] = True
    train(runs, io.StringIO())
    checkpoints = [checkpoint(run) for run in runs]
    train(runs, io.StringIO())
    assert [path.exists() for path in checkpoints] == [True, True]
    train(runs, io.StringIO(), when_done=RunFolder.delete_checkpoints)
    assert [path.exists() for path in checkpoints] == [False, True]
    trainer["dies"] = False
    assert train(runs, io.StringIO(), when_done=RunFolder.delete_checkpoints) == []
    assert not (actfocus.folder / "checkpoints").exists()
    with pytest.raises(ExperimentError, match="is not finished"):
        RunFolder(runs[0].folder / "elsewhere").delete_checkpoints()


def test_more_seeds_train_only_the_new_ones(make_request: MakeRequest) -> None:
    train(distinct_runs(cells(make_request(seeds=1, only=("sokoban",)))), io.StringIO())
    stream = io.StringIO()
    runs = distinct_runs(cells(make_request(seeds=2, only=("sokoban",))))
    train(runs, stream)
    assert stream.getvalue().count("finished before") == 2
    assert [len(list(run.folder.glob("attempt-*.json"))) for run in runs] == [1, 1, 1, 1]


def test_runs_made_under_other_settings_are_refused_before_anything_is_trained(make_request: MakeRequest) -> None:
    train(distinct_runs(cells(make_request(seeds=1, only=("sokoban",)))), io.StringIO())
    other = distinct_runs(cells(make_request(seeds=1, extra=("trainer.test_freq=2",))))
    with pytest.raises(ExperimentError, match=r"trainer\.test_freq was 10, is 2|trainer\.test_freq was 2, is 10"):
        train(other, io.StringIO())
    assert [state(run) for run in other if run.conditions.env == "frozenlake"] == ["to do", "to do"]
    with pytest.raises(ExperimentError, match=r"sokoban-grpo/uniform-seed1 was made with other settings"):
        state(next(run for run in other if run.conditions.env == "sokoban"))
