"""In how many published pairs ActFocus is ahead of Uniform early: declared for some of Sokoban's seeds alone.

    python -m tools.evidence.early_lead --step 10

A pair has one seed, algorithm, model and learning rate. The runs of all tables that `actfocus reproduce` has written
are looked at, each once; success is the environment's (for WebShop strict success), and before a count stands its mean.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.evidence.published import RESULTS, over_seeds, rows
from verl_actfocus.experiments.runs.composition import compose_profile
from verl_actfocus.experiments.tables.files import find_table, read_table
from verl_actfocus.experiments.tables.table import Table

COLUMNS = ("environment", "algorithm", "outcome", "model", "weighting", "seed", "step", "rate")
METHOD, BASELINE = "actfocus", "uniform"


@dataclass(frozen=True, order=True)
class Condition:
    """What the runs of a pair have in common but their seed."""

    environment: str
    model: str
    rate: str
    algorithm: str


def pairs(step: int, paths: Iterable[Path] | None = None) -> dict[Condition, dict[int, float]]:
    """Return condition → seed → ActFocus minus Uniform at a step, in points.

    Args:
        step: at which both were evaluated.
        paths: evaluations of runs; all that are published where left out.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is another's, or two files have one pair with different results.
    """
    found: dict[Condition, dict[int, float]] = defaultdict(dict)
    for path in sorted(RESULTS.rglob("*-cpu-runs.csv")) if paths is None else paths:
        table = read_table(find_table(path.name.removesuffix("-cpu-runs.csv")))
        # A table that tries rates has a pair for each: `actfocus-3e-5` and `uniform-3e-5`.
        runs: dict[tuple[str, ...], dict[str, tuple[float, float]]] = defaultdict(dict)
        for row in rows(path, *COLUMNS):
            method = next((one for one in (METHOD, BASELINE) if f"{row['weighting']}-".startswith(f"{one}-")), None)
            if int(row["step"]) == step and row["outcome"] == "success" and method:
                which = row["environment"], row["model"], row["algorithm"], row["seed"]
                own = rate(table, row), 100 * float(row["rate"])
                runs[*which, row["weighting"].removeprefix(method)][method] = own
        for (environment, model, algorithm, seed, _), both in runs.items():
            if len(both) < 2:
                continue
            (first, success), (second, of_baseline) = both[METHOD], both[BASELINE]
            key = Condition(environment, model, of_pair(first, second), algorithm)
            difference = success - of_baseline
            if found[key].setdefault(int(seed), difference) != difference:
                raise ValueError(f"{path}: seed {seed} of {key} has another result in another file")
    return dict(sorted(found.items()))


def of_pair(rate: float, of_baseline: float) -> str:
    """Write the learning rates of a pair: ActFocus's, and Uniform's where it has another."""
    return written(rate) if rate == of_baseline else f"{written(rate)} and Uniform {written(of_baseline)}"


def rate(table: Table, row: Mapping[str, str]) -> float:
    """Return the learning rate of a run: its row's, its weighting's, or the miniature's own."""
    of_rows = [
        one.learning_rates.get(row["weighting"])
        for one in table.rows
        if (one.env, one.algorithm) == (row["environment"], row["algorithm"]) and one.variant in ("", row["model"])
    ]
    weighting = table.weightings.get(row["weighting"])
    known = [*of_rows, weighting.learning_rate if weighting else None]
    declared = next((one for one in known if one is not None), None)
    return packaged_rate(row["environment"]) if declared is None else declared


@cache
def packaged_rate(environment: str) -> float:
    """Return the learning rate of a miniature's own configuration, which a table or one of its rows may change."""
    return float(compose_profile(f"cpu_{environment}").actor_rollout_ref.actor.optim.lr)


def written(value: float) -> str:
    """Write a rate as the names of weightings do: `1e-4`."""
    return f"{value:.0e}".replace("e-0", "e-")


def lines(found: Mapping[Condition, Mapping[int, float]]) -> Iterator[str]:
    """Yield a line for every condition, and one for the algorithms of an environment, model and rate together."""
    together: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for key, seeds in found.items():
        conditions = f"{key.environment}, {key.model}, {key.rate}, {key.algorithm}"
        names = ", ".join(map(str, sorted(seeds)))
        yield f"{conditions}: {over_seeds(seeds)}; {_ahead(seeds.values())} (seeds {names})"
        together[key.environment, key.model, key.rate] += seeds.values()
    for shared, differences in together.items():
        yield f"{', '.join(shared)} together: {_ahead(differences)}"


def _ahead(differences: Iterable[float]) -> str:
    values = [*differences]
    return f"ahead in {sum(value > 0 for value in values)} of {len(values)} pairs"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=int, default=10, help="at which both were evaluated")
    args = parser.parse_args(arguments)
    try:
        found = pairs(args.step)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not found:
        parser.error(f"no published pair was evaluated at step {args.step}")
    print("\n".join(lines(found)))


if __name__ == "__main__":
    main()
