"""The grid trains what is missing, resumes what died, and goes on when a run fails."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from verl_actfocus.experiment.errors import ExperimentError
from verl_actfocus.reproduction.grid import Request, cells, distinct_runs
from verl_actfocus.reproduction.training import state, title, train

MakeRequest = Callable[..., Request]
pytestmark = pytest.mark.usefixtures("trainer")


def test_a_failed_run_is_reported_the_others_go_on_and_the_same_call_tries_it_again(
    make_request: MakeRequest, trainer: dict[str, bool]
) -> None:
    runs = distinct_runs(cells(make_request(seeds=1)))
    trainer["dies"] = True
    stream = io.StringIO()
    failures = train(runs, stream)
    assert [title(failure.run) for failure in failures] == [
        "frozenlake-grpo/actfocus-seed1",
        "sokoban-grpo/actfocus-seed1",
    ]
    assert [state(run) for run in runs] == ["done", "begun, step 1 of 4"] * 2
    assert "[2/4] frozenlake-grpo/actfocus-seed1  FAILED, going on" in stream.getvalue()
    assert "MemoryError" in stream.getvalue()
    trainer["dies"] = False
    assert train(runs, io.StringIO()) == []
    assert [state(run) for run in runs] == ["done"] * 4
    # A run that was done is not run again; one that died is.
    assert [(run.folder / "trained").read_text() for run in runs] == ["once\n"] * 4
    assert [len(list(run.folder.glob("attempt-*.json"))) for run in runs] == [1, 2, 1, 2]


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
    assert [state(run) for run in other if run.env == "frozenlake"] == ["to do", "to do"]
