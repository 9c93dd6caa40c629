"""Two methods of stages 2 and 6 against each other, paired by seed, beside what `actfocus reproduce` writes of them.

    python -m tools.evidence.two_methods gigpo-actfocus gigpo

Reads the evaluations that `actfocus reproduce` has written of the protocol's three questions and of stage 6. p-values
are not corrected: nothing is concluded from them but where recipes/paper/PROTOCOL.md declares it. Beside every number
stands in how many pairs the first is ahead, and under them how wide *area*'s interval would be if the evaluations of a
run were independent of each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy import stats

from tools.evidence.published import AREA, FINAL, GRPO, add_where, confirmed, numbers, over_seeds


def differences(
    method: str, other: str, environment: str, only: Collection[int] | None = None, algorithm: str = GRPO
) -> dict[str, dict[int, float]]:
    """Return `area`, `final` and step → seed → method minus other, in points.

    Args:
        method: such as `gigpo-actfocus`.
        other: what is subtracted.
        environment: whose runs.
        only: seeds to look at; all that both have where left out.
        algorithm: with which they were trained.

    Raises:
        ValueError: there is no seed with both, or one of those asked for lacks a run.
    """
    runs = confirmed(environment, algorithm)
    one, two = ({seed: numbers(curve) for seed, curve in runs.get(name, {}).items()} for name in (method, other))
    seeds = sorted(one.keys() & two.keys())
    if not seeds:
        known = ", ".join(sorted(runs)) or "none"
        where = f"{environment} with {algorithm}"
        raise ValueError(f"no seed of {where} has runs of {method} and {other}; methods: {known}")
    if missing := sorted({*(only or ())} - {*seeds}):
        raise ValueError(f"seeds {missing} of {environment} lack a run of {method} or {other}; both have {seeds}")
    seeds = sorted(only or seeds)
    return {number: {seed: one[seed][number] - two[seed][number] for seed in seeds} for number in one[seeds[0]]}


def widths(found: Mapping[str, Mapping[int, float]]) -> tuple[float, float]:
    """Return half the width of *area*'s interval, in points, and what it would be if its evaluations were independent.

    The mean of independent evaluations has the root of the sum of their squared half-widths, divided by their number.
    """
    half = {name: _half_width([*values.values()]) for name, values in found.items()}
    steps = [width for name, width in half.items() if name not in (AREA, FINAL)]
    return half[AREA], float(np.sqrt(np.square(steps).sum())) / len(steps)


def _half_width(values: Sequence[float]) -> float:
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="such as gigpo-actfocus")
    parser.add_argument("other", help="what is subtracted")
    add_where(parser)
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="only these seeds")
    args = parser.parse_args(arguments)
    try:
        found = differences(args.method, args.other, args.env, args.seeds, args.algorithm)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for number, values in found.items():
        name = number if number in (AREA, FINAL) else f"step {number}"
        ahead = sum(value > 0 for value in values.values())
        each = ", ".join(f"seed {seed} {value:+.1f}" for seed, value in values.items())
        print(f"{name}: {over_seeds(values)}; ahead in {ahead} of {len(values)} pairs ({each})")
    if len(found[AREA]) > 1:
        own, expected = widths(found)
        print(f"interval of area: ±{own:.1f} points; from independent evaluations it would be ±{expected:.1f}")


if __name__ == "__main__":
    main()
