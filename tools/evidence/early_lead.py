"""In how many published pairs ActFocus is ahead of Uniform early in training, which was declared nowhere.

    python -m tools.evidence.early_lead --step 10

A pair has one seed, algorithm, model and learning rate. The runs of all tables that `actfocus reproduce` has written
are looked at, each once; success is the environment's (for WebShop strict success), and before a count stands its mean.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.evidence.chosen_rates import split
from tools.evidence.published import RESULTS, over_seeds, rows

COLUMNS = ("environment", "algorithm", "outcome", "model", "weighting", "seed", "step", "rate")
#: The rate of a miniature's configuration; a table that tries rates has them in the names of its weightings.
PACKAGED = "1e-4"
METHODS = ("actfocus", "uniform")


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
        ValueError: a file is another's, or two files have one run with different results.
    """
    found: dict[Condition, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for path in paths or sorted(RESULTS.rglob("*-cpu-runs.csv")):
        for row in rows(path, *COLUMNS):
            method, rate = _method(row["weighting"])
            if int(row["step"]) != step or row["outcome"] != "success" or method not in METHODS:
                continue
            key = Condition(row["environment"], row["model"], rate, row["algorithm"])
            runs, success = found[key][int(row["seed"])], 100 * float(row["rate"])
            if runs.setdefault(method, success) != success:
                raise ValueError(f"{path}: {method}, seed {row['seed']} of {key} has another result in another file")
    return {
        key: {seed: runs["actfocus"] - runs["uniform"] for seed, runs in seeds.items() if len(runs) == len(METHODS)}
        for key, seeds in sorted(found.items())
        if any(len(runs) == len(METHODS) for runs in seeds.values())
    }


def _method(name: str) -> tuple[str, str]:
    return (name, PACKAGED) if name in METHODS or name.count("-") < 2 else split(name)


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
