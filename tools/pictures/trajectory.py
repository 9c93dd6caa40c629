"""Draw the first response of a recorded trajectory, every token coloured by its weight: docs/images/trajectory.png.

    python -m tools.pictures.trajectory RUN/trajectories/1.jsonl --line 1 --out docs/images/trajectory.png

A run of `actfocus compare` or `actfocus train` writes the file. The upper row shows the weights of Uniform, the
lower one those that the run has recorded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from verl_actfocus.trajectories import Trajectory, read_trajectories

WIDTH = 100
"""Characters of a line of tokens."""
COLOURS = colormaps["Oranges"]
DARKEST = 0.62
"""Where on the colour map the largest weight lies: black text stays easy to read on it."""
LARGEST = 1.5
"""The weight with the darkest colour: `1 + beta` of the paper's setting."""
MONO = "DejaVu Sans Mono"


def first_response(trajectory: Trajectory) -> tuple[list[str], list[float]]:
    """Return tokens and weights of a trajectory's first response."""
    tokens = zip(trajectory.turns, trajectory.tokens, trajectory.signals["weight"], strict=True)
    first = [(text, weight) for turn, text, weight in tokens if turn == 0 and weight is not None]
    return [text for text, _ in first], [weight for _, weight in first]


def draw_tokens(axes: Axes, title: str, tokens: list[str], weights: list[float]) -> None:
    """Draw tokens line by line; `axes` counts characters to the right and lines downwards."""
    column, line = 0, 0
    axes.text(0, -0.2, title, fontsize=11, fontweight="bold", va="bottom")
    for token, weight in zip(tokens, weights, strict=True):
        if column + len(token) > WIDTH:
            column, line = 0, line + 1
        colour = COLOURS(DARKEST * min(1.0, weight / LARGEST))
        axes.barh(line + 0.5, len(token), left=column, height=0.86, color=colour, edgecolor="white", linewidth=1)
        axes.text(column + len(token) / 2, line + 0.5, token.strip(), family=MONO, fontsize=9, ha="center", va="center")
        column += len(token)
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(2.3, -0.9)
    axes.set_axis_off()


def draw(trajectory: Trajectory) -> Figure:
    """Draw a trajectory's state and its first response under both weightings."""
    tokens, weights = first_response(trajectory)
    state = trajectory.prompt.partition("Turn 1\n")[2].partition("\nActions left")[0]
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=[1, 6])).ravel()
    left.text(0.12, 0.86, "the state", fontsize=11, fontweight="bold")
    left.text(0.12, 0.82, state, family=MONO, fontsize=9, va="top")
    uniform, recorded, legend = right.subplots(3, 1, height_ratios=[4, 4, 1])
    draw_tokens(uniform, "Uniform: every token has the same weight", tokens, [1.0] * len(tokens))
    draw_tokens(recorded, "ActFocus: reasoning 0.1, action tokens 1 to 1.5 by energy", tokens, weights)
    steps = 60
    for n in range(steps):
        value = LARGEST * n / steps
        legend.barh(0, LARGEST / steps, left=value, color=COLOURS(DARKEST * value / LARGEST))
    legend.set_xlim(0, 6)
    legend.set_yticks([])
    legend.set_xticks([0, 0.5, 1, 1.5], ["weight 0", "0.5", "1", "1.5"], fontsize=9)
    legend.spines[["top", "right", "left", "bottom"]].set_visible(False)
    return figure


def main() -> None:
    """Read one trajectory and write its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="trajectories of a training step")
    parser.add_argument("--line", type=int, default=1, help="line of the file, from 1 (default 1)")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    args = parser.parse_args()
    trajectories = list(read_trajectories(args.file))
    if not 1 <= args.line <= len(trajectories):
        parser.error(f"--line {args.line}: {args.file} has {len(trajectories)} lines")
    FigureCanvasAgg(draw(trajectories[args.line - 1])).print_png(str(args.out))


if __name__ == "__main__":
    main()
