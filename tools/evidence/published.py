"""What the tools that look at published results have in common."""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy import stats

from verl_actfocus.experiments.tables.files import tables_folder

AREA, FINAL = "area", "final"
ALGORITHMS = GRPO, PPO = "grpo", "ppo"
RESULTS = tables_folder() / "results"
#: The protocol's three questions, and stage 6, whose runs are paired with theirs.
CONFIRMATION = ("confirmation_methods", "confirmation_actfocus", "confirmation_normalizer", "format")


def rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """Read a file that `actfocus reproduce` has written.

    Args:
        path: the file.
        columns: what is needed of it.

    Raises:
        OSError: it cannot be read.
        ValueError: a column is missing; the message names file and columns.
    """
    table = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    missing = [name for name in columns if name not in (table.fieldnames or ())]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}: name a file that `actfocus reproduce` has written")
    return list(table)


def in_points(difference: float, low: float, high: float, p_value: float) -> str:
    """Write a difference in percentage points with its interval and p-value."""
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return f"{difference:+.1f} [{low:+.1f}, {high:+.1f}], {chance}"


def curves(
    path: Path, environment: str, since: int = 1, algorithm: str = GRPO
) -> dict[int, dict[str, dict[int, float]]]:
    """Return seed → method → step → success in points.

    Args:
        path: evaluations of the runs.
        environment: whose runs.
        since: the first step looked at; 0 is the evaluation before training.
        algorithm: with which they were trained.

    Raises:
        OSError: the file cannot be read.
        ValueError: a run is there twice, or the file is another's.
    """
    found: dict[int, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    wanted = environment, algorithm, "success"
    for row in rows(path, "environment", "algorithm", "outcome", "weighting", "seed", "step", "rate"):
        if (row["environment"], row["algorithm"], row["outcome"]) == wanted and int(row["step"]) >= since:
            curve = found[int(row["seed"])][row["weighting"]]
            if int(row["step"]) in curve:
                raise ValueError(f"{path}: {row['weighting']}, seed {row['seed']}, step {row['step']} is there twice")
            curve[int(row["step"])] = 100 * float(row["rate"])
    return found


def merged(
    paths: Iterable[Path], environment: str, since: int = 1, algorithm: str = GRPO
) -> dict[str, dict[int, dict[int, float]]]:
    """Return method → seed → step → success in points, of several files that share runs.

    Args:
        paths: evaluations of the runs.
        environment: whose runs.
        since: the first step looked at.
        algorithm: with which they were trained.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is another's, or two of them have a run with different results.
    """
    found: dict[str, dict[int, dict[int, float]]] = defaultdict(dict)
    for path in paths:
        for seed, methods in curves(path, environment, since, algorithm).items():
            for name, curve in methods.items():
                if found[name].setdefault(seed, curve) != curve:
                    raise ValueError(f"{path}: {name}, seed {seed} has other results in another file")
    return found


def confirmed(environment: str, algorithm: str = GRPO) -> dict[str, dict[int, dict[int, float]]]:
    """Return what `merged` does of all that stages 2 and 6 have published."""
    return merged([RESULTS / f"{table}-cpu-runs.csv" for table in CONFIRMATION], environment, algorithm=algorithm)


def add_where(parser: argparse.ArgumentParser) -> None:
    """Add the options that say whose runs are looked at, `--env` and `--algorithm`."""
    parser.add_argument("--env", default="frozenlake", help="environment")
    parser.add_argument("--algorithm", default=GRPO, choices=ALGORITHMS, help="with which the runs were trained")


def numbers(curve: Mapping[int, float]) -> dict[str, float]:
    """Return `area`, `final` and every step of a curve."""
    by_step = {str(step): success for step, success in sorted(curve.items())}
    return {AREA: float(np.mean([*curve.values()])), FINAL: curve[max(curve)], **by_step}


def over_seeds(values: Mapping[int, float]) -> str:
    """Write the mean of differences with Student's interval over the seeds, where there are two."""
    points = np.array([*values.values()])
    if len(points) < 2:
        return f"{points.mean():+.1f} (one seed)"
    low, high = stats.t.interval(0.95, len(points) - 1, points.mean(), stats.sem(points))
    return in_points(float(points.mean()), low, high, float(stats.ttest_1samp(points, 0).pvalue))
