"""Two methods of stages 2 and 6 against each other, paired by seed: what recipes/paper/PROTOCOL.md does not declare.

    python -m tools.evidence.two_methods gigpo-actfocus gigpo

Reads the evaluations that `actfocus reproduce` has written of the protocol's three questions and of stage 6. p-values
are not corrected: nothing is concluded from them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

from tools.evidence.published import AREA, FINAL, curves, numbers, over_seeds
from verl_actfocus.experiments.table_files import tables_folder

TABLES = ("confirmation_methods", "confirmation_actfocus", "confirmation_normalizer", "format")
RUNS = [tables_folder() / "results" / f"{table}-cpu-runs.csv" for table in TABLES]


def differences(method: str, other: str, environment: str) -> dict[str, dict[int, float]]:
    """Return `area`, `final` and step → seed → method minus other, in points.

    Raises:
        ValueError: there is no seed with both.
    """
    runs: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for path in RUNS:
        for seed, methods in curves(path, environment).items():
            for name, curve in methods.items():
                runs[name][seed] = numbers(curve)
    seeds = sorted(runs.get(method, {}).keys() & runs.get(other, {}).keys())
    if not seeds:
        known = ", ".join(sorted(runs)) or "none"
        raise ValueError(f"no seed of {environment} has runs of {method} and {other}; methods: {known}")
    one, two = runs[method], runs[other]
    return {number: {seed: one[seed][number] - two[seed][number] for seed in seeds} for number in one[seeds[0]]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="such as gigpo-actfocus")
    parser.add_argument("other", help="what is subtracted")
    parser.add_argument("--env", default="frozenlake", help="environment")
    args = parser.parse_args(arguments)
    try:
        found = differences(args.method, args.other, args.env)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for number, values in found.items():
        name = number if number in (AREA, FINAL) else f"step {number}"
        print(f"{name}: {over_seeds(values)} (seeds {', '.join(map(str, values))})")


if __name__ == "__main__":
    main()
