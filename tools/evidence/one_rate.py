"""All methods at one learning rate, each against Uniform: the first look of recipes/paper/PROTOCOL.md.

    python -m tools.evidence.one_rate

Reads the evaluations that `actfocus reproduce learning_rates` has written. Two runs of a method say next to nothing of
its scatter; Dunnett's test takes it from the runs of all methods together, and its intervals hold for all comparisons
at once.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from tools.evidence import published
from tools.evidence.published import RESULTS, in_points
from verl_actfocus.experiments.runs.weightings import ACTFOCUS
from verl_actfocus.experiments.tables.files import find_table, read_table
from verl_actfocus.experiments.tables.table import Weighting

#: Uniform's and ActFocus's, and those of the other methods.
RUNS = (RESULTS / "learning_rates-cpu-runs.csv", RESULTS / "other-methods" / "learning_rates-cpu-runs.csv")
#: Five other seeds of Uniform and ActFocus at the same rate, as long.
TABLE_6 = RESULTS / "table6-cpu-runs.csv"
BASELINE, RATE = "uniform", "1e-4"
COLUMNS = ("environment", "weighting", "seed", "step", "rate")
NUMBERS = ("final", "area")
#: The first evaluation after training began; no comparison was declared for it.
HALFWAY = "halfway"
#: Dunnett's p-values are found by drawing.
SEED = 0


@dataclass(frozen=True)
class Row:
    """A method against Uniform, all in percentage points."""

    label: str
    mean: float
    #: None for Uniform itself.
    difference: float | None = None
    low: float = float("nan")
    high: float = float("nan")
    p_value: float = float("nan")


def read(paths: Sequence[Path], environment: str, rate: str = RATE) -> dict[str, dict[str, list[float]]]:
    """Return number (of `NUMBERS`, and `HALFWAY`) → method → its value in per cent for every seed, at one rate.

    Args:
        paths: evaluations of the runs, as `actfocus reproduce` writes them.
        environment: whose runs.
        rate: as the columns of the table name it.

    Raises:
        ValueError: a method of the table is missing or is none of it, methods have different seeds, or a run is there
            twice.
    """
    curves: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for row in (row for path in paths for row in published.rows(path, *COLUMNS)):
        if row["environment"] == environment and row["weighting"].endswith(f"-{rate}"):
            method = row["weighting"].removesuffix(f"-{rate}")
            if int(row["step"]) in curves[method, row["seed"]]:
                raise ValueError(f"{method}, seed {row['seed']}, is in two of the files {[*map(str, paths)]}")
            curves[method, row["seed"]][int(row["step"])] = 100 * float(row["rate"])
    seeds: dict[str, list[str]] = defaultdict(list)
    for method, seed in sorted(curves):
        seeds[method].append(seed)
    if {*seeds} != {*labels()} or any(one != seeds[BASELINE] for one in seeds.values()):
        files = ", ".join(map(str, paths))
        raise ValueError(
            f"{files}, {environment}: methods at {rate} and their seeds are {dict(seeds)}, wanted are {[*labels()]}"
        )
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in (*NUMBERS, HALFWAY)}
    for (method, _), curve in sorted(curves.items()):
        trained = [success for step, success in sorted(curve.items()) if step > 0]
        found["final"][method].append(trained[-1])
        found["area"][method].append(float(np.mean(trained)))
        found[HALFWAY][method].append(trained[0])
    return found


def compared(values: dict[str, list[float]], labels: dict[str, str]) -> list[Row]:
    """Compare every method with Uniform."""
    others = [name for name in labels if name != BASELINE]
    with warnings.catch_warnings():
        # Two equal runs of a method have no variance of their own, which matters not: all methods' are taken together.
        warnings.filterwarnings("ignore", message="Precision loss occurred", category=RuntimeWarning)
        test = stats.dunnett(
            *(values[name] for name in others), control=values[BASELINE], random_state=np.random.default_rng(SEED)
        )
    interval = test.confidence_interval(0.95)
    control = float(np.mean(values[BASELINE]))
    rows = [Row(labels[BASELINE], control)]
    for name, low, high, p_value in zip(others, interval.low, interval.high, test.pvalue, strict=True):
        mean = float(np.mean(values[name]))
        rows.append(Row(labels[name], mean, mean - control, float(low), float(high), float(p_value)))
    return rows


def grouped(values: dict[str, list[float]], inside: Sequence[str]) -> Row:
    """Compare the mean of some methods with the mean of all others, by Student's t with the scatter of all together.

    Args:
        values: method → its runs, equally many of each.
        inside: the methods on the one side.
    """
    sides = [
        [float(np.mean(one)) for name, one in values.items() if (name in inside) == side] for side in (True, False)
    ]
    mean, other = (float(np.mean(side)) for side in sides)
    runs = len(next(iter(values.values())))
    error = scatter(values) * np.sqrt(sum(1 / (len(side) * runs) for side in sides))
    freedom = len(values) * (runs - 1)
    half = float(stats.t.ppf(0.975, freedom) * error)
    difference = mean - other
    p_value = float(2 * stats.t.sf(abs(difference) / error, freedom))
    return Row("with ActFocus's weights", mean, difference, difference - half, difference + half, p_value)


def earlier(path: Path = TABLE_6) -> Row:
    """Compare ActFocus with Uniform in *area* in the runs of Table 6, FrozenLake, paired by seed."""
    curves: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in published.rows(path, *COLUMNS):
        if row["environment"] == "frozenlake" and int(row["step"]) > 0:
            curves[row["weighting"], row["seed"]].append(100 * float(row["rate"]))
    seeds = sorted(seed for name, seed in curves if name == BASELINE)
    pairs = np.array([[np.mean(curves[name, seed]) for name in (ACTFOCUS.name, BASELINE)] for seed in seeds])
    differences = pairs[:, 0] - pairs[:, 1]
    low, high = stats.t.interval(0.95, len(seeds) - 1, differences.mean(), stats.sem(differences))
    p_value = float(stats.ttest_1samp(differences, 0).pvalue)
    return Row("ActFocus", float(pairs[:, 0].mean()), float(differences.mean()), float(low), float(high), p_value)


def scatter(values: dict[str, list[float]]) -> float:
    """Standard deviation of a run, from all methods together."""
    return float(np.sqrt(np.mean([np.var(one, ddof=1) for one in values.values()])))


def labels() -> dict[str, str]:
    """Return method → its label, in the order of the table."""
    return {name: one.label.rpartition(",")[0] for name, one in _methods().items()}


def with_actfocus() -> list[str]:
    """Return the methods whose tokens ActFocus weights, whatever α, normaliser and estimator."""
    return [name for name, one in _methods().items() if one.choice.name == ACTFOCUS.name]


def _methods() -> dict[str, Weighting]:
    weightings = read_table(find_table("learning_rates")).weightings
    ending = f"-{RATE}"
    return {name.removesuffix(ending): one for name, one in weightings.items() if name.endswith(ending)}


def table(paths: Sequence[Path] = RUNS, environment: str = "frozenlake", rate: str = RATE) -> list[str]:
    """Return the lines of the table."""
    found = read(paths, environment, rate)
    names = labels()
    finals, areas = (compared(found[number], names) for number in NUMBERS)
    lines = ["| method | final | final − Uniform | area | area − Uniform |", "|---|---|---|---|---|"]
    for final, area in zip(finals, areas, strict=True):
        cells = [cell for one in (final, area) for cell in (f"{one.mean:.1f}", _difference(one))]
        lines.append(f"| {final.label} | {' | '.join(cells)} |")
    deviations = " and ".join(f"{scatter(found[number]):.1f} ({number})" for number in NUMBERS)
    seeds = len(next(iter(found["final"].values())))
    sides = [f"{number} {_difference(grouped(found[number], with_actfocus()))}" for number in NUMBERS]
    halfway = zip(found[HALFWAY][ACTFOCUS.name], found[HALFWAY][BASELINE], strict=True)
    pairs = ", ".join(f"{own - other:+.1f}" for own, other in halfway)
    means = ", ".join(f"{label} {np.mean(found[HALFWAY][name]):.1f}" for name, label in names.items())
    return [
        *lines,
        "",
        f"{seeds} seeds; standard deviation of a run, all methods together: {deviations} points.",
        f"Not declared: methods with ActFocus's weights ({', '.join(names[name] for name in with_actfocus())}) minus "
        f"the others: {'; '.join(sides)}.",
        f"Not declared: success at the first evaluation: {means}.",
        f"Not declared: ActFocus minus Uniform at the first evaluation, seed by seed: {pairs}.",
    ]


def _difference(row: Row) -> str:
    if row.difference is None:
        return ""
    return in_points(row.difference, row.low, row.high, row.p_value)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", type=Path, default=RUNS, help="evaluations of the runs, one file or more")
    parser.add_argument("--env", default="frozenlake", help="environment")
    parser.add_argument("--rate", default=RATE, help=f"learning rate; the declared look is at {RATE}, the default")
    args = parser.parse_args()
    try:
        print("\n".join(table(args.runs, args.env, args.rate)))
        print(
            "Not declared: ActFocus minus Uniform in Table 6, FrozenLake, paired by seed: area "
            f"{_difference(earlier())}."
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
