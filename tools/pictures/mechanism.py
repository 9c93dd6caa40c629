"""Draw who gains against where the return is decided: recipes/paper/results/mechanism-shares.png.

    python -m tools.pictures.mechanism

The share of the return's variance that the reasoning decides at turn 1, before training, against ActFocus − Uniform in
final success and at step 10, which `tools.evidence.early_lead` prints: the three warm starts of PROTOCOL.md, stage 3,
and the packaged models, whose final success is stage 2's. Everything comes from the published results; what has none
there is not drawn.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from tools.evidence import early_lead
from verl_actfocus.experiments.report.plots import colour, marker, png
from verl_actfocus.experiments.tables.files import find_table, read_table
from verl_actfocus.storage.disk import write_whole

RECIPES = Path(__file__).parents[2] / "recipes"
RESULTS = RECIPES / "paper" / "results"
DIAGNOSES = RECIPES / "diagnose" / "results"
PICTURE = RESULTS / "mechanism-shares.png"
#: Turn at which the decision was measured.
TURN = 1
#: Step of the early difference, and the learning rate of its runs where none is chosen.
EARLY, RATE = 10, "1e-4"
#: The table whose rows say which rate every weighting has chosen in an environment.
CHOSEN = "confirmation_actfocus"
#: Height of a plot in points, to both sides of 0: Sudoku's interval does not fit.
HEIGHTS = {"final success, after 40 steps": 32, f"step {EARLY}": 16}
#: Where the two numbers of a point stand: group → tables of differences, their column of names, file of the diagnosis.
GROUPS = {
    "FrozenLake, a model for each place of the decision": (
        ("mechanism-cpu.csv", "both/mechanism-cpu.csv"),
        "model",
        str(RESULTS / "decisions-{name}-turn{turn}.json"),
    ),
    "packaged models of four environments": (
        ("confirmation_actfocus-cpu.csv",),
        "environment",
        str(DIAGNOSES / "{name}-before-decisions.json"),
    ),
}


@dataclass(frozen=True)
class Point:
    """A model: where its return is decided, and how much ActFocus gains with it. Intervals are 95 %."""

    group: str
    name: str
    #: Share of what reasoning and action decide that the reasoning decides, and its interval.
    share: float
    share_ends: tuple[float, float]
    #: ActFocus − Uniform in success, percentage points, and its interval over seeds.
    difference: float
    difference_ends: tuple[float, float]
    seeds: int


def points() -> list[Point]:
    """Read every model of which the share and the difference in final success are published."""
    found: list[Point] = []
    for group, (tables, names, _) in GROUPS.items():
        for row in (row for table in tables for row in _differences(RESULTS / table)):
            if share := _share(group, row[names]):
                value, low, high = (100 * float(row[key]) for key in ("value", "low", "high"))
                found.append(Point(group, row[names], *share, value, (low, high), int(row["seeds"])))
    return found


def early_points() -> list[Point]:
    """Read every model of which the share and the difference at the early step are published, with GRPO.

    In a packaged environment both weightings have the rate that they have chosen there.
    """
    chosen = rates()
    found = []
    for place, seeds in early_lead.pairs(EARLY).items():
        packaged = place.model == "tiny"
        rate = chosen.get(place.environment, RATE) if packaged else RATE
        if (place.algorithm, place.rate) != ("grpo", rate):
            continue
        group, name = [*GROUPS][packaged], place.environment if packaged else place.model
        if share := _share(group, name):
            values = [*seeds.values()]
            mean = float(np.mean(values))
            low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values)) if values[1:] else [np.nan] * 2
            found.append(Point(group, name, *share, mean, (float(low), float(high)), len(values)))
    return found


def rates() -> dict[str, str]:
    """Return environment → the rates that ActFocus and Uniform have chosen there, as `early_lead` writes a pair's."""
    return {
        row.env: early_lead.of_pair(*(row.learning_rates[name] for name in (early_lead.METHOD, early_lead.BASELINE)))
        for row in read_table(find_table(CHOSEN)).rows
        if row.algorithm == "grpo" and row.learning_rates
    }


def _share(group: str, name: str) -> tuple[float, tuple[float, float]] | None:
    """What the reasoning decides in a model before training, and its interval; None where it is not published."""
    file = Path(GROUPS[group][2].format(name=name, turn=TURN))
    if not file.exists():
        return None
    (decided,) = (
        one["reasoning_over_reasoning_and_action"]
        for one in json.loads(file.read_text(encoding="utf-8"))["decisions"]
        if (one["turn"], one["outcome"]) == (TURN, "success")
    )
    return decided["value"], (decided["low"], decided["high"])


def _differences(path: Path) -> list[dict[str, str]]:
    """Read the differences of ActFocus in success that have an interval."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [
            row
            for row in csv.DictReader(file)
            if (row["algorithm"], row["outcome"]) == ("grpo", "success")
            and (row["weighting"], row["number"]) == ("actfocus", "difference")
            and row["low"]
        ]


def picture(*panels: list[Point]) -> bytes:
    """Draw the points with their intervals, a plot for each of `HEIGHTS`; one that leaves a plot is cut off."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    for axes, found, (number, height) in zip(figure.subplots(1, 2), panels, HEIGHTS.items(), strict=True):
        axes.axhline(0, color="0.6", linewidth=1)
        for place, group in enumerate(GROUPS):
            _draw(axes, [one for one in found if one.group == group], place, group)
        axes.set_xlabel("decided by the reasoning, of what reasoning and action decide at turn 1")
        axes.set_title(number, fontsize=10)
        axes.set_ylabel(f"ActFocus − Uniform\n(points; intervals are cut off at ±{height})")
        axes.set_ylim(-height, height)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper right", fontsize=8, frameon=False)
    return png(figure)


def _draw(axes: Axes, some: list[Point], place: int, label: str) -> None:
    x, y = [one.share for one in some], [one.difference for one in some]
    axes.errorbar(
        x,
        y,
        xerr=_arms(x, [one.share_ends for one in some]),
        yerr=_arms(y, [one.difference_ends for one in some]),
        fmt=marker(place),
        color=colour(place),
        elinewidth=0.8,
        label=label,
    )
    for one in some:
        # Labels of neighbours stand above and below, and to the left where there is room for them only.
        x_offset, side = (-5, "right") if one.name in ("action", "reasoning") else (5, "left")
        y_offset = -11 if one.name in ("webshop", "frozenlake", "both", "sudoku") else 5
        axes.annotate(
            f"{one.name} ({one.seeds} seeds)", (one.share, one.difference), (x_offset, y_offset),
            textcoords="offset points", fontsize=8, ha=side,
        )  # fmt: skip


def _arms(values: list[float], ends: list[tuple[float, float]]) -> list[list[float]]:
    """Lengths of error bars to both sides."""
    return [
        [value - low for value, (low, _) in zip(values, ends, strict=True)],
        [high - value for value, (_, high) in zip(values, ends, strict=True)],
    ]


def main() -> None:
    """Write the picture."""
    write_whole(PICTURE, picture(points(), early_points()))
    print(PICTURE)


if __name__ == "__main__":
    main()
