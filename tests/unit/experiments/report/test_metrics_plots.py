"""What the picture of any veRL runs shows of what they recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verl_actfocus.experiments.report import metrics_plots
from verl_actfocus.experiments.report.logged_runs import grouped, read_logged
from verl_actfocus.experiments.report.metrics_plots import picture


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Draws runs (name → metrics of each step) and returns the plots by title."""
    figures: list[Figure] = []
    paint = metrics_plots.png
    monkeypatch.setattr(metrics_plots, "png", lambda figure: figures.append(figure) or paint(figure))

    def draw(**runs: list[dict[str, float]]) -> dict[str, Axes]:
        words = []
        for name, steps in runs.items():
            file = tmp_path / f"{name}.jsonl"
            file.write_text("".join(json.dumps({"step": n, "data": data}) + "\n" for n, data in enumerate(steps)))
            words.append(f"{name}={file}")
        assert picture(grouped(read_logged(words)[0])).startswith(b"\x89PNG")
        return {axes.get_title(): axes for axes in figures[-1].axes}

    return draw


def entries(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_the_most_frequent_reasons_are_drawn_and_those_that_never_occur_are_not(drawn) -> None:
    shares = {"success": 0.3, "turn_limit": 0.25, "terminated": 0.2, "action_limit": 0.15, "response_cut": 0.1}
    stops = {f"rollout/stop/{name}": share for name, share in {**shares, "environment_error": 0.0}.items()}
    axes = drawn(a=[stops, stops])["How episodes end (the 4 most frequent of 5 reasons)"]
    assert entries(axes) == ["a: success", "a: turn_limit", "a: terminated", "a: action_limit"]
    few = {name: share for name, share in stops.items() if share in (0.3, 0.2, 0.0)}
    assert entries(drawn(a=[few])["How episodes end"]) == ["a: success", "a: terminated"]


def test_frequent_is_what_occurs_often_and_not_what_once_peaked(drawn) -> None:
    often = {f"rollout/stop/often{n}": 0.2 for n in range(4)}
    steps = [{**often, "rollout/stop/once": 0.9 if n == 0 else 0.0} for n in range(10)]
    axes = drawn(a=steps)["How episodes end (the 4 most frequent of 5 reasons)"]
    assert entries(axes) == [f"a: often{n}" for n in range(4)]


@pytest.mark.parametrize(
    ("name", "title", "unit"),
    [
        ("actfocus/gradient_cosine", "Between the gradients of reasoning and action", "cosine"),
        ("actfocus/gradient_variance/weighted", "Variance of the gradient", "norm²"),
        ("rollout/purchase", "Outcomes in training", "share of the episodes (%)"),
        ("val/purchase", "Evaluation: val/purchase", "share (%)"),
        ("val-core/a$b$/acc/mean@8", r"Evaluation: val-core/a\$b\$/acc/mean@8", "share (%)"),
    ],
)
def test_what_was_recorded_has_a_plot_and_nothing_else_has(drawn, name: str, title: str, unit: str) -> None:
    found = drawn(a=[{name: 0.5}, {name: 0.25}])
    assert list(found) == [title]
    (line,) = found[title].get_lines()
    factor = 100 if unit.endswith("(%)") else 1
    assert list(line.get_ydata()) == [0.5 * factor, 0.25 * factor]
    assert found[title].get_ylabel() == unit


def test_a_run_that_has_not_recorded_what_another_has_is_said_to_have_not(drawn) -> None:
    axes = drawn(a=[{"rollout/success": 0.5}], b=[{"actor/entropy": 1.0}])["Success in training"]
    assert entries(axes) == ["a", "b: not recorded"]


def test_runs_that_share_a_colour_differ_in_style(drawn) -> None:
    runs = {f"run{n}": [{"actor/entropy": 1.0 + n}] for n in range(10)}
    lines = drawn(**runs)["Entropy of the policy"].get_lines()
    assert lines[0].get_color() == lines[8].get_color()
    patterns = [(line.get_color(), line.get_linestyle()) for line in lines]
    assert len(set(patterns)) == 10


def test_legends_make_the_picture_higher_and_not_the_plots_lower(drawn) -> None:
    one = drawn(a=[{"actor/entropy": 1.0}])["Entropy of the policy"]
    many = drawn(**{f"a_run_with_a_name_of_some_length_{n}": [{"actor/entropy": 1.0}] for n in range(9)})
    heights = [axes.get_window_extent().height for axes in (one, many["Entropy of the policy"])]
    assert heights[1] == pytest.approx(heights[0], rel=0.1)
