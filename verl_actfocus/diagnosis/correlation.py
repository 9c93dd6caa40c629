"""How the spread of a group's rewards goes with its tokens' mean signal (He et al. 2026, §2, "Action Bottleneck").

A group is the episodes of one task. Its signal is averaged over all its sampled tokens, over the reasoning tokens and
over the action tokens, and each mean is compared with the standard deviation of the group's rewards by Spearman's rank
correlation over groups. Groups of several training steps are ranked within their step, see `ranks`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verl_actfocus.diagnosis import intervals, ranks
from verl_actfocus.episodes.spread import spread, tied
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


@dataclass
class Group:
    """What is kept of a group's trajectories: sums, so that memory does not grow with their length."""

    #: Training step; None outside training.
    step: int | None = None
    #: Session → return, that of its last part where an agent loop splits its episode.
    returns: dict[int, float] = field(default_factory=dict)
    #: Part → number of sampled tokens; `none` are those outside both spans.
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    #: (signal, part) → sum and number of the tokens that have the signal.
    sums: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)

    def add(self, trajectory: Trajectory) -> None:
        """Take a trajectory of the group."""
        self.returns[trajectory.session] = trajectory.reward
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
    def rewards(self) -> list[float]:
        """Returns of the episodes."""
        return list(self.returns.values())

    @property
    def spread(self) -> float:
        """Standard deviation of the rewards; which one does not matter to ranks where groups have one size."""
        return spread(self.rewards)

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
        rho: The correlation, within steps; None if it is not defined.
        p_value: Of the two-sided test of no association, see `ranks.p_value`.
        interval: 95 %, see `intervals.rank_correlation`.
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


def correlate(groups: Sequence[Group], signal: str, part: str) -> Correlation:
    """Correlate a signal with the spread of rewards.

    Args:
        groups: the groups; those of one step are ranked among themselves.
        signal: name in `SIGNALS`.
        part: name in `PARTS`.
    """
    steps: dict[int | None, list[tuple[float, float]]] = {}
    for group in groups:
        if (mean := group.mean(signal, part)) is not None:
            steps.setdefault(group.step, []).append((mean, group.spread))
    strata = [np.array(pairs) for pairs in steps.values()]
    largest = max((abs(reward) for group in groups for reward in group.rewards), default=0.0)
    for pairs in strata:
        pairs[:, 1] = tied(pairs[:, 1], largest)
    count = sum(map(len, strata))
    problem = _problem(groups, signal, part, strata)
    rho = p_value = ends = None
    if problem is None:
        ranked = ranks.pooled_ranks(strata)
        rho, p_value = ranks.correlation(ranked), ranks.p_value(ranked)
        # Every step has a mean of its own.
        independent = count - len(strata) + 1
        if independent < intervals.FEWEST_GROUPS:
            problem = f"no interval: fewer than {intervals.FEWEST_GROUPS} groups"
            problem += f" without one for each of the steps after the first ({independent})" if len(strata) > 1 else ""
        elif abs(rho) == 1:
            problem = "no interval: the ranks agree in all groups"
        else:
            ends = intervals.rank_correlation(rho, independent)
    return Correlation(signal=signal, part=part, groups=count, rho=rho, p_value=p_value, interval=ends, problem=problem)


def _problem(groups: Sequence[Group], signal: str, part: str, strata: Sequence[NDArray[np.float64]]) -> str | None:
    """Say why there is no correlation."""
    tokens = "response" if part == "all" else part
    if not any(group.tokens.get(part) for group in groups):
        return f"not defined: no group has {tokens} tokens"
    if not strata:
        return f"not recorded: no {tokens} token has the {SIGNALS[signal]}"
    count = sum(map(len, strata))
    if count < FEWEST:
        return f"not defined: {count} groups are too few; a rank correlation needs at least {FEWEST}"
    if all(len(pairs) == 1 for pairs in strata):
        return "not defined: every step has a single group, and groups are compared within their step"
    where = " of a step" if len(strata) > 1 else ""
    if all(np.ptp(pairs[:, 1]) == 0 for pairs in strata):
        alike = all((pairs[:, 1] == 0).all() for pairs in strata)
        why = "within every group all episodes earn the same reward" if alike else "all spread alike"
        return f"not defined: the groups{where} do not differ in their spread of rewards ({why})"
    if all(np.ptp(pairs[:, 0]) == 0 for pairs in strata):
        return f"not defined: the {SIGNALS[signal]} of all groups{where} is the same"
    if np.isnan(ranks.correlation(ranks.pooled_ranks(strata))):
        return "not defined: in no step do both signal and spread of rewards differ between groups"
    return None


def correlations(groups: Sequence[Group]) -> list[Correlation]:
    """Correlate every signal over every part."""
    return [correlate(groups, signal, part) for signal in SIGNALS for part in PARTS]


def whole(groups: Iterable[Group], size: int) -> list[Group]:
    """Return the groups of which no episode is missing: a spread over fewer episodes is not comparable.

    Args:
        groups: the groups.
        size: episodes of a whole one.
    """
    return [group for group in groups if len(group.returns) == size]


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
