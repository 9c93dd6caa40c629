"""Which learning rate every method has chosen: stage 1 of recipes/paper/PROTOCOL.md.

    python -m tools.evidence.chosen_rates

Reads the tables that `actfocus reproduce learning_rates learning_rates_ppo` has written. The larger mean of *final*
wins; within one point of it, the smaller rate. A method that lacks a run of one of its rates has chosen none yet.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.evidence.one_rate import labels
from tools.evidence.published import RESULTS, rows
from verl_actfocus.experiments.tables.files import find_table, read_table

#: Stage 1 with GRPO, and with PPO.
DECLARED = ("learning_rates", "learning_rates_ppo")
#: What was run of it: one folder for every part.
TABLES = tuple(sorted(path for name in DECLARED for path in RESULTS.rglob(f"{name}-cpu.csv")))
#: Environment and algorithm.
Place = tuple[str, str]
#: Within so many points of the best mean the smaller rate is taken.
WITHIN = 1.0


@dataclass
class Choice:
    """What a method chose from in one environment, with one algorithm."""

    #: Rate, as the columns of the table name it → mean of *final* in per cent; None as long as a run is missing.
    finals: dict[str, float | None] = field(default_factory=dict)

    @property
    def rate(self) -> str | None:
        """The rate chosen; None before all runs of all rates are there."""
        values = {name: value for name, value in self.finals.items() if value is not None}
        if len(values) < len(self.finals):
            return None
        best = max(values.values())
        # Means are sums of whole episodes: a point's distance must not hang on the last digit of a float.
        return min((name for name, value in values.items() if best - value <= WITHIN + 1e-9), key=float)


def choices(paths: Iterable[Path] = TABLES) -> dict[Place, dict[str, Choice]]:
    """Return environment and algorithm → method → what it chose from, in the order of the declared tables.

    Raises:
        ValueError: a method's rate is in two of the files, or has more runs than the tables declare.
    """
    tables = [read_table(find_table(name)) for name in DECLARED]
    (seeds,) = {table.seeds for table in tables}
    found: dict[tuple[str, ...], float] = {}
    for path in paths:
        for row in rows(path, "environment", "algorithm", "weighting", "number", "value", "seeds"):
            if row["number"] != "final" or not row["value"]:
                continue
            key = row["environment"], row["algorithm"], row["weighting"]
            if key in found or int(row["seeds"]) > (seeds or 0):
                raise ValueError(f"{path}: {key} is there twice, or has {row['seeds']} seeds instead of {seeds}")
            if int(row["seeds"]) == seeds:
                found[key] = 100 * float(row["value"])
    made: dict[Place, dict[str, Choice]] = {}
    for table in tables:
        for place in ((one.env, one.algorithm) for one in table.rows):
            methods = made.setdefault(place, defaultdict(Choice))
            for name in table.weightings:
                method, rate = split(name)
                methods[method].finals[rate] = found.get((*place, name))
    return made


def split(name: str) -> tuple[str, str]:
    """Split the name of a column, such as `uniform-3e-5`, into method and rate."""
    method, mantissa, exponent = name.rsplit("-", 2)
    return method, f"{mantissa}-{exponent}"


def lines(made: Mapping[Place, Mapping[str, Choice]]) -> list[str]:
    """Return the lines of the table; an environment without a run of the algorithm is left out."""
    names = labels()
    rates = [*next(iter(next(iter(made.values())).values())).finals]
    table = [f"| environment | algorithm | method | {' | '.join(rates)} | chosen |", "|---" * (len(rates) + 4) + "|"]
    for place, methods in made.items():
        if all(value is None for one in methods.values() for value in one.finals.values()):
            continue
        for method, one in methods.items():
            cells = ["" if value is None else f"{value:.1f}" for value in one.finals.values()]
            table.append(f"| {' | '.join(place)} | {names[method]} | {' | '.join(cells)} | {one.rate or '–'} |")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", type=Path, default=TABLES, help="written tables, one file or more")
    args = parser.parse_args(arguments)
    try:
        print("\n".join(lines(choices(args.tables))))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
