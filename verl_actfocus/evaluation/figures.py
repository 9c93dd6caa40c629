"""What an evaluation found, as numbers with confidence intervals.

Episodes of one task are alike, so intervals are over tasks with all their episodes, see
`verl_actfocus.experiments.results.statistics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.evaluation.records import by_task
from verl_actfocus.experiments.results.statistics import Estimate, ratio, share, success_rate


@dataclass(frozen=True)
class Figure:
    """One number of an evaluation.

    Attributes:
        name: Its name in `summary.json`.
        label: Its name for people.
        estimate: Value and interval.
        is_share: Whether the value is a share between 0 and 1.
    """

    name: str
    label: str
    estimate: Estimate
    is_share: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the value and its interval as plain values."""
        low, high = self.estimate.interval or (None, None)
        return {"value": self.estimate.value, "low": low, "high": high, "covers": self.estimate.covers}


def pass_at_k(successes: NDArray[np.int64], episodes: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Estimate for each task the probability that at least one of `k` episodes succeeds.

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374, Eq. 1): `1 - C(n - c, k) / C(n, k)`, the share of
    the choices of `k` among the `n` episodes of a task in which a success is.

    Args:
        successes: successful episodes of each task, `(tasks,)`.
        episodes: episodes of each task, at least `k`.
        k: how many tries.

    Returns:
        One probability for each task, `(tasks,)`.

    Raises:
        ValueError: a task has fewer than `k` episodes.

    Example:
        >>> pass_at_k(np.array([0, 1, 4]), np.array([4, 4, 4]), 2)
        array([0. , 0.5, 1. ])
    """
    if (episodes < k).any():
        raise ValueError(f"pass@{k} needs at least {k} episodes of every task; one has {episodes.min()}")
    return 1.0 - comb(episodes - successes, k) / comb(episodes, k)


def figures(records: Sequence[EpisodeRecord]) -> list[Figure]:
    """Summarise finished episodes.

    Args:
        records: the episodes, at least one.

    Returns:
        Success, pass@k for k = 1, 2, 4, … up to the episodes of a task, what the environment declares beyond success,
        shares of well-formed and of valid turns, reward, turns and response tokens.
    """
    groups = list(by_task(records).values())
    outcomes = Outcomes.of((record.task, record.success) for record in records)
    episodes = outcomes.episodes

    def total(count: Callable[[EpisodeRecord], float]) -> NDArray[np.float64]:
        """Sum over the episodes of each task."""
        return np.array([sum(count(record) for record in group) for group in groups], dtype=float)

    turns = total(lambda record: len(record.turns))
    tokens = total(lambda record: record.response_tokens)
    found = [Figure("success", "success", success_rate([outcomes]), is_share=True)]
    k = 1
    while k <= episodes.min():
        rates = pass_at_k(outcomes.successes, episodes, k)
        # Of n episodes, n / k disjoint sets of k can be made: as many trials.
        found.append(Figure(f"pass@{k}", f"pass@{k}", share(rates * episodes / k, episodes / k), is_share=True))
        k *= 2
    for name in sorted({name for record in records for name in record.outcomes}):
        counted = np.array([sum(one.outcomes.get(name, False) for one in group) for group in groups], dtype=float)
        found.append(Figure(name, name.replace("_", " "), share(counted, episodes), is_share=True))
    well_formed = total(lambda record: record.well_formed_turns)
    valid = total(lambda record: record.valid_turns)
    return [
        *found,
        Figure("well_formed_turn_rate", "well-formed turns", ratio(well_formed, turns, bounded=True), is_share=True),
        Figure("valid_turn_rate", "valid turns", ratio(valid, turns, bounded=True), is_share=True),
        Figure("reward", "reward", ratio(total(lambda record: record.reward), episodes)),
        Figure("turns", "turns per episode", ratio(turns, episodes)),
        Figure("response_tokens_per_turn", "response tokens per turn", ratio(tokens, turns)),
        Figure("response_tokens", "response tokens per episode", ratio(tokens, episodes)),
    ]


def stop_reasons(records: Sequence[EpisodeRecord]) -> dict[str, int]:
    """Count why the episodes ended, the most frequent reason first."""
    return dict(Counter(record.stop_reason for record in records).most_common())


def summary_of(found: Sequence[Figure]) -> dict[str, Any]:
    """Return figures as plain values: name → value, low, high and what the interval covers."""
    return {figure.name: figure.as_dict() for figure in found}
