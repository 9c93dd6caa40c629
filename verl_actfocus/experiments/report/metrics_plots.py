"""The picture of a report of any veRL runs: a plot for each quantity that a run has recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verl_actfocus.experiments.report import quantities
from verl_actfocus.experiments.report.escapes import literal
from verl_actfocus.experiments.report.logged_runs import NOT_RECORDED, Group
from verl_actfocus.experiments.report.plots import (
    MOST,
    colour,
    draw_series,
    finish,
    line_style,
    make_room_for_legends,
    png,
)
from verl_actfocus.experiments.report.quantities import Recorded

_COLUMNS = 3
_ACTION_SHARES = tuple(one for one in quantities.SHARES if one.title.endswith("action"))
_NORMS, _COSINE = quantities.GRADIENT[:3], quantities.GRADIENT[3:4]
_VARIANCE, _NOISE = quantities.GRADIENT[4:6], quantities.GRADIENT[6:]


#: Beginning of a metric's name → its name in the legend, where the end of the name does not say it.
_SHORT = {
    "actfocus/token_share": "tokens",
    "actfocus/weight_share": "weight",
    "actfocus/gradient_norm/none": "other",
    "actfocus/gradient_share": "weight × |advantage|",
    "actor/ppo_kl": "of an update",
    "actor/kl_loss": "to the reference",
    "actor/reward_kl_penalty": "to the reference, in the reward",
}


@dataclass(frozen=True)
class Panel:
    """One plot: quantities of one unit."""

    title: str
    unit: str
    quantities: tuple[Recorded, ...]
    #: What its metrics count; those that are 0 throughout are then left out.
    counted: str = ""


PANELS = (
    Panel("Success in training", "success rate (%)", (quantities.SUCCESS,)),
    Panel("Outcomes in training", "share of the episodes (%)", (quantities.OUTCOMES,)),
    Panel("Reward in training", "reward of an episode", (quantities.REWARD,)),
    Panel("Response length", "tokens", (quantities.LENGTH,)),
    Panel("Entropy of the policy", "nats a token", (quantities.ENTROPY,)),
    Panel("KL divergence", "nats a token", (quantities.POLICY_KL, quantities.KL)),
    Panel("Clipped tokens", "share (%)", (quantities.CLIP,)),
    Panel("Responses identical to a sibling's", "share (%)", (quantities.IDENTICAL,)),
    Panel("Share of action tokens", "share (%)", _ACTION_SHARES),
    Panel("Exact gradient by span", "norm", _NORMS),
    Panel("Between the gradients of reasoning and action", "cosine", _COSINE),
    Panel("Variance of the gradient", "norm²", _VARIANCE),
    Panel("Noise in the gradient", "variance over squared norm", _NOISE),
    Panel("How episodes end", "share (%)", (quantities.STOP_REASONS,), "reasons"),
)


def picture(groups: Sequence[Group]) -> bytes:
    """Draw the mean over seeds of every quantity that is recorded.

    Args:
        groups: the runs.

    Returns:
        A PNG file.
    """
    named = [(name, quantities.evaluation(name, groups)) for name in quantities.EVALUATION.recorded(groups)]
    evaluations = [
        Panel(f"Evaluation: {name}", "share (%)" if one.unit == "%" else one.unit, (one,)) for name, one in named
    ]
    panels = [
        panel for panel in (*evaluations, *PANELS) if any(quantity.recorded(groups) for quantity in panel.quantities)
    ]
    columns = max(1, min(_COLUMNS, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(max(6.4, 4.8 * columns), 3.6 * rows), layout="constrained")
    for position, panel in enumerate(panels, start=1):
        _draw(figure.add_subplot(rows, columns, position), panel, groups)
    if not panels:
        figure.text(0.5, 0.5, "none of the quantities of this report is recorded", ha="center")
    make_room_for_legends(figure)
    return png(figure)


def _draw(axes: Axes, panel: Panel, groups: Sequence[Group]) -> None:
    """Draw the metrics of a panel: a colour for each group, a style for each metric, the largest ones if many."""
    recorded = [(quantity, name) for quantity in panel.quantities for name in quantity.recorded(groups)]
    if panel.counted:
        # Of reasons that never occur there is nothing to see; if none ever occurs, that is worth seeing.
        recorded = [(quantity, name) for quantity, name in recorded if _mean(groups, name) > 0] or recorded
    lines = sorted(recorded, key=lambda line: -_mean(groups, line[1]))[:MOST] if len(recorded) > MOST else recorded
    for index, group in enumerate(groups):
        for metric, (quantity, name) in enumerate(lines):
            what = group.label if len(lines) == 1 and not quantity.each else f"{group.label}: {_short(name)}"
            draw_series(axes, group.series(name), colour(index), line_style(index, metric), what, quantity.factor)
        if not any(group.series(name) for _, name in lines):
            axes.plot([], [], linestyle="none", label=literal(f"{group.label}: {NOT_RECORDED}"))
    title = panel.title
    if len(lines) < len(recorded):
        what = f"most frequent of {len(recorded)} {panel.counted}" if panel.counted else f"largest of {len(recorded)}"
        title += f" (the {len(lines)} {what})"
    finish(axes, title, panel.unit)


def _mean(groups: Sequence[Group], name: str) -> float:
    """Mean over everything that was recorded of a metric."""
    values = [value for group in groups for series in group.series(name) for value in series.values()]
    return math.fsum(values) / len(values)


def _short(name: str) -> str:
    """Name of a metric's line beside others."""
    return next((short for prefix, short in _SHORT.items() if name.startswith(prefix)), name.rsplit("/", 1)[-1])
