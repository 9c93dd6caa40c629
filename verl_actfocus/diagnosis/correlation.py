"""How the spread of a group's rewards goes with its tokens' mean signal (He et al. 2026, §2, "Action Bottleneck").

A group is the episodes of one task. Its signal is averaged over all its sampled tokens, over the reasoning tokens and
over the action tokens, and each mean is compared with the standard deviation of the group's rewards by Spearman's rank
correlation over groups.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from verl_actfocus.diagnosis.resampling import interval
from verl_actfocus.trajectories import Trajectory

#: What a mean is over: all tokens that the model sampled, or those of a span.
PARTS = ("all", "reasoning", "action")
#: Signals of He et al. 2026, Eq. 4 and 20-22, and what they are called for people.
SIGNALS = {
    "energy": "reference energy",
    "entropy": "reference entropy",
    "nll": "NLL of the policy",
    "shift": "log-probability shift",
}
#: Fewest groups that are correlated.
FEWEST = 3
#: Rewards of a group that differ by less than rounding do not differ.
_ROUNDING = 9


@dataclass
class Group:
    """What is kept of a group's trajectories: sums, so that memory does not grow with their length."""

    rewards: list[float] = field(default_factory=list)
    #: Part → number of sampled tokens; `none` are those outside both spans.
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    #: (signal, part) → sum and number of the tokens that have the signal.
    sums: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)

    def add(self, trajectory: Trajectory) -> None:
        """Take a trajectory of the group."""
        self.rewards.append(trajectory.reward)
        signals = paper_signals(trajectory)
        for place, (turn, span) in enumerate(zip(trajectory.turns, trajectory.spans, strict=True)):
            if turn < 0:  # the environment's
                continue
            for part in {"all", span}:
                self.tokens[part] += 1
                for name, values in signals.items():
                    if (value := values[place]) is not None:
                        total, count = self.sums.get((name, part), (0.0, 0))
                        self.sums[name, part] = total + value, count + 1

    @property
    def spread(self) -> float:
        """Standard deviation of the rewards; which one does not matter to ranks where groups have one size."""
        return float(np.round(np.std(self.rewards), _ROUNDING))

    def mean(self, signal: str, part: str) -> float | None:
        """Return the mean signal over the tokens of a part; None if none of them has it."""
        total, count = self.sums.get((signal, part), (0.0, 0))
        return total / count if count else None


def paper_signals(trajectory: Trajectory) -> dict[str, Sequence[float | None]]:
    """Return the paper's signals of a trajectory, as far as it was recorded what they are made of.

    Log-probabilities that training recorded are at the rollout's temperature; `actfocus diagnose` records `nll` and
    `shift` at temperature 1.
    """
    found = trajectory.signals
    signals: dict[str, Sequence[float | None]] = {}
    for name, recorded in (("energy", "ref_energy"), ("entropy", "ref_entropy"), ("nll", "nll"), ("shift", "shift")):
        if recorded in found:
            signals[name] = found[recorded]
    old, reference = found.get("old_log_prob"), found.get("ref_log_prob")
    if old is not None and "nll" not in signals:
        signals["nll"] = [None if value is None else -value for value in old]
    if old is not None and reference is not None and "shift" not in signals:
        pairs = zip(old, reference, strict=True)
        signals["shift"] = [None if one is None or other is None else one - other for one, other in pairs]
    return signals


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation of a signal's group means with the groups' spread of rewards.

    Attributes:
        signal: Name in `SIGNALS`.
        part: Name in `PARTS`.
        groups: Groups that have tokens of the part with the signal.
        rho: The correlation; None if it is not defined.
        p_value: Of the two-sided test of no association.
        interval: 95 % by bootstrap over groups.
        problem: Why a number is missing, in words.
    """

    signal: str
    part: str
    groups: int
    rho: float | None
    p_value: float | None
    interval: tuple[float, float] | None
    problem: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        low, high = self.interval or (None, None)
        return {
            "signal": self.signal,
            "part": self.part,
            "groups": self.groups,
            "rho": self.rho,
            "low": low,
            "high": high,
            "p_value": self.p_value,
            "problem": self.problem,
        }


def correlate(groups: Sequence[Group], signal: str, part: str, *, seed: int = 0) -> Correlation:
    """Correlate a signal with the spread of rewards.

    Args:
        groups: the groups.
        signal: name in `SIGNALS`.
        part: name in `PARTS`.
        seed: of the resampling.
    """
    pairs = [(mean, group.spread) for group in groups if (mean := group.mean(signal, part)) is not None]
    means, spreads = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    problem = _problem(groups, signal, part, means, spreads)
    if problem is not None:
        rho = p_value = ends = None
    else:
        found = stats.spearmanr(means, spreads)
        rho, p_value = float(found.statistic), float(found.pvalue)
        ends = interval((means, spreads), rank_correlation, seed=seed)
        problem = "no interval: too many resamples of the groups have one spread" if ends is None else None
    return Correlation(
        signal=signal, part=part, groups=len(pairs), rho=rho, p_value=p_value, interval=ends, problem=problem
    )


def _problem(
    groups: Sequence[Group], signal: str, part: str, means: NDArray[np.float64], spreads: NDArray[np.float64]
) -> str | None:
    """Say why there is no correlation."""
    tokens = "response" if part == "all" else part
    if not any(group.tokens.get(part) for group in groups):
        return f"not defined: no group has {tokens} tokens"
    if not len(means):
        return f"not recorded: no {tokens} token has the {SIGNALS[signal]}"
    if len(means) < FEWEST:
        return f"not defined: {len(means)} groups are too few; a rank correlation needs at least {FEWEST}"
    if np.ptp(spreads) == 0:
        alike = "within every group all episodes earn the same reward" if spreads[0] == 0 else "all spread alike"
        return f"not defined: the groups do not differ in their spread of rewards ({alike})"
    if np.ptp(means) == 0:
        return f"not defined: the {SIGNALS[signal]} of all groups is the same"
    return None


def rank_correlation(first: NDArray, second: NDArray, axis: int = -1) -> NDArray[np.float64]:
    """Spearman's correlation along an axis, NaN where one of the two is constant; ties share their mean rank."""
    ranks = [stats.rankdata(values, axis=axis) for values in (first, second)]
    one, other = (values - values.mean(axis=axis, keepdims=True) for values in ranks)
    size = np.sqrt((one**2).sum(axis=axis) * (other**2).sum(axis=axis))
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = (one * other).sum(axis=axis) / np.where(size > 0, size, math.nan)
    return found


def correlations(groups: Sequence[Group], *, seed: int = 0) -> list[Correlation]:
    """Correlate every signal over every part."""
    return [correlate(groups, signal, part, seed=seed) for signal in SIGNALS for part in PARTS]


def token_shares(groups: Sequence[Group]) -> dict[str, float | None]:
    """Return the share of reasoning and action tokens among the sampled ones, and sampled tokens per trajectory.

    These are the columns of He et al. 2026, Table 1; None where there are no tokens.
    """
    total = sum(group.tokens.get("all", 0) for group in groups)
    episodes = sum(len(group.rewards) for group in groups)
    shares = {part: sum(group.tokens.get(part, 0) for group in groups) for part in ("reasoning", "action", "none")}
    return {
        **{f"{part}_share": count / total if total else None for part, count in shares.items()},
        "tokens_per_trajectory": total / episodes if episodes else None,
    }
