"""How a method learns, seed by seed: what recipes/paper/PROTOCOL.md does not declare.

    python -m tools.evidence.one_method uniform
    python -m tools.evidence.one_method action-only-3e-4 --table learning_rates

Reads the evaluations that `actfocus reproduce` has written: of the protocol's three questions and of stage 6, or of
another table with one model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tools.evidence.published import CONFIRMATION, RESULTS, add_where, merged, over_seeds


def lines(runs: Mapping[int, Mapping[int, float]]) -> Iterator[str]:
    """Yield every run's success, its mean change from one evaluation to the next, and the least change of a run.

    Args:
        runs: seed → step → success in per cent, before training too.

    Raises:
        ValueError: a run has no evaluation after the first, or runs were evaluated at different steps.
    """
    steps = {tuple(sorted(curve)) for curve in runs.values()}
    if len(steps) != 1 or len(min(steps)) < 2:
        raise ValueError(f"one evaluation, or not at the same steps in all runs: {sorted(steps)}")
    for seed, curve in sorted(runs.items()):
        yield f"seed {seed}: " + ", ".join(f"step {step} {success:.1f} %" for step, success in sorted(curve.items()))
    between = [*pairwise(min(steps))]
    for before, after in between:
        yield f"step {before} to {after}: {over_seeds({seed: one[after] - one[before] for seed, one in runs.items()})}"
    change, seed, before, after = min(
        (curve[after] - curve[before], seed, before, after) for seed, curve in runs.items() for before, after in between
    )
    ends = f"{runs[seed][before]:.1f} to {runs[seed][after]:.1f} % between steps {before} and {after}"
    yield f"least rise, or largest fall: {change:+.1f} points (seed {seed}, {ends})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="such as uniform")
    add_where(parser)
    parser.add_argument("--table", nargs="+", default=CONFIRMATION, help="tables, wherever they are published")
    args = parser.parse_args(arguments)
    found = {table: sorted(RESULTS.rglob(f"{table}-cpu-runs.csv")) for table in args.table}
    if missing := [table for table, files in found.items() if not files]:
        published = sorted({path.name.removesuffix("-cpu-runs.csv") for path in RESULTS.rglob("*-cpu-runs.csv")})
        parser.error(f"no runs of {', '.join(missing)} are published; tables: {', '.join(published)}")
    paths = [path for files in found.values() for path in files]
    try:
        runs = merged(paths, args.env, since=0, algorithm=args.algorithm)
        if args.method not in runs:
            known = ", ".join(sorted(runs)) or "none"
            where = f"{args.env} with {args.algorithm} in {', '.join(args.table)}"
            parser.error(f"no run of {args.method} on {where}; methods: {known}")
        print("\n".join(lines(runs[args.method])))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
