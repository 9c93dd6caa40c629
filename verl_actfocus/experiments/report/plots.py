"""Learning curves of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from statistics import median_high
from textwrap import fill
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.report.escapes import literal
from verl_actfocus.experiments.report.summary import Summary, WeightingSummary
from verl_actfocus.experiments.results.statistics import success_rate

#: Colours of Okabe and Ito, which people with any colour vision tell apart, and grey for their yellow, which hardly
#: shows on white. Markers tell them apart in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#888888")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
#: One of matplotlib's line styles: a name, or an offset with the lengths of dashes and gaps.
LineStyle: TypeAlias = str | tuple[int, tuple[int, ...]]
#: Styles of several metrics in one plot; those behind the first four are for the groups that colours repeat for.
STYLES: tuple[LineStyle, ...] = (
    "-", "--", ":", "-.",
    (0, (8, 2)), (0, (2, 2)), (0, (1, 3)), (0, (6, 2, 1, 2, 1, 2)),
    (0, (10, 4)), (0, (4, 1)), (0, (1, 5)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
#: Most metrics in one plot.
MOST = 4
#: Opacity of the parts of a line that are a mean of fewer seeds than it has.
PALE = 0.35
#: Name in the legend of the pale parts of lines.
FEWER_SEEDS = "pale: mean of fewer seeds"
#: Height of an entry of a legend in inches, characters in its line, and those of an entry where two stand in a line.
_ENTRY_HEIGHT, _ENTRY_WIDTH, _HALF_WIDTH = 0.17, 60, 26


def colour(index: int) -> str:
    """Return the colour of what has this place in the order of a report; they repeat from the ninth on."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Return its marker, another one where the colours repeat."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def line_style(index: int, metric: int = 0) -> LineStyle:
    """Return the style of one of its metrics, another one where the colours repeat."""
    return STYLES[(MOST * (index // len(COLOURS)) + metric) % len(STYLES)]


#: Kinds of a span's shares in the order of their styles, and their names for people.
_SHARES = {"weight": "weight", "gradient": "weight × |advantage|", "token": "tokens"}


#: What the bands of `draw_success` are, for titles.
BANDS = "bands: 95 % CI, none for two seeds"


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
        draw_success(success, [run.outcomes() for run in one.runs], one.label, colour(index), marker(index))
        _draw_named(length, one, "rollout/response_length", index, 0, one.label)
        for place, (kind, what) in enumerate(_SHARES.items()):
            _draw_named(share, one, f"actfocus/{kind}_share/action", index, place, f"{one.label}: {what}", 100)
        for row in below:
            _draw_gradient(row, one, index)
    finish(success, f"Evaluation success ({BANDS})", "success rate (%)")
    finish(length, "Response length in training", "generated tokens per episode")
    finish(share, "Share of action tokens", "share of tokens, weight, weight × |advantage| (%)")
    from_ten_below(success)
    from_zero(length)
    share.set_ylim(0, 100)
    for norm, cosine, noise in below:
        finish(norm, "Exact gradient of a mini-batch by span", "norm")
        finish(cosine, "Between the gradients of reasoning and action", "cosine")
        finish(noise, "Noise in the gradient of a mini-batch", "variance over squared norm")
        from_zero(norm)
    put_title(figure, title)
    make_room_for_legends(figure)
    return png(figure)


def _named(one: WeightingSummary, name: str) -> list[dict[int, float]]:
    """Step → value of a metric, for each seed that has recorded it."""
    series = [dict(zip(*run.series(name), strict=True)) for run in one.runs]
    return [values for values in series if values]


def _draw_named(
    axes: Axes, one: WeightingSummary, name: str, index: int, metric: int, label: str, factor: float = 1.0
) -> None:
    if series := _named(one, name):
        draw_series(axes, series, colour(index), line_style(index, metric), label, factor)


def _draw_gradient(row: Sequence[Axes], one: WeightingSummary, index: int) -> None:
    norm, cosine, noise = row
    for place, span in enumerate(("action", "reasoning", "none")):
        label = f"{one.label}: {'other' if span == 'none' else span}"
        _draw_named(norm, one, f"actfocus/gradient_norm/{span}", index, place, label)
    _draw_named(cosine, one, "actfocus/gradient_cosine", index, 0, one.label)
    for place, kind in enumerate(("weighted", "unweighted")):
        _draw_named(noise, one, f"actfocus/gradient_noise_share/{kind}", index, 2 * place, f"{one.label}: {kind}")


def put_title(figure: Figure, text: str) -> None:
    """Put a title above a figure, in as many lines as its width needs: names come from files and may be long.

    Args:
        figure: of its final width.
        text: as it is to be read; dollar signs are no formula.
    """
    title = figure.suptitle(literal(text))
    for width in range(len(text), 0, -1):
        if title.get_window_extent().width <= 0.98 * figure.bbox.width:
            return
        title.set_text(literal(fill(text, width)))


def png(figure: Figure) -> bytes:
    """Draw a figure as a PNG file."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def draw_success(axes: Axes, runs: Sequence[Mapping[int, Outcomes]], label: str, colour: str, marker: str) -> None:
    """Draw the mean success rate over seeds with its interval; with several seeds, every run as a thin line too.

    Two seeds have no band: it would be Student's interval with one degree of freedom, which fills the plot, and the two
    lines say all that is known.

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
    if len(runs) != 2:
        low, high = ([100 * pair[side] for pair in ends] for side in (0, 1))
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(steps, values, color=colour, marker=marker, markersize=5, linewidth=2, label=literal(label))
    if len(runs) > 1:
        for run in runs:
            axes.plot(steps, [100 * run[step].rate for step in steps], color=colour, linewidth=0.7, alpha=0.6)


def draw_series(
    axes: Axes, series: Sequence[Mapping[int, float]], colour: str, style: LineStyle, label: str, factor: float = 1.0
) -> None:
    """Draw the mean of a metric over the seeds that have it, a gap where none does, and nothing if none ever does.

    Where some of them do not have it, the line is pale: its mean jumps where their number changes. Of a metric that is
    recorded at every step only values between two gaps get a dot, otherwise all do.

    Args:
        axes: where to draw.
        series: step → value, for each seed; values that are not finite count as not recorded.
        colour: of matplotlib's.
        style: of the line.
        label: name in the legend.
        factor: every value is multiplied by it.
    """
    recorded = sorted(set().union(*series))
    series = [{step: factor * value for step, value in values.items() if np.isfinite(value)} for values in series]
    if not any(series):
        return
    # A metric may be recorded at every tenth step: a gap is longer than the usual distance of two steps.
    usual = median_high(later - step for step, later in pairwise(recorded)) if len(recorded) > 1 else 1
    steps: list[int] = []
    for step in recorded:
        steps += [step - usual] if steps and step - steps[-1] > usual else []
        steps.append(step)
    there = [[values[step] for values in series if step in values] for step in steps]
    means = np.array([np.mean(values) if values else np.nan for values in there])
    complete = np.array([len(values) == len(series) for values in there])
    parts = [(means, 1.0)]
    if any(0 < len(values) < len(series) for values in there):
        parts = [(means, PALE), *([(np.where(complete, means, np.nan), 1.0)] if complete.any() else [])]
    for place, (values, alpha) in enumerate(parts):
        dots = _alone(values) if usual == 1 else None
        name = literal(label) if place == len(parts) - 1 else "_pale"
        axes.plot(
            steps, values, linestyle=style, color=colour, alpha=alpha, linewidth=1.8, label=name,
            marker=".", markersize=5, markevery=dots,
        )  # fmt: skip


def _alone(values: NDArray[np.float64]) -> list[int]:
    """Places of the values without a neighbour, which a line does not show."""
    known = np.pad(np.isfinite(values), 1)
    return np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()


def from_zero(axes: Axes) -> None:
    """Begin the axis of values at 0 and end it well above what is drawn: the margin of a narrow range is too narrow."""
    _, top = axes.get_ylim()
    drawn = axes.dataLim.y1
    axes.set_ylim(0, max(top, 1.05 * drawn) if np.isfinite(drawn) else top)


def from_ten_below(*panels: Axes) -> None:
    """Begin the axis of a rate in per cent at the ten below all that is drawn, in all of these panels alike.

    From 0 on a difference of a few points between curves at 70 % would be a few pixels. Panels in which nothing is
    drawn get the whole range.

    Args:
        panels: what is compared with each other.
    """
    ends = [(axes.dataLim.y0, axes.dataLim.y1) for axes in panels]
    known = [pair for pair in ends if np.isfinite(pair).all()]
    low, high = (min(low for low, _ in known), max(high for _, high in known)) if known else (0.0, 100.0)
    bottom = 10 * max(0, math.ceil(low / 10) - 1)
    for axes in panels:
        # A margin above, for markers; 1 where a model never succeeds.
        axes.set_ylim(bottom, max(high + 0.05 * (high - bottom), bottom + 1))


def finish(axes: Axes, title: str, unit: str) -> None:
    """Give a plot over training steps its title, axis labels and, below it, its legend; an empty one says so."""
    axes.set_title(literal(title), fontsize=11)
    axes.set_xlabel("training step")
    axes.set_ylabel(literal(unit))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lines = axes.get_lines()
    if not any(np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any() for line in lines):
        axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
        return
    handles = [_in_legend(line) for line in lines if not str(line.get_label()).startswith("_")]
    if any(line.get_alpha() == PALE for line in lines):
        handles.append(Line2D([], [], color="black", alpha=PALE, linewidth=1.8, label=FEWER_SEEDS))
    columns = _columns([str(handle.get_label()) for handle in handles])
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), borderaxespad=0, frameon=False, fontsize=8,
        handlelength=4, labelspacing=0.3, ncols=columns,
    )  # fmt: skip


def _in_legend(line: Line2D) -> Line2D:
    """A line's picture in the legend: its style, which a dot on it would hide, and its name."""
    handle = Line2D([], [])
    handle.update_from(line)
    handle.set_marker("" if line.get_marker() == "." else line.get_marker())
    handle.set_label(fill(str(line.get_label()), _ENTRY_WIDTH))
    return handle


def _columns(labels: Sequence[str]) -> int:
    """How many columns a legend of these names has."""
    return 2 if len(labels) > 2 and all(len(label) <= _HALF_WIDTH for label in labels) else 1


def make_room_for_legends(figure: Figure) -> None:
    """Make a figure higher by the legends below its plots, so that the plots keep their height."""
    rows: dict[int, int] = {}
    for axes in figure.axes:
        place, legend = axes.get_subplotspec(), axes.get_legend()
        if place is not None and legend is not None:
            labels = [text.get_text() for text in legend.get_texts()]
            height = sum(1 + label.count("\n") for label in labels) / _columns(labels)
            rows[place.rowspan.start] = max(rows.get(place.rowspan.start, 0), math.ceil(height))
    figure.set_figheight(figure.get_figheight() + _ENTRY_HEIGHT * sum(rows.values()))
