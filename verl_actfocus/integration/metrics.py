"""Metrics of rollouts and evaluations: what became of the episodes.

The agent loop leaves the counts of every trajectory (`EpisodeRecord.counts`) in `extra_fields.reward_extra_info`,
veRL's place for it. Training and evaluation summarise the same counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.episodes.record import COUNTS, outcome_names, summarise
from verl_actfocus.storage.disk import write_json

#: File in a checkpoint folder that holds what `SuccessTracker` knows.
STATE_FILE = "actfocus.json"


def rollout_metrics(extra_fields: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Summarise the episodes of a training batch as `rollout/…`; empty if another agent loop produced it."""
    records = [extra.get("reward_extra_info") or {} for extra in extra_fields]
    records = [record for record in records if _is_episode(record)]
    return {f"rollout/{name}": value for name, value in summarise(records).items()} if records else {}


def _is_episode(counted: Mapping[str, Any]) -> bool:
    """Whether these are an episode's counts: another agent loop's reward may say, too, why a response stopped."""
    return {*COUNTS} <= counted.keys()


def identical_responses(groups: Sequence[str], responses: Sequence[Tensor]) -> dict[str, float]:
    """Measure how far a policy has collapsed onto one answer: `rollout/identical_responses`.

    Args:
        groups: prompt group of each trajectory.
        responses: its response tokens, the environment's between the turns included, `(length,)` each.

    Returns:
        Of the trajectories that have a sibling in their group, the share whose tokens equal a sibling's; empty if
        none has a sibling.
    """
    counts = Counter(zip(groups, (tuple(row.tolist()) for row in responses), strict=True))
    sizes = Counter(groups)
    with_siblings = sum(size for size in sizes.values() if size > 1)
    identical = sum(count for count in counts.values() if count > 1)
    return {"rollout/identical_responses": identical / with_siblings} if with_siblings else {}


def validation_metrics(infos: dict[str, list[Any]]) -> dict[str, float]:
    """Summarise an evaluation as `val/…`; empty if another agent loop produced it.

    Args:
        infos: name → one value per episode, as veRL's validation collects them.
    """
    if not _is_episode(infos):
        return {}
    names = [*COUNTS, *outcome_names(infos["outcomes"])]
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
        """Record an evaluation and return `val/success_final` (this one), `val/success_peak` and its step."""
        if self.peak is None or success > self.peak:
            self.peak, self.peak_step = success, step
        return {
            "val/success_final": success,
            "val/success_peak": self.peak,
            "val/success_peak_step": float(self.peak_step),
        }

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint folder, whole or not at all: the checkpoint may be complete already.

        Raises:
            ExperimentError: the disk is full.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / STATE_FILE, {"peak": self.peak, "peak_step": self.peak_step})

    def load(self, folder: Path) -> None:
        """Read the state from a checkpoint folder; a checkpoint of stock veRL has none and leaves it empty.

        Raises:
            ValueError: the file cannot be read; the message says what deleting it would cost.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return
        try:
            state = json.loads(path.read_text())
            self.peak, self.peak_step = state["peak"], state["peak_step"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is damaged, and with it the run's best evaluation so far is lost; to resume all the same "
                'write {"peak": null, "peak_step": 0} into it: val/success_peak then counts from this checkpoint on'
            ) from error
