"""The declared contrast of PROTOCOL.md, stage 3, looked at in ways that were not declared, for RESULTS.md.

    python -m tools.evidence.contrast_checks

From `recipes/paper/results/mechanism-cpu-runs.csv`: the contrast at every evaluation, paired by seed, and under an
exact permutation of the differences between the two models.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RUNS = Path(__file__).parents[2] / "recipes" / "paper" / "results" / "mechanism-cpu-runs.csv"
LARGER, THAN = "action", "reasoning"


def differences(path: Path = RUNS) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Return (model, step) → ActFocus − Uniform by seed, ascending, in points; step -1 is the area."""
    rates: dict[tuple[str, str, int], dict[int, float]] = defaultdict(dict)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rates[row["model"], row["weighting"], int(row["step"])][int(row["seed"])] = 100 * float(row["rate"])
    steps = sorted({step for *_, step in rates} - {0})
    found = {}
    for model in (LARGER, THAN):
        of_model = []
        for step in steps:
            own, other = rates[model, "actfocus", step], rates[model, "uniform", step]
            of_model.append(np.array([own[seed] - other[seed] for seed in sorted(own)]))
            found[model, step] = of_model[-1]
        found[model, -1] = np.mean(of_model, axis=0)
    return found


def permutation_p_value(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Share of all ways to deal out the values in which the means are at least as far apart, in either direction."""
    values, count = np.concatenate([first, second]), len(first)
    observed = abs(first.mean() - second.mean())
    apart = [
        abs(values[list(chosen)].mean() - np.delete(values, list(chosen)).mean())
        for chosen in combinations(range(len(values)), count)
    ]
    return float(np.mean([one >= observed - 1e-9 for one in apart]))


def main() -> None:
    """Print them."""
    found = differences()
    steps = sorted({step for _, step in found} - {-1})
    by_step = [f"{(found[LARGER, step].mean() - found[THAN, step].mean()):+.1f} (step {step})" for step in steps]
    print(f"contrast, points: {', '.join(by_step)}")
    area = [found[model, -1] for model in (LARGER, THAN)]
    print(f"area, exact permutation: p = {permutation_p_value(*area):.3f}")
    paired = stats.ttest_rel(*area)
    low, high = paired.confidence_interval()
    print(f"area, paired by seed: {(area[0] - area[1]).mean():+.1f} [{low:+.1f}, {high:+.1f}], p = {paired.pvalue:.3f}")


if __name__ == "__main__":
    main()
