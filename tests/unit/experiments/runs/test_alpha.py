"""α from a measurement: what follows from a share, and a run that trains with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus.experiments.runs.alpha import alpha_of, diagnosis_folder, is_auto, is_measured, measured
from verl_actfocus.experiments.runs.composed_run import compose_run
from verl_actfocus.experiments.runs.run import Conditions, Run
from verl_actfocus.experiments.runs.weightings import WeightingChoice
from verl_actfocus.storage.errors import ExperimentError

AUTO = WeightingChoice.parse("actfocus alpha=auto beta=0.25")


def diagnose(runs: Path, value: float | None, **changes: Any) -> None:
    """A diagnosis as `actfocus diagnose decisions` writes it."""
    share = {"value": value, "low": None, "high": None, "problem": None if value is not None else "nothing is decided"}
    of_reward = {"turn": 1, "outcome": "reward", "reasoning_over_reasoning_and_action": {"value": 0.9, "problem": None}}
    of_success = {"turn": 1, "outcome": "success", "reasoning_over_reasoning_and_action": share} | changes
    diagnosis_folder(runs).mkdir(parents=True, exist_ok=True)
    text = json.dumps({"decisions": [of_reward, of_success]})
    (diagnosis_folder(runs) / "diagnosis.json").write_text(text, encoding="utf-8")


def run(runs: Path) -> Run:
    return Run(conditions=Conditions(profile="cpu_frozenlake", algorithm="grpo", folder=runs), weighting=AUTO, seed=0)


@pytest.mark.parametrize(
    ("share", "alpha"),
    [(-0.2, 0.0), (0.0, 0.0), (0.1, 0.111), (1 / 3, 0.5), (0.5, 1.0), (0.8, 1.0), (1.0, 1.0), (1.2, 1.0)],
)
def test_alpha_is_the_ratio_of_what_reasoning_and_action_decide_between_0_and_1(share: float, alpha: float) -> None:
    assert alpha_of(share) == alpha


def test_only_actfocus_asks_for_a_measurement() -> None:
    assert is_auto(AUTO) and not is_auto(WeightingChoice.parse("actfocus alpha=0.1"))
    assert not is_auto(WeightingChoice.parse("mine alpha=auto"))


def test_a_run_trains_with_the_measured_number_under_the_name_that_asks_for_it(tmp_path: Path) -> None:
    diagnose(tmp_path, 0.2)
    composed = compose_run(run(tmp_path))
    section = "algorithm.actfocus.weighting"
    assert composed.settings[f"{section}.alpha"] == 0.25 and composed.settings[f"{section}.beta"] == 0.25
    assert composed.identity()["weighting"] == "actfocus alpha=auto beta=0.25"
    assert run(tmp_path).folder.name == "actfocus-alpha=auto-beta=0.25-seed0"


def test_an_alpha_that_was_not_measured_is_no_default(tmp_path: Path) -> None:
    assert not is_measured(tmp_path)
    with pytest.raises(ExperimentError, match="alpha=auto is not measured yet"):
        compose_run(run(tmp_path))


@pytest.mark.parametrize(
    ("value", "changes", "message"),
    [
        (None, {}, r"not defined \(nothing is decided\); delete .*diagnosis to measure again, or give a number"),
        (0.3, {"turn": 2}, "is not a diagnosis of turn 1"),
    ],
)
def test_a_diagnosis_that_says_nothing_is_refused(value, changes, message: str, tmp_path: Path) -> None:
    diagnose(tmp_path, value, **changes)
    with pytest.raises(ExperimentError, match=message):
        measured(tmp_path)
