"""Learning curves of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from statistics import median_high

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
    """Draw success, response length and the shares of action tokens over training, below them the exact gradients.

    The second row is there if a run has recorded it (`algorithm.actfocus.gradient_report`).

    Args:
        summary: what to draw.
        title: stands above the figure.

    Returns:
        A PNG file.
    """
    exact = any(_named(one, "actfocus/gradient_norm/action") for one in summary.weightings)
    figure = Figure(figsize=(13.5, 8.8 if exact else 4.4), layout="constrained")
    (success, length, share), *below = figure.subplots(2 if exact else 1, 3, squeeze=False)
    for index, one in enumerate(summary.weightings):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        draw_success(success, [run.outcomes() for run in one.runs], one.label, colour, marker)
        _draw_named(length, one, "rollout/response_length", colour, "-", one.label)
        _draw_named(share, one, "actfocus/weight_share/action", colour, "-", f"{one.label}: weight", 100)
        _draw_named(
            share, one, "actfocus/gradient_share/action", colour, "--", f"{one.label}: weight × |advantage|", 100
        )
        _draw_named(share, one, "actfocus/token_share/action", colour, ":", f"{one.label}: tokens", 100)
        for row in below:
            _draw_gradient(row, one, colour)
    finish(success, "Evaluation success (bands: 95 % CI)", "success rate (%)")
    finish(length, "Response length in training", "generated tokens per episode")
    finish(share, "Share of action tokens", "share of tokens, weight, weight × |advantage| (%)")
    success.set_ylim(bottom=0)
    length.set_ylim(bottom=0)
    share.set_ylim(0, 100)
    for norm, cosine, noise in below:
        finish(norm, "Exact gradient of a mini-batch by span", "norm")
        finish(cosine, "Between the gradients of reasoning and action", "cosine")
        finish(noise, "Noise in the gradient of a mini-batch", "variance over squared norm")
        norm.set_ylim(bottom=0)
    figure.suptitle(literal(title))
    return png(figure)


def _named(one: WeightingSummary, name: str) -> list[dict[int, float]]:
    """Step → value of a metric, for each seed that has recorded it."""
    series = [dict(zip(*run.series(name), strict=True)) for run in one.runs]
    return [values for values in series if values]


def _draw_named(
    axes: Axes, one: WeightingSummary, name: str, colour: str, style: str, label: str, factor: float = 1.0
) -> None:
    if series := _named(one, name):
        draw_series(axes, series, colour, style, label, factor)


def _draw_gradient(row: Sequence[Axes], one: WeightingSummary, colour: str) -> None:
    norm, cosine, noise = row
    for span, style in {"action": "-", "reasoning": "--", "none": ":"}.items():
        label = f"{one.label}: {'other' if span == 'none' else span}"
        _draw_named(norm, one, f"actfocus/gradient_norm/{span}", colour, style, label)
    _draw_named(cosine, one, "actfocus/gradient_cosine", colour, "-", one.label)
    for kind, style in {"weighted": "-", "unweighted": ":"}.items():
        _draw_named(noise, one, f"actfocus/gradient_noise_share/{kind}", colour, style, f"{one.label}: {kind}")


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


def draw_series(
    axes: Axes, series: Sequence[Mapping[int, float]], colour: str, style: str, label: str, factor: float = 1.0
) -> None:
    """Draw the mean of a metric over the seeds, a gap where a step was not recorded.

    Of a metric that is recorded at every step only values between two gaps get a dot, otherwise all do.

    Args:
        axes: where to draw.
        series: step → value, for each seed.
        colour: of matplotlib's.
        style: of matplotlib's lines.
        label: name in the legend.
        factor: every value is multiplied by it.
    """
    recorded = sorted(set().union(*series))
    # A metric may be recorded at every tenth step: a gap is longer than the usual distance of two steps.
    usual = median_high(later - step for step, later in pairwise(recorded)) if len(recorded) > 1 else 1
    steps: list[int] = []
    for step in recorded:
        steps += [step - usual] if steps and step - steps[-1] > usual else []
        steps.append(step)
    means = np.array([factor * np.mean([values.get(step, np.nan) for values in series]) for step in steps])
    known = np.pad(np.isfinite(means), 1)
    alone = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()
    dots = alone if usual == 1 else None
    axes.plot(steps, means, style, color=colour, linewidth=1.8, label=literal(label), marker=".", markevery=dots)


def finish(axes: Axes, title: str, unit: str) -> None:
    """Give a plot over training steps its title, axis labels and legend; an empty one says so."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("training step")
    axes.set_ylabel(unit)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not axes.get_lines():
        axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
        return
    many = len(axes.get_lines()) > 6
    axes.legend(framealpha=0.7, edgecolor="none", fontsize=8 if many else 9, ncols=2 if many else 1)
