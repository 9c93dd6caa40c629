"""Methods with ActFocus's weights against methods without, seed by seed: stage 2 of recipes/paper/PROTOCOL.md.

    python -m tools.evidence.grouped_methods

Reads the evaluations that `actfocus reproduce confirmation_methods` has written. Uniform's and ActFocus's runs are on
neither side: they were known when the comparison was declared. A seed counts once all methods have run with it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tools.evidence.published import AREA, FINAL, RESULTS, curves, numbers, over_seeds
from verl_actfocus.experiments.runs.weightings import ACTFOCUS
from verl_actfocus.experiments.tables.files import find_table, read_table
from verl_actfocus.experiments.tables.table import Table

TABLE = "confirmation_methods"
RUNS = RESULTS / f"{TABLE}-cpu-runs.csv"


def sides(table: Table) -> tuple[list[str], list[str]]:
    """Return the methods with ActFocus's weights, whatever α and estimator, and those without; not the baseline."""
    others = [name for name in table.weightings if name != table.baseline]
    inside = [name for name in others if table.weightings[name].choice.name == ACTFOCUS.name]
    return inside, [name for name in others if name not in inside]


def differences(path: Path, environment: str, table: Table) -> dict[str, dict[int, float]]:
    """Return number → seed → mean of the methods with the weights minus mean of those without, in points.

    Args:
        path: evaluations of the runs.
        environment: whose runs.
        table: whose methods and number of steps.

    Returns:
        `area`, `final` and every step evaluated after the first. Seeds that some method has not finished are left out.

    Raises:
        ValueError: runs of a seed were evaluated at different steps, or a run is there twice.
    """
    inside, outside = sides(table)
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for seed, methods in sorted(curves(path, environment).items()):
        if {*inside, *outside} - {*methods}:
            continue
        of_methods = {name: numbers(methods[name]) for name in (*inside, *outside)}
        known = {tuple(one) for one in of_methods.values()}
        if len(known) != 1:
            raise ValueError(f"{path}: the runs of seed {seed} were evaluated at different steps: {sorted(known)}")
        for number in min(known):
            means = [np.mean([of_methods[name][number] for name in side]) for side in (inside, outside)]
            found[number][seed] = float(means[0] - means[1])
    return found


def lines(path: Path = RUNS, environment: str = "frozenlake") -> list[str]:
    """Return what is printed."""
    table = read_table(find_table(TABLE))
    found = differences(path, environment, table)
    inside, outside = ([table.weightings[name].label for name in side] for side in sides(table))
    said = [f"{'; '.join(inside)} minus {'; '.join(outside)}"]
    if not found:
        return [*said, f"no seed has runs of all {len(inside) + len(outside)} methods yet"]
    seeds = [*found[AREA]]
    complete = len(seeds) == table.seeds
    said.append(f"seeds {', '.join(map(str, seeds))}{'' if complete else f' of {table.seeds}: nothing is concluded'}")
    for number in (AREA, FINAL):
        each = ", ".join(f"{value:+.1f}" for value in found[number].values())
        said.append(f"{number}: {over_seeds(found[number])} (seed by seed {each})")
    steps = [name for name in found if name not in (AREA, FINAL)]
    return [*said, *(f"step {step}, not declared: {over_seeds(found[step])}" for step in steps)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS, help="evaluations of the runs")
    parser.add_argument("--env", default="frozenlake", help="environment")
    args = parser.parse_args(arguments)
    try:
        print("\n".join(lines(args.runs, args.env)))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
