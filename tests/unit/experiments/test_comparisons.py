"""A comparison trains the right runs under the same conditions, and each of them once."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from verl_actfocus.experiments.comparison import Comparison, run_comparison

from verl_actfocus.experiments.errors import ExperimentError, RunFailedError

pytestmark = pytest.mark.usefixtures("trainer")


def make(out: Path, **values: Any) -> Comparison:
    defaults: dict[str, Any] = {"algorithm": "grpo", "env": "frozenlake", "steps": 2, "seeds": 1}
    return Comparison(**{**defaults, "methods": ("uniform", "actfocus"), "out": out, **values})


def times_trained(folder: Path) -> int:
    path = folder / "trained"
    return path.read_text().count("once") if path.exists() else 0


def test_the_methods_of_one_seed_stand_next_to_each_other(tmp_path: Path) -> None:
    names = [run.name for run in make(tmp_path, seeds=2).runs()]
    assert names == ["grpo uniform seed 0", "grpo actfocus seed 0", "grpo uniform seed 1", "grpo actfocus seed 1"]


def test_every_run_is_trained_once_and_seeds_can_be_added(tmp_path: Path) -> None:
    stream = io.StringIO()
    run_comparison(make(tmp_path), stream)
    run_comparison(make(tmp_path, seeds=2), stream)
    folders = [tmp_path / name for name in ("uniform-seed0", "actfocus-seed0", "uniform-seed1", "actfocus-seed1")]
    assert [times_trained(folder) for folder in folders] == [1, 1, 1, 1]
    lines = stream.getvalue().splitlines()
    assert any(line.startswith("[1/2] grpo uniform seed 0  done in") for line in lines)
    assert "[1/4] grpo uniform seed 0  finished before: evaluation success 0.0% -> 100.0% (step 2)" in lines
    assert "[4/4] grpo actfocus seed 1" in lines[-1]


def test_a_failure_stops_the_comparison_and_the_same_call_continues_it(
    tmp_path: Path, trainer: dict[str, bool]
) -> None:
    trainer["dies"] = True
    with pytest.raises(RunFailedError, match="MemoryError: the trainer dies"):
        run_comparison(make(tmp_path), io.StringIO())
    trainer["dies"] = False
    run_comparison(make(tmp_path), io.StringIO())
    assert times_trained(tmp_path / "uniform-seed0") == 1
    assert times_trained(tmp_path / "actfocus-seed0") == 1
    assert (tmp_path / "actfocus-seed0/metrics-2.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 3}, "trainer.total_training_steps was 2, is 3"),
        ({"algorithm": "ppo"}, "algorithm.adv_estimator was 'actfocus_grpo', is 'actfocus_gae'"),
        ({"extra": ("data.train_batch_size=8",)}, "data.train_batch_size was 24, is 8"),
    ],
)
def test_a_folder_made_under_other_conditions_is_refused_before_training(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    conditions = {"extra": ("data.train_batch_size=24",)}
    run_comparison(make(tmp_path, methods=("uniform",), **conditions), io.StringIO())
    with pytest.raises(ExperimentError, match="choose another --out") as error:
        run_comparison(make(tmp_path, methods=("actfocus",), **{**conditions, **change}), io.StringIO())
    assert words in str(error.value)
    assert not (tmp_path / "actfocus-seed0").exists()


def test_runs_of_one_method_with_other_weights_are_not_averaged(tmp_path: Path) -> None:
    run_comparison(make(tmp_path, seeds=2, methods=("actfocus",)), io.StringIO())
    shutil.rmtree(tmp_path / "actfocus-seed0")
    with pytest.raises(ExperimentError, match=r"actfocus seed 0 .*actfocus-seed1.*alpha was 0\.1, is 0\.3") as error:
        run_comparison(make(tmp_path, methods=("actfocus",), extra=("algorithm.actfocus.alpha=0.3",)), io.StringIO())
    assert "delete the folder" in str(error.value)
    assert not (tmp_path / "actfocus-seed0").exists()
    # The other method may have weights of its own.
    run_comparison(make(tmp_path, methods=("uniform",)), io.StringIO())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": 0}, "0 seeds"),
        ({"methods": ()}, "no methods"),
        ({"methods": ("uniform", "uniform")}, "named twice"),
        ({"methods": ("uniform", "best")}, "unknown method 'best'"),
        ({"env": "chess"}, "'chess'"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(tmp_path, **change)
