"""A weighting, estimator or environment of the user's own that has changed since is not taken for the one before."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest

from verl_actfocus.estimators import ESTIMATORS
from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.experiments.execution.training import execute
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.runs.composed_run import compose_run
from verl_actfocus.experiments.runs.estimators import EstimatorChoice
from verl_actfocus.experiments.runs.own_code import fingerprint, require_unchanged
from verl_actfocus.experiments.runs.run import Conditions, Run
from verl_actfocus.experiments.runs.weightings import BASELINE, WeightingChoice
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.weighting import WEIGHTINGS

WEIGHTING = """
from dataclasses import dataclass
from verl_actfocus.weighting import TokenBatch, Weighting, register_weighting

@register_weighting
@dataclass(frozen=True, kw_only=True)
class Late(Weighting):
    name = "late"
    factor: float = 2.0

    def weights(self, batch):
        return batch.response_mask.float() * self.factor
"""
ESTIMATOR = """
from verl_actfocus.estimators import GRPO, register_estimator

@register_estimator
class Mine(GRPO):
    name = "mine"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of the user's that holds a weighting and an estimator, imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "schemes_of_a_user.py"
    path.write_text(WEIGHTING + ESTIMATOR)
    invalidate_caches()
    __import__(path.stem)
    yield path
    WEIGHTINGS.pop("late")
    ESTIMATORS.pop("mine")
    sys.modules.pop(path.stem)


def a_run(folder: Path, weighting: WeightingChoice = BASELINE, estimator: str = "grpo") -> Run:
    conditions = Conditions(profile="cpu_frozenlake", algorithm="grpo", folder=folder)
    return Run(conditions=conditions, weighting=weighting, other_estimator=EstimatorChoice.parse(estimator), seed=0)


@pytest.mark.parametrize(
    ("weighting", "estimator", "key"),
    [
        (WeightingChoice("late"), "grpo", "algorithm.actfocus.weighting"),
        (BASELINE, "mine", "algorithm.actfocus.estimator"),
    ],
)
def test_a_run_of_other_code_is_refused_by_name_and_the_baseline_is_not(
    weighting: WeightingChoice, estimator: str, key: str, module: Path, tmp_path: Path
) -> None:
    own, baseline = a_run(tmp_path / "own", weighting, estimator), a_run(tmp_path / "baseline")
    for run in (own, baseline):
        RunFolder(run.folder).claim(compose_run(run))
        (run.folder / "metrics-1.jsonl").write_text('{"step": 0, "data": {}}\n')
    module.write_bytes((WEIGHTING + ESTIMATOR).replace("\n", "\r\n").encode())
    RunFolder(own.folder).check(compose_run(own))
    module.write_text(WEIGHTING.replace("2.0", "3.0") + ESTIMATOR)
    with pytest.raises(
        ExperimentError, match=rf"made with other settings \({key}\.\(code\) was '[0-9a-f]{{12}}', is '"
    ):
        RunFolder(own.folder).check(compose_run(own))
    RunFolder(baseline.folder).check(compose_run(baseline))


def test_a_module_that_changes_while_the_command_runs_ends_it(module: Path, tmp_path: Path) -> None:
    """Later seeds would import the new one, and keep the fingerprint of the old one."""
    planned = compose_run(a_run(tmp_path / "own", WeightingChoice("late")))
    require_unchanged(planned.settings, "late-seed0")
    module.write_text(WEIGHTING.replace("2.0", "3.0") + ESTIMATOR)
    with pytest.raises(
        ExperimentError, match=r"late-seed0: the module schemes_of_a_user was changed while the command"
    ):
        require_unchanged(planned.settings, "late-seed0")
    with pytest.raises(ExperimentError, match="was changed while the command"):
        execute(planned, Display("late-seed0"))
    assert not RunFolder(planned.run.folder).exists
    module.unlink()
    with pytest.raises(ExperimentError, match=r"schemes_of_a_user cannot be read: .*it was there when the run was"):
        require_unchanged(planned.settings, "late-seed0")


def test_what_comes_with_the_package_has_no_fingerprint(tmp_path: Path) -> None:
    found = compose_run(a_run(tmp_path, WeightingChoice("turn_balanced"), "gigpo")).settings
    assert not [key for key in found if key.endswith("(code)")]


def test_code_that_cannot_be_read_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="the code of the module sys cannot be read"):
        fingerprint("sys")
