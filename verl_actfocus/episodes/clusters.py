"""Successes by task, and how far a rate may be off: the episodes of one task are alike, so tasks are the clusters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

#: A run stops in which a larger share of episodes than this ended in an infrastructure failure.
MAX_EXCLUDED_SHARE = 0.1


@dataclass(frozen=True)
class Outcomes:
    """Successes of an evaluation by task, tasks ascending; all arrays have one entry per task."""

    #: Environment seeds of the tasks.
    tasks: NDArray[np.int64]
    #: Solved episodes of each task.
    successes: NDArray[np.int64]
    #: Episodes of each task.
    episodes: NDArray[np.int64]

    @property
    def rate(self) -> float:
        """Share of solved episodes."""
        return float(self.successes.sum() / self.episodes.sum())

    @property
    def standard_error(self) -> float | None:
        """Standard error of `rate`, see `ratio_standard_error`; None for a single task."""
        return ratio_standard_error(self.successes, self.episodes)

    def only(self, kept: NDArray[np.bool_]) -> Outcomes:
        """Return the outcomes of some tasks.

        Args:
            kept: whether to keep each task, `(tasks,)`.
        """
        return Outcomes(self.tasks[kept], self.successes[kept], self.episodes[kept])

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, bool]]) -> Outcomes:
        """Count outcomes from (task, solved) of single episodes.

        Example:
            >>> Outcomes.of([(3, True), (3, False), (5, True)]).successes
            array([1, 1])
        """
        tasks, solved = zip(*pairs, strict=True)
        names, positions = np.unique(np.asarray(tasks, dtype=np.int64), return_inverse=True)
        counts = np.bincount(positions)
        return cls(names, np.bincount(positions, weights=np.asarray(solved, dtype=float)).astype(np.int64), counts)

    @classmethod
    def pooled(cls, parts: Iterable[Outcomes]) -> Outcomes:
        """Add up evaluations on the same tasks, those that all of them have.

        Raises:
            ValueError: the tasks differ by more than excluded episodes explain.
        """
        parts = on_common_tasks(parts)
        successes = np.sum([part.successes for part in parts], axis=0)
        return cls(parts[0].tasks, successes, np.sum([part.episodes for part in parts], axis=0))


def on_common_tasks(evaluations: Iterable[Outcomes]) -> list[Outcomes]:
    """Return evaluations on the tasks that all of them have.

    An episode that ends in an infrastructure failure is excluded, and with it a task of which no other was played; a
    run with more such episodes than `MAX_EXCLUDED_SHARE` stops. So tasks may be missing, but no larger share of them.

    Raises:
        ValueError: more are missing: the evaluations were made on other tasks.
    """
    evaluations = list(evaluations)
    every = np.unique(np.concatenate([one.tasks for one in evaluations]))
    fewest = min(evaluations, key=lambda one: len(one.tasks))
    if len(fewest.tasks) < (1 - MAX_EXCLUDED_SHARE) * len(every):
        other = next(one for one in evaluations if not np.array_equal(one.tasks, fewest.tasks))
        raise ValueError(
            f"evaluations on different tasks cannot be compared: {len(fewest.tasks)} tasks from seed "
            f"{fewest.tasks[0]} on and {len(other.tasks)} from seed {other.tasks[0]} on, "
            f"{len(np.intersect1d(fewest.tasks, other.tasks))} of them shared"
        )
    common = reduce(np.intersect1d, (one.tasks for one in evaluations))
    if not len(common):
        raise ValueError(f"{len(evaluations)} evaluations of {len(every)} tasks have none in common: each lacks others")
    return [one.only(np.isin(one.tasks, common)) for one in evaluations]


def residuals(amounts: NDArray, counts: NDArray) -> NDArray[np.float64]:
    """Return how far each task's amount lies from what the ratio of all tasks makes one expect.

    Args:
        amounts: numerator of each task, such as successes, `(tasks,)`.
        counts: denominator of each task, such as episodes, `(tasks,)`.

    Returns:
        `(a_i − R·c_i) / mean(c)` with `R = Σa / Σc`, `(tasks,)`; they add up to 0.
    """
    return (amounts - amounts.sum() / counts.sum() * counts) / counts.mean()


def ratio_standard_error(amounts: NDArray, counts: NDArray) -> float | None:
    """Return the standard error of `R = Σa / Σc`, whose terms are sums over the episodes of a task.

    The linearised estimator of a ratio with tasks as the sampled units (Cochran 1977, *Sampling Techniques*, 3rd ed.,
    section 2.11): `SE² = K / (K − 1) · Σ (a_i − R·c_i)² / (Σc)²` for K tasks; the first factor corrects for few of
    them. With equally many episodes for every task it is the standard error of the mean of the task rates.

    Args:
        amounts: numerator of each task, such as successes, `(tasks,)`.
        counts: denominator of each task, such as episodes, `(tasks,)`.

    Returns:
        The standard error; None for a single task, which does not tell how tasks differ.

    Example:
        >>> round(ratio_standard_error(np.array([4, 0, 2]), np.array([4, 4, 4])), 4)
        0.2887
    """
    tasks = len(counts)
    if tasks == 1:
        return None
    return float(np.sqrt((residuals(amounts, counts) ** 2).sum() / (tasks * (tasks - 1))))
