"""Learning curves of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.report.escapes import literal
from verl_actfocus.experiments.report.summary import Summary, WeightingSummary
from verl_actfocus.experiments.statistics import success_rate

#: Colours of Okabe and Ito, which people with any colour vision tell apart; markers tell them apart in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")


def learning_curves(summary: Summary, title: str) -> bytes:
    """Draw success, response length, and the share of action tokens and of their weight over training.

    Args:
        summary: what to draw.
        title: stands above the figure.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(13.5, 4.4), layout="constrained")
    success, length, share = figure.subplots(1, 3)
    for index, one in enumerate(summary.weightings):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        draw_success(success, [run.outcomes() for run in one.runs], one.label, colour, marker)
        _draw_series(length, one, "rollout/response_length", colour, "-", one.label)
        _draw_series(share, one, "actfocus/weight_share/action", colour, "-", f"{one.label}: weight", 100)
        _draw_series(share, one, "actfocus/token_share/action", colour, ":", f"{one.label}: tokens", 100)
    finish(success, "Evaluation success (bands: 95 % CI)", "success rate (%)")
    finish(length, "Response length in training", "generated tokens per episode")
    finish(share, "Share of action tokens", "share of response tokens, of their weight (%)")
    success.set_ylim(bottom=0)
    length.set_ylim(bottom=0)
    share.set_ylim(0, 100)
    figure.suptitle(literal(title))
    return png(figure)


def png(figure: Figure) -> bytes:
    """Draw a figure as a PNG file."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def draw_success(axes: Axes, runs: Sequence[Mapping[int, Outcomes]], label: str, colour: str, marker: str) -> None:
    """Draw the mean success rate over seeds with its interval; with several seeds, every run as a thin line too.

    Args:
        axes: where to draw.
        runs: for each seed, the evaluations by step.
        label: name in the legend.
        colour: of matplotlib's.
        marker: of matplotlib's.
    """
    steps = sorted(set.intersection(*(set(run) for run in runs)))
    estimates = [success_rate([run[step] for run in runs]) for step in steps]
    values = [100 * estimate.value for estimate in estimates]
    ends = [estimate.interval or (estimate.value, estimate.value) for estimate in estimates]
    axes.fill_between(
        steps, [100 * low for low, _ in ends], [100 * high for _, high in ends], color=colour, alpha=0.15, linewidth=0
    )
    axes.plot(steps, values, color=colour, marker=marker, markersize=5, linewidth=2, label=literal(label))
    if len(runs) > 1:
        for run in runs:
            axes.plot(steps, [100 * run[step].rate for step in steps], color=colour, linewidth=0.7, alpha=0.6)


def _draw_series(
    axes: Axes, one: WeightingSummary, name: str, colour: str, style: str, label: str, factor: float = 1.0
) -> None:
    """Mean of a metric over the seeds; a gap where a step was not recorded, a dot for a step between two gaps."""
    series = [dict(zip(*run.series(name), strict=True)) for run in one.runs]
    steps = sorted(set.union(*(set(values) for values in series)))
    steps = list(range(steps[0], steps[-1] + 1)) if steps else []
    means = np.array([factor * np.mean([values.get(step, np.nan) for values in series]) for step in steps])
    known = np.pad(np.isfinite(means), 1)
    alone = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()
    axes.plot(steps, means, style, color=colour, linewidth=1.8, label=literal(label), marker=".", markevery=alone)


def finish(axes: Axes, title: str, unit: str) -> None:
    """Give a plot over training steps its title, axis labels and legend."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("training step")
    axes.set_ylabel(unit)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=9)
