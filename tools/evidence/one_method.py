"""How a method of stages 2 and 6 learns, seed by seed: what recipes/paper/PROTOCOL.md does not declare.

    python -m tools.evidence.one_method uniform

Reads the evaluations that `actfocus reproduce` has written of the protocol's three questions and of stage 6.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tools.evidence.published import confirmed, over_seeds


def lines(runs: Mapping[int, Mapping[int, float]]) -> Iterator[str]:
    """Yield every run's success, its mean change from one evaluation to the next, and the largest fall of a run.

    Args:
        runs: seed → step → success in per cent, every run evaluated at the same steps.
    """
    for seed, curve in sorted(runs.items()):
        yield f"seed {seed}: " + ", ".join(f"step {step} {success:.1f} %" for step, success in sorted(curve.items()))
    for before, after in pairwise(sorted(next(iter(runs.values())))):
        yield f"step {before} to {after}: {over_seeds({seed: one[after] - one[before] for seed, one in runs.items()})}"
    fall, seed, before, after = min(
        (curve[after] - curve[before], seed, before, after)
        for seed, curve in runs.items()
        for before, after in pairwise(sorted(curve))
    )
    change = f"{runs[seed][before]:.1f} to {runs[seed][after]:.1f} % between steps {before} and {after}"
    yield f"least rise, or largest fall: {fall:+.1f} points (seed {seed}, {change})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="such as uniform")
    parser.add_argument("--env", default="frozenlake", help="environment")
    args = parser.parse_args(arguments)
    try:
        runs = confirmed(args.env)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if args.method not in runs:
        parser.error(f"no run of {args.method} on {args.env}; methods: {', '.join(sorted(runs)) or 'none'}")
    print("\n".join(lines(runs[args.method])))


if __name__ == "__main__":
    main()
