"""What the tokens of a trajectory can be coloured by: recorded signals, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from verl_actfocus.trajectories import Trajectory

Values = list[float | None]
#: Ends of a scale, as percentiles: a few outliers do not take the contrast from everything else.
_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A signal of the menu."""

    name: str
    #: What the menu calls it.
    label: str
    #: What its colours mean, a sentence for somebody who has not read the paper.
    meaning: str
    #: Value without a colour, between the two colours of a diverging scale; None for a sequential scale.
    centre: float | None = None
    #: Value without a colour on a sequential scale; None for the first that occurs.
    start: float | None = None
    #: Least distance of a diverging scale's ends from its centre: rounding errors get no colour.
    least: float = 0.0
    #: Whether equal ratios are equal distances on the scale.
    logarithmic: bool = False
    #: Whether the lowest value has the strongest colour.
    lowest_strongest: bool = False


_LOG_PROB = "the stronger the colour, the less likely the token"
_ENTROPY = "the stronger the colour, the less sure the model"
#: The menu, in its order.
MENU = (
    Shown(name="weight", label="weight", meaning="how much the token counts in the loss; no colour is 0", start=0.0),
    Shown(
        name="weighted_advantage",
        label="weight × advantage",
        meaning="how hard the update pushes the token's probability: up if positive (orange), down if negative (blue)",
        centre=0.0,
    ),
    Shown(
        name="advantage",
        label="advantage",
        meaning="how much better (orange) or worse (blue) it went than the algorithm expected, before weights",
        centre=0.0,
    ),
    Shown(
        name="ref_energy",
        label="energy (reference)",
        meaning="−log Σ exp(logits) of the frozen reference model: the higher, the less sure it is of what comes next",
    ),
    Shown(name="signal", label="signal of the weighting", meaning="what this run's weights follow"),
    Shown(
        name="ratio",
        label="ratio (policy / rollout)",
        meaning="probability before the update over the probability that it was sampled with; 1 where both agree",
        centre=1.0,
        least=0.01,
        logarithmic=True,
    ),
    Shown(
        name="rollout_log_prob",
        label="log-probability (rollout)",
        meaning=f"what it was sampled with: {_LOG_PROB}",
        start=0.0,
        lowest_strongest=True,
    ),
    Shown(
        name="old_log_prob",
        label="log-probability (policy)",
        meaning=f"before the update: {_LOG_PROB}",
        start=0.0,
        lowest_strongest=True,
    ),
    Shown(
        name="ref_log_prob",
        label="log-probability (reference)",
        meaning=f"under the frozen reference model: {_LOG_PROB}",
        start=0.0,
        lowest_strongest=True,
    ),
    Shown(
        name="nll",
        label="negative log-likelihood (policy)",
        meaning="at temperature 1: the stronger the colour, the less likely the token",
        start=0.0,
    ),
    Shown(
        name="shift",
        label="log-probability shift (policy − reference)",
        meaning="how much likelier (orange) or less likely (blue) training has made the token",
        centre=0.0,
        least=0.01,
    ),
    Shown(name="old_energy", label="energy (policy)", meaning="−log Σ exp(logits) of the policy before the update"),
    Shown(name="old_entropy", label="entropy (policy)", meaning=f"in nats: {_ENTROPY}", start=0.0),
    Shown(name="ref_entropy", label="entropy (reference)", meaning=f"in nats: {_ENTROPY}", start=0.0),
)


def signals_of(trajectory: Trajectory) -> dict[str, Values]:
    """Return the signals of a trajectory, recorded and derived; what was not recorded is absent.

    Returns:
        Name → (T) values, None on tokens without one. `weighted_advantage` is the token's factor in the policy
        gradient, `ratio` is exp(old − rollout log-probability).
    """
    signals = dict(trajectory.signals)
    _derive(signals, "weighted_advantage", "weight", "advantage", lambda weight, advantage: weight * advantage)
    _derive(
        signals, "ratio", "old_log_prob", "rollout_log_prob", lambda old, rollout: math.exp(min(old - rollout, 700))
    )
    return signals


def _derive(
    signals: dict[str, Values], name: str, first: str, second: str, formula: Callable[[float, float], float]
) -> None:
    """Add a signal if both that it follows from were recorded."""
    if first in signals and second in signals:
        pairs = zip(signals[first], signals[second], strict=True)
        values = [None if a is None or b is None else formula(a, b) for a, b in pairs]
        # What overflows is no number that a colour could stand for.
        signals[name] = [value if value is None or math.isfinite(value) else None for value in values]


class Scales:
    """The ends of every signal's scale: one for all trajectories, so that equal colours mean equal values."""

    def __init__(self) -> None:
        self._values: dict[str, list[np.ndarray]] = {}

    def add(self, signals: Mapping[str, Values]) -> None:
        """Take the values of a trajectory into account."""
        for name, values in signals.items():
            known = np.array([value for value in values if value is not None], dtype=np.float64)
            self._values.setdefault(name, []).append(known)

    def menu(self) -> list[dict[str, Any]]:
        """Return the menu for the page: every signal of `MENU`, then those that it does not know.

        Returns:
            The fields of `Shown`, with `low` and `high`: the ends of the scale, and `clipped_low` and `clipped_high`:
            whether values lie beyond. The ends are None if no value was recorded.
        """
        known = {shown.name for shown in MENU}
        others = [
            Shown(name=name, label=name, meaning="recorded by the weighting of this run")
            for name in sorted(self._values.keys() - known)
        ]
        return [{**vars(shown), **self._ends(shown)} for shown in (*MENU, *others)]

    def _ends(self, shown: Shown) -> dict[str, Any]:
        values = np.concatenate(self._values.get(shown.name, [np.empty(0)]))
        if not values.size:
            return {"low": None, "high": None, "clipped_low": False, "clipped_high": False}
        low, high = np.percentile(values, _PERCENTILES)
        if shown.centre is not None:
            low, high = _around(shown, low, high)
        elif shown.start is not None:
            low, high = (low, shown.start) if shown.lowest_strongest else (shown.start, high)
        return {
            "low": float(low),
            "high": float(high),
            "clipped_low": bool(values.min() < low - _slack(low)),
            "clipped_high": bool(values.max() > high + _slack(high)),
        }


def _around(shown: Shown, low: float, high: float) -> tuple[float, float]:
    """Ends at the same distance from the centre."""
    assert shown.centre is not None
    if shown.logarithmic:
        most = max(abs(math.log(max(end, 1e-300) / shown.centre)) for end in (low, high))
        reach = math.exp(max(most, math.log1p(shown.least)))
        return shown.centre / reach, shown.centre * reach
    reach = max(shown.least, *(abs(end - shown.centre) for end in (low, high)))
    return shown.centre - reach, shown.centre + reach


def _slack(end: float) -> float:
    """What rounding may do to an end."""
    return 1e-6 * max(1.0, abs(end))


def rounded(values: Iterable[float | None]) -> Values:
    """Round to six significant digits, which is what single precision holds."""
    return [None if value is None else float(f"{value:.6g}") for value in values]
