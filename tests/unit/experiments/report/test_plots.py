"""What is drawn of a metric, what the legend says of it, and when the exact gradient gets plots of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.report.plots import (
    COLOURS,
    FEWER_SEEDS,
    PALE,
    colour,
    draw_series,
    draw_success,
    finish,
    from_ten_below,
    from_zero,
    line_style,
    marker,
    put_title,
)

from .pages import write


@pytest.mark.parametrize(
    ("series", "steps", "means"),
    [
        ([{1: 2.0, 2: 4.0, 3: 6.0}, {1: 4.0, 2: 6.0, 3: 8.0}], [1, 2, 3], [3.0, 5.0, 7.0]),
        # Steps 3 and 4 were not recorded.
        ([{1: 1.0, 2: 2.0, 5: 5.0, 6: 6.0}], [1, 2, 4, 5, 6], [1.0, 2.0, np.nan, 5.0, 6.0]),
        # Every tenth step and the last one: no gap.
        ([{10: 1.0, 20: 2.0, 25: 3.0}], [10, 20, 25], [1.0, 2.0, 3.0]),
    ],
)
def test_a_line_is_the_mean_over_seeds_with_gaps_where_steps_are_missing(series, steps, means) -> None:
    axes = Figure().add_subplot()
    draw_series(axes, series, "C0", "-", "label")
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), steps)
    np.testing.assert_array_equal(line.get_ydata(), means)


@pytest.mark.parametrize(("seeds", "bands", "lines"), [(1, 1, 1), (2, 0, 3), (3, 1, 4)])
def test_success_has_a_band_but_of_two_seeds_whose_interval_says_less_than_their_lines(seeds, bands, lines) -> None:
    axes = Figure().add_subplot()
    solved = [
        {0: Outcomes.of([(0, False), (1, seed > 0)]), 5: Outcomes.of([(0, True), (1, True)])} for seed in range(seeds)
    ]
    draw_success(axes, solved, "label", "C0", "o")
    assert (len(axes.collections), len(axes.get_lines())) == (bands, lines)
    mean = axes.get_lines()[0]
    np.testing.assert_allclose(mean.get_ydata(), [50 * (seeds - 1) / seeds, 100])


@pytest.mark.parametrize(
    ("series", "pale", "full"),
    [
        # The second seed ends at step 2.
        ([{1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}, {1: 3.0, 2: 4.0}], [2.0, 3.0, 3.0, 4.0], [2.0, 3.0, np.nan, np.nan]),
        # One seed has not recorded step 2, the other says of it that it is no number.
        ([{1: 1.0, 2: np.nan, 3: 3.0}, {1: 1.0, 3: 3.0}], None, [1.0, np.nan, 3.0]),
        ([{1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.0, 3: 5.0}], [1.0, 2.0, 4.0], [1.0, np.nan, 4.0]),
        # Evaluated at different steps: no step is of both.
        ([{0: 1.0, 10: 3.0}, {5: 2.0, 15: 4.0}], [1.0, 2.0, 3.0, 4.0], None),
    ],
)
def test_a_seed_that_is_missing_costs_the_others_nothing_and_makes_the_line_pale(series, pale, full) -> None:
    axes = Figure().add_subplot()
    draw_series(axes, series, "C0", "-", "label")
    drawn = {line.get_alpha(): line.get_ydata() for line in axes.get_lines()}
    expected = {alpha: values for alpha, values in ((PALE, pale), (1.0, full)) if values is not None}
    assert drawn.keys() == expected.keys()
    for alpha, values in expected.items():
        np.testing.assert_array_equal(drawn[alpha], values)
    finish(axes, "title", "unit")
    assert entries(axes) == ["label", *([FEWER_SEEDS] if pale else [])]


def entries(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("series", [[], [{}], [{1: np.nan, 2: np.inf}]])
def test_a_plot_of_nothing_says_so_and_has_no_legend(series) -> None:
    axes = Figure().add_subplot()
    draw_series(axes, series, "C0", "-", "label")
    finish(axes, "title", "unit")
    assert [text.get_text() for text in axes.texts] == ["not recorded"]
    assert entries(axes) == []


def test_the_legend_lies_below_the_plot_and_shows_the_style_of_every_line() -> None:
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    for metric in range(4):
        # Every tenth step: all values have dots, which must not hide a dash in the legend.
        draw_series(axes, [{0: 1.0, 10: 2.0, 20: 1.5}], "C0", line_style(0, metric), f"metric {metric}")
    finish(axes, "title", "unit")
    FigureCanvasAgg(figure).draw()
    legend = axes.get_legend()
    assert legend is not None
    handles = legend.get_lines()
    assert [line.get_linestyle() for line in handles] == ["-", "--", ":", "-."]
    assert {line.get_marker() for line in handles} == {""}
    # A handle is long enough for the longest pattern of the four, "-.": 6.4 + 1.6 + 1 + 1.6 line widths.
    assert all(np.ptp(line.get_xdata()) >= 2 * 10.6 * line.get_linewidth() * 0.75 for line in handles)
    assert legend.get_window_extent().y1 < axes.get_window_extent().y0


def test_titles_and_units_with_dollar_signs_are_text() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    finish(axes, r"val-core/$\nothing$/acc", r"$\nothing$")
    FigureCanvasAgg(figure).draw()
    assert axes.get_title() == r"val-core/\$\nothing\$/acc"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Short", 1),
        ("Is ActFocus better than Uniform, " * 3 + "each at a rate of its own?", 2),
        ("x" * 150, 3),
        ("$" * 9, 1),
    ],
)
def test_a_title_is_seen_whole_however_long_it_is(text: str, lines: int) -> None:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    figure.add_subplot()
    put_title(figure, text)
    FigureCanvasAgg(figure).draw()
    (title,) = figure.texts
    extent = title.get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width and extent.y1 <= figure.bbox.height
    assert title.get_text().count("\n") == lines - 1
    assert title.get_text().replace("\\", "").split() == text.split() or len(text.split()) == 1


@pytest.mark.parametrize(("values", "top"), [([68.0, 67.5], 71.4), ([0.0, 100.0], 105.0)])
def test_an_axis_from_zero_ends_above_its_lines_however_narrow_their_range(values, top) -> None:
    axes = Figure().add_subplot()
    axes.plot(range(len(values)), values)
    from_zero(axes)
    assert axes.get_ylim() == pytest.approx((0, top))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([44.0, 71.0], (40, 72.55)),
        ([40.0, 70.0], (30, 72)),
        ([3.0, 20.0], (0, 21)),
        ([55.0, 100.0], (50, 102.5)),
        ([0.0, 0.0], (0, 1)),
        ([100.0, 100.0], (90, 100.5)),
        ([math.nan, math.nan], (0, 105)),
        ([], (0, 105)),
    ],
)
def test_an_axis_of_a_rate_begins_at_the_ten_below_all_that_is_drawn(values, ends) -> None:
    axes = Figure().add_subplot()
    axes.plot(range(len(values)), values)
    from_ten_below(axes)
    assert axes.get_ylim() == pytest.approx(ends)


def test_axes_that_are_compared_have_one_range() -> None:
    low, high, empty = Figure().subplots(1, 3)
    low.plot([0, 1], [35.0, 50.0])
    high.plot([0, 1], [60.0, 80.0])
    from_ten_below(low, high, empty)
    assert low.get_ylim() == high.get_ylim() == empty.get_ylim() == pytest.approx((30, 82.5))


def test_lines_are_told_apart_beyond_the_colours() -> None:
    many = range(3 * len(COLOURS))
    assert len({(colour(index), str(line_style(index, metric))) for index in many for metric in range(4)}) == 96
    assert len({(colour(index), marker(index)) for index in many}) == 24


def test_a_comparison_has_a_second_row_of_plots_where_the_exact_gradient_was_recorded(comparison: Path) -> None:
    def height() -> int:
        write(comparison)
        return imread(comparison / "learning_curves.png").shape[0]

    before = height()
    metrics = comparison / "actfocus-seed0/metrics-1.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    lines[-1]["data"] |= {"actfocus/gradient_norm/action": 0.5, "actfocus/gradient_noise_share/weighted": 0.9}
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Twice the plots; the legends below them differ.
    assert height() > 1.8 * before
