"""Derived signals follow their definition, and scales tell unusual values from usual ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from verl_actfocus.trajectories import SIGNALS
from verl_actfocus.viewer.signals import MENU, Scales, signals_of

from .samples import all_signals, make


def test_the_menu_knows_every_signal_of_the_format() -> None:
    assert SIGNALS.keys() <= {shown.name for shown in MENU}


def test_weighted_advantage_and_ratio_are_what_they_are_called() -> None:
    trajectory = make(signals=all_signals(3))
    signals, recorded = signals_of(trajectory), trajectory.signals
    for i, turn in enumerate(trajectory.turns):
        values = {name: numbers[i] for name, numbers in recorded.items()}
        if turn < 0:
            assert signals["weighted_advantage"][i] is None and signals["ratio"][i] is None
            continue
        assert signals["weighted_advantage"][i] == values["weight"] * values["advantage"]
        assert signals["ratio"][i] == pytest.approx(
            math.exp(values["old_log_prob"]) / math.exp(values["rollout_log_prob"])
        )


def test_nothing_is_derived_from_what_was_not_recorded() -> None:
    recorded = {"weight": [1.0] * 19, "old_log_prob": [-1.0] * 19}
    assert signals_of(make(signals=recorded)).keys() == recorded.keys()


def ends(name: str, values: list[float | None]) -> dict[str, object]:
    scales = Scales()
    scales.add({name: values})
    return next(shown for shown in scales.menu() if shown["name"] == name)


def test_a_scale_ends_at_the_percentiles_and_says_what_lies_beyond() -> None:
    values = [*np.linspace(-10, -5, 1000).tolist(), -500.0]
    shown = ends("ref_energy", values)
    assert shown["low"] == pytest.approx(np.percentile(values, 1), rel=1e-5)
    assert shown["high"] == pytest.approx(np.percentile(values, 99), rel=1e-5)
    assert shown["clipped_low"] and shown["clipped_high"]


def test_a_diverging_scale_reaches_as_far_down_as_up() -> None:
    shown = ends("advantage", [-0.25] * 50 + [2.0] * 50)
    assert (shown["low"], shown["centre"], shown["high"]) == (-2.0, 0.0, 2.0)
    shown = ends("ratio", [0.5] * 50 + [1.25] * 50)
    assert (shown["low"], shown["centre"], shown["high"]) == pytest.approx((0.5, 1.0, 2.0))
    assert not shown["clipped_low"] and not shown["clipped_high"]


def test_weights_begin_at_0_and_log_probabilities_end_there() -> None:
    shown = ends("weight", [1.0] * 10)
    assert (shown["low"], shown["high"]) == (0.0, 1.0)
    shown = ends("old_log_prob", [-2.0] * 10)
    assert (shown["low"], shown["high"]) == (-2.0, 0.0)


def test_rounding_errors_of_the_ratio_get_no_colour() -> None:
    shown = ends("ratio", [1 - 1e-6, 1 + 1e-6])
    assert (shown["low"], shown["high"]) == pytest.approx((1 / 1.01, 1.01))


def test_a_signal_without_values_has_no_scale_and_one_of_somebody_elses_has_its_own_name() -> None:
    assert ends("ratio", [None, None])["low"] is None
    shown = ends("surprise", [0.0, 1.0])
    assert shown["label"] == "surprise" and shown["centre"] is None
