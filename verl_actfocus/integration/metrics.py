"""Metrics of rollouts and evaluations: what became of the episodes.

The agent loop leaves one record per trajectory (`EpisodeRecord`) in ``extra_fields.reward_extra_info``, veRL's place
for it. Training and evaluation summarise the same records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from verl_actfocus.episodes import StopReason
from verl_actfocus.episodes.clusters import Outcomes

#: File in a checkpoint folder that holds what `SuccessTracker` knows.
_STATE_FILE = "actfocus.json"


#: Metrics that every environment has, beside the share of every stop reason.
_SUMMARY = ("success", "valid_turn_rate", "effective_action_rate", "turns", "response_length")


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """What became of one episode.

    Raises:
        ValueError: an outcome has the name of a field or of another metric.
    """

    #: 1.0 if the environment reported the task solved.
    success: float
    #: Value of `StopReason`.
    stop_reason: str
    #: Model turns.
    turns: int
    #: Turns whose response was well-formed and fully accepted.
    valid_turns: int
    #: Environment actions executed.
    actions: int
    #: Actions that changed the state.
    effective_actions: int
    #: Tokens the model generated, over all turns.
    response_tokens: int
    #: Seed of the environment.
    seed: int
    #: What the environment declares beyond success (`verl_actfocus.envs.TextEnv.outcomes`).
    outcomes: Mapping[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = {"reward", *(f.name for f in fields(self)), *_SUMMARY} & self.outcomes.keys()
        if taken:
            raise ValueError(f"an environment declares the outcomes {sorted(taken)}: another metric has that name")

    def as_dict(self) -> dict[str, Any]:
        """Return the record as veRL stores it: outcomes beside the fields, with ``outcomes`` naming them."""
        outcomes = {name: float(value) for name, value in self.outcomes.items()}
        return {**asdict(self), **outcomes, "outcomes": list(outcomes)}


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Summarise episode records.

    Args:
        records: what `EpisodeRecord.as_dict` returned, at least one.

    Returns:
        ``success``, ``valid_turn_rate`` (share of turns), ``effective_action_rate`` (share of executed actions),
        ``turns``, ``response_length`` (generated tokens of an episode) as means, the share of every stop reason as
        ``stop/<reason>``, and every outcome that the environment declares under its name, the mean over the episodes
        that have it.
    """
    total = {name: float(sum(record[name] for record in records)) for name in _numeric_fields()}
    count = len(records)
    values = (
        total["success"] / count,
        total["valid_turns"] / total["turns"] if total["turns"] else 0.0,
        total["effective_actions"] / total["actions"] if total["actions"] else 0.0,
        total["turns"] / count,
        total["response_tokens"] / count,
    )
    summary = dict(zip(_SUMMARY, values, strict=True))
    for reason in StopReason:
        summary[f"stop/{reason.value}"] = float(np.mean([record["stop_reason"] == reason.value for record in records]))
    for name in _outcome_names(record["outcomes"] for record in records):
        summary[name] = float(np.mean([record[name] for record in records if name in record["outcomes"]]))
    return summary


def _numeric_fields() -> list[str]:
    return [f.name for f in fields(EpisodeRecord) if f.name not in ("stop_reason", "outcomes")]


def _outcome_names(declared: Iterable[Sequence[str]]) -> list[str]:
    return sorted({name for names in declared for name in names})


def rollout_metrics(extra_fields: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Summarise the episodes of a training batch as ``rollout/…``; empty if another agent loop produced it."""
    records = [extra.get("reward_extra_info") or {} for extra in extra_fields]
    records = [record for record in records if "stop_reason" in record]
    return {f"rollout/{name}": value for name, value in summarise(records).items()} if records else {}


def validation_metrics(infos: dict[str, list[Any]]) -> dict[str, float]:
    """Summarise an evaluation as ``val/…``; empty if another agent loop produced it.

    Args:
        infos: name → one value per episode, as veRL's validation collects them.
    """
    if "stop_reason" not in infos:
        return {}
    names = [*_numeric_fields(), "stop_reason", "outcomes", *_outcome_names(infos["outcomes"])]
    records = [dict(zip(names, values, strict=True)) for values in zip(*(infos[name] for name in names), strict=True)]
    metrics = {f"val/{name}": value for name, value in summarise(records).items()}
    metrics["val/reward"] = float(np.mean(infos["reward"]))
    metrics["val/episodes"] = float(len(records))
    # How far the success rate may be off by the sampling of tasks and episodes; one task alone does not tell.
    error = Outcomes.of((record["seed"], bool(record["success"])) for record in records).standard_error
    if error is not None:
        metrics["val/success_standard_error"] = error
    return metrics


class SuccessTracker:
    """Remembers the best evaluation of a run, across restarts."""

    def __init__(self) -> None:
        self.peak: float | None = None
        self.peak_step = 0

    def update(self, step: int, success: float) -> dict[str, float]:
        """Record an evaluation and return ``val/success_final`` (this one), ``val/success_peak`` and its step."""
        if self.peak is None or success > self.peak:
            self.peak, self.peak_step = success, step
        return {
            "val/success_final": success,
            "val/success_peak": self.peak,
            "val/success_peak_step": float(self.peak_step),
        }

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint folder, whole or not at all: the checkpoint may be complete already."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _STATE_FILE
        temporary = path.with_name(f"{_STATE_FILE}.tmp")
        temporary.write_text(json.dumps({"peak": self.peak, "peak_step": self.peak_step}))
        temporary.replace(path)

    def load(self, folder: Path) -> None:
        """Read the state from a checkpoint folder; a checkpoint of stock veRL has none and leaves it empty.

        Raises:
            ValueError: the file cannot be read; the message says what deleting it would cost.
        """
        path = folder / _STATE_FILE
        if not path.exists():
            return
        try:
            state = json.loads(path.read_text())
            self.peak, self.peak_step = state["peak"], state["peak_step"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is damaged, and with it the run's best evaluation so far is lost; delete the file to resume "
                "all the same: val/success_peak then counts from this checkpoint on"
            ) from error
