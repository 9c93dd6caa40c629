"""What is drawn of a metric, and when the exact gradient gets plots of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from verl_actfocus.experiments.report.plots import draw_series

from .pages import write


@pytest.mark.parametrize(
    ("series", "steps", "means"),
    [
        ([{1: 2.0, 2: 4.0, 3: 6.0}, {1: 4.0, 2: 6.0, 3: 8.0}], [1, 2, 3], [3.0, 5.0, 7.0]),
        # Steps 3 and 4 were not recorded.
        ([{1: 1.0, 2: 2.0, 5: 5.0, 6: 6.0}], [1, 2, 4, 5, 6], [1.0, 2.0, np.nan, 5.0, 6.0]),
        # One seed has not recorded step 2.
        ([{1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.0, 3: 3.0}], [1, 2, 3], [1.0, np.nan, 3.0]),
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


def test_a_comparison_has_a_second_row_of_plots_where_the_exact_gradient_was_recorded(comparison: Path) -> None:
    def height() -> int:
        write(comparison)
        return imread(comparison / "learning_curves.png").shape[0]

    before = height()
    metrics = comparison / "actfocus-seed0/metrics-1.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    lines[-1]["data"] |= {"actfocus/gradient_norm/action": 0.5, "actfocus/gradient_noise_share/weighted": 0.9}
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert height() == 2 * before
