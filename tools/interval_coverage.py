"""How often the intervals of `actfocus diagnose` hold the true value, simulated.

python -m tools.interval_coverage          # prints the tables of docs/diagnose.md; some minutes

States succeed with nested Beta-Bernoulli draws, 5 reasonings × 5 actions × 2 futures: a state has a base rate, its
reasonings scatter around it, their actions around theirs. Of a Beta with mean p and sum of parameters c the variance is
p (1 − p) / (c + 1), so that the shares are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verl_actfocus.diagnosis import intervals, ranks
from verl_actfocus.diagnosis.tables import header, row
from verl_actfocus.diagnosis.variance import ACTION, AFTER, REASONING, Share, decided

DRAWS = (5, 5, 2)
#: Ratio of reasoning to reasoning and action.
RATIO = "ratio"
#: Smallest parameter of a Beta: 0 is none.
_LEAST = 1e-9


@dataclass(frozen=True)
class Kind:
    """A kind of states.

    Attributes:
        share: Share of the states.
        base: Parameters of the base rate's Beta.
        reasoning: Sum of the parameters of the reasonings' Beta; large where reasonings decide little.
        action: The same of the actions.
    """

    share: float
    base: tuple[float, float]
    reasoning: float
    action: float


#: Name → kinds of states.
CASES = {
    "success open in nearly all states": [Kind(1, (1, 1), 3, 3)],
    "base rates Beta(0.1, 0.5)": [Kind(1, (0.1, 0.5), 4, 1)],
    "base rates Beta(0.1, 1.5)": [Kind(1, (0.1, 1.5), 4, 1)],
    "15 % of states decided by the action": [Kind(0.15, (1, 1), 8, 0.3), Kind(0.85, (0.1, 1.5), 1, 30)],
    "10 % of states decided by the action": [Kind(0.1, (1, 1), 8, 0.3), Kind(0.9, (0.1, 1.5), 30, 1)],
}


def shares(kinds: list[Kind]) -> dict[str, float]:
    """Return the true shares."""
    total = np.zeros(3)
    for kind in kinds:
        a, b = kind.base
        variance = kind.share * a * b / ((a + b) * (a + b + 1))
        reasoning = 1 / (kind.reasoning + 1)
        action = (1 - reasoning) / (kind.action + 1)
        total += variance * np.array([reasoning, action, 1 - reasoning - action])
    of = dict(zip((REASONING, ACTION, AFTER), (total / total.sum()).tolist(), strict=True))
    return {**of, RATIO: of[REASONING] / (of[REASONING] + of[ACTION])}


def returns(kinds: list[Kind], states: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the returns of states, `(states, M, K, F)`."""
    which = rng.choice(len(kinds), p=[kind.share for kind in kinds], size=states)

    def scattered(rates: NDArray[np.float64], sums: list[float], *shape: int) -> NDArray[np.float64]:
        total = np.array(sums)[which].reshape(-1, *(1 for _ in shape))
        drawn = rng.beta(np.maximum(rates * total, _LEAST), np.maximum((1 - rates) * total, _LEAST), (states, *shape))
        return np.asarray(drawn, dtype=np.float64)[..., None]

    bases = rng.beta(*(np.array([kind.base[place] for kind in kinds])[which] for place in (0, 1)))[:, None]
    of_reasonings = scattered(bases, [kind.reasoning for kind in kinds], DRAWS[0])
    of_actions = scattered(of_reasonings, [kind.action for kind in kinds], *DRAWS[:2])
    return (rng.random((states, *DRAWS)) < of_actions).astype(np.float64)


def coverage(case: str, states: int, repetitions: int, seed: int = 0) -> tuple[float, dict[str, float]]:
    """Return in what share of the repetitions there are intervals, and what share of those holds the true value.

    Args:
        case: name in `CASES`.
        states: number of states.
        repetitions: number of simulated diagnoses.
        seed: of the draws.
    """
    kinds, rng = CASES[case], np.random.default_rng(seed)
    truth = shares(kinds)
    held: dict[str, list[bool]] = {term: [] for term in truth}
    for _ in range(repetitions):
        found = decided(returns(kinds, states, rng))
        given: dict[str, Share | None] = {**found.shares, RATIO: found.ratio}
        for term, true in truth.items():
            share = given[term]
            if share is not None and share.interval is not None:
                held[term].append(share.interval[0] <= true <= share.interval[1])
    often = len(held[REASONING]) / repetitions
    return often, {term: float(np.mean(those)) if those else float("nan") for term, those in held.items()}


def rank_coverage(steps: int, groups: int, slope: float, repetitions: int, seed: int = 0) -> float:
    """Return in what share of the simulated runs the interval of ρ holds the true one; half of the spreads are 0.

    Args:
        steps: steps that are pooled; both values drift from step to step.
        groups: groups of a step.
        slope: how strongly the spread follows the signal.
        repetitions: number of simulated runs.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(repetitions, steps, groups))
    spread = np.round(np.maximum(slope * signal + rng.normal(size=signal.shape), 0), 1)
    drift = np.arange(steps)[:, None]
    ranked = [
        ranks.pooled_ranks(list(np.stack([x, y], axis=-1))) for x, y in zip(signal + drift, spread + drift, strict=True)
    ]
    one, other = np.concatenate([pairs for those in ranked for pairs in those]).T
    true = float(one @ other / np.sqrt((one @ one) * (other @ other)))
    found = (ranks.correlation(those) for those in ranked)
    ends = (intervals.rank_correlation(rho, steps * (groups - 1) + 1) for rho in found if abs(rho) < 1)
    return float(np.mean([low <= true <= high for low, high in ends]))


def main() -> None:
    """Print the tables."""
    print("\n".join(header("states", "number", "with intervals", "reasoning", "action", "after", "reasoning / both")))
    for case in CASES:
        for states in (20, 40, 160):
            often, held = coverage(case, states, 1000)
            cells = ["–" if often < 0.05 else f"{100 * share:.1f} %" for share in held.values()]
            print(row(case, str(states), f"{100 * often:.0f} %", *cells))
    print()
    print("\n".join(header("steps × groups", "no association", "moderate", "strong")))
    for steps, groups in ((1, 10), (1, 40), (1, 200), (5, 4), (5, 16), (20, 2)):
        cells = [f"{100 * rank_coverage(steps, groups, slope, 2000):.1f} %" for slope in (0, 0.7, -1.5)]
        print(row(f"{steps} × {groups}", *cells))


if __name__ == "__main__":
    main()
