"""The report shows trajectories, with weight, signal and span of every token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.report.trajectories import WeightScale, sample, scale_of
from verl_actfocus.experiments.results import RunResult

from .pages import parse, write


def test_every_token_of_the_model_shows_weight_signal_span_and_advantage(comparison: Path) -> None:
    _, html, _ = write(comparison)
    tooltips = [str(attributes["title"]) for tag, attributes in parse(html).found if "title" in attributes]
    # Eight tokens of the model in each of the two weightings' trajectories.
    assert len(tooltips) == 16
    assert "weight 1.250 · signal -11.500 · action · advantage +0.730" in tooltips
    assert tooltips.count("weight 0.100 · signal -11.500 · reasoning · advantage +0.730") == 2
    assert "reward -0.10" in parse(html).text and "reward +1.00" in parse(html).text


def test_text_of_the_environment_cannot_become_markup(comparison: Path) -> None:
    _, html, _ = write(comparison)
    assert "state <b>&" in parse(html).text
    assert all(tag != "b" for tag, _ in parse(html).found)


def test_a_comparison_without_trajectories_still_has_a_report(comparison: Path) -> None:
    for file in comparison.glob("*/trajectories/*"):
        file.unlink()
    _, html, _ = write(comparison)
    assert "no trajectories" in parse(html).text


def test_darker_means_heavier_and_nothing_is_white() -> None:
    scale = WeightScale(1.5)
    brightness = [
        sum(int(scale.colour(weight)[n : n + 2], 16) for n in (1, 3, 5)) for weight in (0.0, 0.1, 1.0, 1.25, 1.5)
    ]
    assert brightness == sorted(brightness, reverse=True) and len(set(brightness)) == 5
    assert scale.colour(0.0) == "#ffffff"
    # Black text needs a contrast of at least 4.5 (WCAG 2.1) on the darkest tone.
    assert contrast_with_black(scale.colour(1.5)) > 4.5


def contrast_with_black(colour: str) -> float:
    """WCAG 2.1: (L + 0.05) / 0.05 with the relative luminance L."""
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05) / 0.05


def test_a_trajectory_splits_into_turns_with_their_rewards(comparison: Path) -> None:
    (trajectory,) = sample(RunResult.read(comparison / "actfocus-seed0"))
    blocks = list(trajectory.blocks(scale_of([trajectory])))
    assert [(block.turn, block.reward, block.text) for block in blocks] == [
        (1, -0.1, "go right</think><answer>Right</answer>"),
        (None, None, "\nstate <b>&\n"),
        (2, 1.0, "Down</answer>"),
    ]


def test_the_first_and_the_last_file_are_shown(comparison: Path) -> None:
    folder = comparison / "actfocus-seed0/trajectories"
    text = (folder / "1.jsonl").read_text()
    for step in (10, 100, 20):
        (folder / f"{step}.jsonl").write_text(text.replace('"step": 1,', f'"step": {step},') * 3)
    shown = [trajectory.step for trajectory in sample(RunResult.read(comparison / "actfocus-seed0"))]
    assert shown == [1, 100, 100]


def test_a_token_that_is_a_unicode_line_separator_does_not_end_the_trajectory(comparison: Path) -> None:
    path = comparison / "actfocus-seed0/trajectories/1.jsonl"
    record = json.loads(path.read_text())
    record["tokens"][1] = "\u2028"
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    (trajectory,) = sample(RunResult.read(comparison / "actfocus-seed0"))
    assert trajectory.tokens[:3] == ["go", "\u2028", "</think>"]


def test_a_damaged_trajectory_is_named(comparison: Path) -> None:
    path = comparison / "actfocus-seed0/trajectories/1.jsonl"
    path.write_text('{"step": 1}\n')
    with pytest.raises(ExperimentError, match=r"1\.jsonl, line 1: not a trajectory"):
        sample(RunResult.read(comparison / "actfocus-seed0"))
