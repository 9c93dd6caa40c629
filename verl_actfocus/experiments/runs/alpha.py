"""ActFocus's α from a measurement, `actfocus alpha=auto`: recipes/paper/PROTOCOL.md, stage 5.

Before the first run of a folder of runs, a command of `actfocus` diagnoses where the return of the untrained model is
decided (`actfocus diagnose decisions`). What follows from that is one number, with which all runs of the folder train.
"""

from __future__ import annotations

import json
from pathlib import Path

from verl_actfocus.experiments.runs.weightings import ACTFOCUS, WeightingChoice
from verl_actfocus.storage.errors import ExperimentError

#: The setting that may be measured, and the value that asks for it.
SETTING, AUTO = "alpha", "auto"
#: Turn whose states are diagnosed, and outcome that counts.
TURN, OUTCOME = 1, "success"


def alpha_of(share: float) -> float:
    """Return α for a share: what the reasoning decides in proportion to the action, at most 1, to three digits.

    Args:
        share: reasoning / (reasoning + action) of the variance of the return; an estimate may lie outside [0, 1].

    Example:
        >>> alpha_of(0.2), alpha_of(0.7), alpha_of(-0.05)
        (0.25, 1.0, 0.0)
    """
    return 1.0 if share >= 0.5 else round(max(0.0, share / (1 - share)), 3)


def is_auto(weighting: WeightingChoice) -> bool:
    """Whether a weighting asks for a measured α."""
    return weighting.name == ACTFOCUS.name and (SETTING, AUTO) in weighting.settings


def diagnosis_folder(runs: Path) -> Path:
    """Return where the diagnosis of a folder of runs lies."""
    return runs / "diagnosis"


def is_measured(runs: Path) -> bool:
    """Whether the diagnosis of a folder of runs has come to its end, with all of its states.

    Raises:
        ExperimentError: its file cannot be read.
    """
    path = diagnosis_folder(runs) / "diagnosis.json"
    if not path.exists():
        return False
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("complete", True))
    except (ValueError, AttributeError) as error:
        raise ExperimentError(
            f"{path} is not a diagnosis ({error!r}); delete {path.parent} to measure again"
        ) from error


def measured(runs: Path) -> float:
    """Return α of a folder of runs.

    Raises:
        ExperimentError: it was not measured, cannot be read, or the diagnosis decides nothing.
    """
    path = diagnosis_folder(runs) / "diagnosis.json"
    remedy = f"delete {path.parent} to measure again, or give a number in the place of {SETTING}={AUTO}"
    if not is_measured(runs):
        how = "states are missing in" if path.exists() else "there is no"
        raise ExperimentError(f"{SETTING}={AUTO} is not measured yet ({how} {path}); the same command measures it")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["decisions"]
        (share,) = (
            one["reasoning_over_reasoning_and_action"]
            for one in found
            if (one["turn"], one["outcome"]) == (TURN, OUTCOME)
        )
        value, problem = share["value"], share["problem"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExperimentError(f"{path} is not a diagnosis of turn {TURN} ({error!r}); {remedy}") from error
    if value is None:
        raise ExperimentError(f"{path}: where the return is decided is not defined ({problem}); {remedy}")
    return alpha_of(value)


def resolved(weighting: WeightingChoice, runs: Path) -> WeightingChoice:
    """Return a weighting with the measured α in the place of `auto`; any other as it is.

    Args:
        weighting: what a run is asked to train with.
        runs: folder of its runs.

    Raises:
        ExperimentError: α was not measured, see `measured`.
    """
    if not is_auto(weighting):
        return weighting
    settings = {**dict(weighting.settings), SETTING: f"{measured(runs):g}"}
    return WeightingChoice(weighting.name, tuple(sorted(settings.items())))
