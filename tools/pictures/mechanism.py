"""Draw who gains against where the return is decided: recipes/paper/results/mechanism-shares.png.

    python -m tools.pictures.mechanism

The share of the return's variance that the reasoning decides at turn 1, before training, against ActFocus − Uniform in
final success: the three warm starts of PROTOCOL.md, stage 3, and the packaged models of Table 6. Everything comes from
the published results; what has none there is not drawn.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from verl_actfocus.experiments.disk import write_whole
from verl_actfocus.experiments.report.plots import colour, marker, png

RECIPES = Path(__file__).parents[2] / "recipes"
RESULTS = RECIPES / "paper" / "results"
DIAGNOSES = RECIPES / "diagnose" / "results"
PICTURE = RESULTS / "mechanism-shares.png"
#: Turn at which the decision was measured.
TURN = 1
#: Height of the picture in points, to both sides of 0: an interval over two seeds does not fit.
HEIGHT = 32
#: Where the two numbers of a point stand: group → tables of differences, their column of names, file of the diagnosis.
GROUPS = {
    "FrozenLake, a model for each place of the decision (40 steps)": (
        ("mechanism-cpu.csv", "both/mechanism-cpu.csv"),
        "model",
        str(RESULTS / "decisions-{name}-turn{turn}.json"),
    ),
    "packaged models of four environments (20 steps)": (
        ("table6-cpu.csv",),
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
    #: ActFocus − Uniform in final success, percentage points, and its interval.
    difference: float
    difference_ends: tuple[float, float]
    seeds: int


def points() -> list[Point]:
    """Read every model of which both numbers are published."""
    found = []
    for group, (tables, names, diagnosis) in GROUPS.items():
        for row in (row for table in tables for row in _differences(RESULTS / table)):
            file = Path(diagnosis.format(name=row[names], turn=TURN))
            if not file.exists():
                continue
            (decided,) = (
                one["reasoning_over_reasoning_and_action"]
                for one in json.loads(file.read_text(encoding="utf-8"))["decisions"]
                if (one["turn"], one["outcome"]) == (TURN, "success")
            )
            found.append(
                Point(
                    group=group,
                    name=row[names],
                    share=decided["value"],
                    share_ends=(decided["low"], decided["high"]),
                    difference=100 * float(row["value"]),
                    difference_ends=(100 * float(row["low"]), 100 * float(row["high"])),
                    seeds=int(row["seeds"]),
                )
            )
    return found


def _differences(path: Path) -> list[dict[str, str]]:
    """Read the differences of ActFocus in success that have an interval."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [
            row
            for row in csv.DictReader(file)
            if (row["weighting"], row["outcome"], row["number"]) == ("actfocus", "success", "difference") and row["low"]
        ]


def picture(found: list[Point]) -> bytes:
    """Draw the points with their intervals; one that leaves the picture is cut off."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="0.6", linewidth=1)
    for place, group in enumerate(GROUPS):
        some = [one for one in found if one.group == group]
        x, y = [one.share for one in some], [one.difference for one in some]
        axes.errorbar(
            x,
            y,
            xerr=_arms(x, [one.share_ends for one in some]),
            yerr=_arms(y, [one.difference_ends for one in some]),
            fmt=marker(place),
            color=colour(place),
            elinewidth=0.8,
            label=group,
        )
        for one in some:
            text = f"{one.name} ({one.seeds} seed{'s' if one.seeds > 1 else ''})"
            axes.annotate(text, (one.share, one.difference), (5, 5), textcoords="offset points", fontsize=8)
    axes.set_xlabel("decided by the reasoning, of what reasoning and action decide at turn 1")
    axes.set_ylabel(f"ActFocus − Uniform, final success\n(points; intervals are cut off at ±{HEIGHT})")
    axes.set_ylim(-HEIGHT, HEIGHT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return png(figure)


def _arms(values: list[float], ends: list[tuple[float, float]]) -> list[list[float]]:
    """Lengths of error bars to both sides."""
    return [
        [value - low for value, (low, _) in zip(values, ends, strict=True)],
        [high - value for value, (_, high) in zip(values, ends, strict=True)],
    ]


def main() -> None:
    """Write the picture."""
    write_whole(PICTURE, picture(points()))
    print(PICTURE)


if __name__ == "__main__":
    main()
