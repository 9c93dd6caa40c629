"""How much of the return's variance each kind of token decides: the law of total variance from nested draws.

In a state s, the policy writes a reasoning z, then an action a, then the rest of the episode follows: chance in the
environment and later turns. With R the return,

    Var(R | s) = Var(E[R | s, z]) + E[Var(E[R | s, z, a] | s, z)] + E[Var(R | s, z, a)]

in this order: what the reasoning decides, what the action decides once the reasoning is fixed, and what is decided
after it. From M reasonings of a state, K actions of each and F futures of each action every term is estimated
without bias by the method of moments (nested analysis of variance, e.g. Searle, Casella and McCulloch 1992, *Variance
Components*, ch. 4), whatever the distributions; an estimate can be below zero, and is reported as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verl_actfocus.diagnosis.intervals import FEWEST_DIFFERING, FEWEST_STATES, ratio_of_means
from verl_actfocus.episodes.spread import differ

REASONING, ACTION, AFTER = "reasoning", "action", "after"
#: The last term where every action has one future, so that action and what follows cannot be told apart.
ACTION_AND_AFTER = "action_and_after"


def components(returns: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Estimate the terms of every state's variance without bias.

    Args:
        returns: shape `(states, M, K, F)`: M ≥ 2 reasonings, K ≥ 2 actions of each, F ≥ 1 futures of each.

    Returns:
        Term → `(states,)`: `reasoning`, `action` and `after`; with one future `reasoning` and `action_and_after`.

    Raises:
        ValueError: a state has a single reasoning, or a reasoning a single action.

    Example:
        >>> copied = np.array([1.0, 0.0]).reshape(1, 2, 1, 1).repeat(2, axis=2).repeat(2, axis=3)
        >>> {term: float(value[0]) for term, value in components(copied).items()}
        {'reasoning': 0.5, 'action': 0.0, 'after': 0.0}
    """
    _, reasonings, actions, futures = returns.shape
    if min(reasonings, actions) < 2:
        raise ValueError(f"{reasonings} reasonings and {actions} actions: a variance needs at least 2 of each")
    after = returns.var(axis=3, ddof=1).mean(axis=(1, 2)) if futures > 1 else 0.0
    # The mean of F futures still scatters by a share of what comes after, and so on outwards.
    action = returns.mean(axis=3).var(axis=2, ddof=1).mean(axis=1) - after / futures
    reasoning = returns.mean(axis=(2, 3)).var(axis=1, ddof=1) - (action + after / futures) / actions
    if futures == 1:
        return {REASONING: reasoning, ACTION_AND_AFTER: action}
    return {REASONING: reasoning, ACTION: action, AFTER: after}


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of the variance.

    Attributes:
        value: The share; None if it is not defined.
        interval: 95 % over states, see `intervals.ratio_of_means`; None if the states admit none.
        problem: Why a number is missing, in words.
    """

    value: float | None
    interval: tuple[float, float] | None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        low, high = self.interval or (None, None)
        return {"value": self.value, "low": low, "high": high, "problem": self.problem}


@dataclass(frozen=True, kw_only=True)
class Decided:
    """Where a return is decided.

    Attributes:
        states: Number of states.
        differing: Number of states whose returns differ by more than rounding.
        mean: Mean return.
        variance: Mean variance within a state.
        shares: Term → its share of that variance.
        ratio: Reasoning over reasoning and action; None with one future, which does not tell the action apart.
    """

    states: int
    differing: int
    mean: float
    variance: float
    shares: Mapping[str, Share]
    ratio: Share | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "states": self.states,
            "states_that_differ": self.differing,
            "mean": self.mean,
            "variance_within_a_state": self.variance,
            "shares": {term: share.as_dict() for term, share in self.shares.items()},
            "reasoning_over_reasoning_and_action": None if self.ratio is None else self.ratio.as_dict(),
        }


def decided(returns: NDArray[np.float64]) -> Decided:
    """Estimate where a return is decided, with intervals over states.

    Args:
        returns: see `components`; at least one state.
    """
    differs = differ(returns.reshape(len(returns), -1))
    # What rounding leaves of equal returns is no variance.
    parts = {term: np.where(differs, values, 0.0) for term, values in components(returns).items()}
    total = np.sum(list(parts.values()), axis=0)
    differing = int(differs.sum())
    ratio = None
    if ACTION in parts:
        both = parts[REASONING] + parts[ACTION]
        ratio = _share(parts[REASONING], both, "reasoning and action together decide", differing)
    return Decided(
        states=len(returns),
        differing=differing,
        mean=float(returns.mean()),
        variance=float(total.mean()),
        shares={term: _share(part, total, "all together decide", differing) for term, part in parts.items()},
        ratio=ratio,
    )


def _share(part: NDArray[np.float64], whole: NDArray[np.float64], what: str, differing: int) -> Share:
    if not differing:
        nothing = "nothing is decided here: in every state all futures ended alike"
        return Share(value=None, interval=None, problem=nothing)
    if whole.mean() <= 0:
        return Share(value=None, interval=None, problem=f"{what} no measurable variance here")
    value = float(part.mean() / whole.mean())
    if len(part) < FEWEST_STATES or differing < FEWEST_DIFFERING:
        few = (
            f"no interval: in {differing} of {len(part)} states returns differ; an interval needs {FEWEST_STATES} "
            f"states, and {FEWEST_DIFFERING} in which they differ"
        )
        return Share(value=value, interval=None, problem=few)
    ends = ratio_of_means(part, whole, differing)
    problem = f"no interval: {what} a variance that is not told from zero" if ends is None else None
    return Share(value=value, interval=ends, problem=problem)
