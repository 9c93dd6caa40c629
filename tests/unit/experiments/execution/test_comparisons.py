"""A comparison trains the right runs under the same conditions, and each of them once."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus.experiments.execution.launcher import Failure, launch, plan
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.runs.estimators import EstimatorChoice
from verl_actfocus.experiments.runs.run import Conditions, Run
from verl_actfocus.experiments.runs.weightings import WeightingChoice
from verl_actfocus.storage.errors import ExperimentError, RunFailedError

pytestmark = pytest.mark.usefixtures("trainer")


def runs(out: Path, *weightings: str, seeds: int = 1, estimators: Sequence[str] = (), **values: Any) -> list[Run]:
    conditions = Conditions(
        **{"profile": "cpu_frozenlake", "algorithm": "grpo", "steps": 2, "folder": out / "c", **values}
    )
    chosen = weightings or ("uniform", "actfocus")
    others = [EstimatorChoice.parse(text) for text in estimators]
    return conditions.runs([WeightingChoice.parse(text) for text in chosen], range(seeds), others)


def compare(out: Path, *weightings: str, stream: io.StringIO | None = None, **values: Any) -> list[Failure]:
    return launch(plan(runs(out, *weightings, **values)), stream or io.StringIO(), keep_going=False)


def times_trained(folder: Path) -> int:
    path = folder / "trained"
    return path.read_text().count("once") if path.exists() else 0


def test_the_weightings_of_one_seed_stand_next_to_each_other(tmp_path: Path) -> None:
    titles = [run.title for run in runs(tmp_path, seeds=2)]
    assert titles == ["c/uniform-seed0", "c/actfocus-seed0", "c/uniform-seed1", "c/actfocus-seed1"]


def test_every_run_is_trained_once_and_seeds_can_be_added(tmp_path: Path) -> None:
    stream = io.StringIO()
    assert compare(tmp_path, stream=stream) == compare(tmp_path, stream=stream, seeds=2) == []
    folders = [tmp_path / "c" / name for name in ("uniform-seed0", "actfocus-seed0", "uniform-seed1", "actfocus-seed1")]
    assert [times_trained(folder) for folder in folders] == [1, 1, 1, 1]
    lines = stream.getvalue().splitlines()
    assert any(line.startswith("[1/2] c/uniform-seed0  done in") for line in lines)
    assert "[1/4] c/uniform-seed0  finished before: evaluation success 0.0% -> 100.0% (step 2)" in lines
    assert "[4/4] c/actfocus-seed1" in lines[-1]


def test_settings_of_one_weighting_are_compared_each_in_a_folder_of_its_own(tmp_path: Path) -> None:
    compare(tmp_path, "uniform", "actfocus", "actfocus alpha=0.30", "turn_balanced")
    assert {path.parent.name for path in tmp_path.glob("c/*/done.json")} == {
        "uniform-seed0",
        "actfocus-seed0",
        "actfocus-alpha=0.3-seed0",
        "turn_balanced-seed0",
    }


def test_estimators_can_be_added_to_finished_runs_which_keep_their_names(tmp_path: Path) -> None:
    compare(tmp_path, "uniform")
    compare(tmp_path, "uniform", "actfocus", estimators=["grpo", "gigpo", "gigpo omega=0.50"])
    folders = {path.parent.name: path.parent for path in tmp_path.glob("c/*/done.json")}
    methods = {"uniform", "actfocus"} | {
        f"{weighting}-{estimator}"
        for weighting in ("uniform", "actfocus")
        for estimator in ("gigpo", "gigpo-omega=0.5")
    }
    assert folders.keys() == {f"{method}-seed0" for method in methods}
    assert all(times_trained(folder) == 1 for folder in folders.values())
    identities = {name: RunFolder(folder).identity for name, folder in folders.items()}
    assert "estimator" not in identities["uniform-seed0"]
    assert identities["uniform-gigpo-omega=0.5-seed0"]["estimator"] == "gigpo omega=0.5"


def test_one_weighting_under_two_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"'actfocus' and 'actfocus alpha=0.1' are the same weighting"):
        compare(tmp_path, "actfocus", "actfocus alpha=0.1")


def test_a_finished_run_is_neither_locked_nor_run_again(tmp_path: Path) -> None:
    compare(tmp_path, "uniform")
    (tmp_path / "c/uniform-seed0/.lock").unlink()
    compare(tmp_path, "uniform")
    assert not (tmp_path / "c/uniform-seed0/.lock").exists()
    assert times_trained(tmp_path / "c/uniform-seed0") == 1


def test_a_failure_stops_the_comparison_and_the_same_call_continues_it(
    tmp_path: Path, trainer: dict[str, bool]
) -> None:
    trainer["dies"] = True
    (failure,) = compare(tmp_path, "actfocus", "uniform")
    assert isinstance(failure.error, RunFailedError) and "MemoryError: the trainer dies" in str(failure.error)
    assert not (tmp_path / "c/uniform-seed0").exists()
    trainer["dies"] = False
    assert compare(tmp_path, "actfocus", "uniform") == []
    assert [times_trained(tmp_path / "c" / name) for name in ("uniform-seed0", "actfocus-seed0")] == [1, 1]
    assert (tmp_path / "c/actfocus-seed0/metrics-2.jsonl").exists()


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
    compare(tmp_path, "uniform", **conditions)
    with pytest.raises(ExperimentError, match="choose another --out") as error:
        compare(tmp_path, "actfocus", **{**conditions, **change})
    assert words in str(error.value)
    assert not (tmp_path / "c/actfocus-seed0").exists()


def test_runs_of_one_weighting_with_other_weights_are_not_averaged(tmp_path: Path) -> None:
    """As after an update of the package that changes a default."""
    compare(tmp_path, "actfocus", seeds=2)
    shutil.rmtree(tmp_path / "c/actfocus-seed0")
    path = tmp_path / "c/actfocus-seed1/run.json"
    path.write_text(path.read_text().replace('weighting.alpha": 0.1', 'weighting.alpha": 0.3'))
    with pytest.raises(ExperimentError, match=r"actfocus-seed0 .*actfocus-seed1.*alpha was 0\.3, is 0\.1") as error:
        compare(tmp_path, "actfocus")
    assert "delete the folder" in str(error.value)
    assert not (tmp_path / "c/actfocus-seed0").exists()
    # The other weighting may have weights of its own.
    assert compare(tmp_path, "uniform") == []


@pytest.mark.parametrize(
    ("weightings", "change", "words"),
    [
        (("uniform",), {"seeds": 0}, "0 seeds"),
        (("uniform", "uniform"), {}, "named twice"),
        (("actfocus alpha=0.3", "actfocus alpha=0.30"), {}, "named twice"),
        (("uniform", "best"), {}, "'best' is not a weighting; choose one of .*actfocus"),
        (("uniform alpha=0.3",), {}, "alpha"),
        (("actfocus alpha=3",), {}, r"alpha=3 must lie in \[0, 1\]"),
        (("actfocus", "actfocus 0.3"), {}, "'actfocus 0.3' is not a weighting such as"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, weightings: tuple[str, ...], change: dict[str, Any], words: str
) -> None:
    with pytest.raises((ValueError, ExperimentError), match=words):
        compare(tmp_path, *weightings, **change)
    assert list(tmp_path.iterdir()) == []
