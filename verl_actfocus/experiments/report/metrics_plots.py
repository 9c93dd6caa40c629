"""The picture of a report of any veRL runs: a plot for each quantity that a run has recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verl_actfocus.experiments.report import quantities
from verl_actfocus.experiments.report.plots import COLOURS, draw_series, finish, png
from verl_actfocus.experiments.report.quantities import Quantity
from verl_actfocus.experiments.report.runs import Group

_COLUMNS = 3
#: Line styles of several metrics in one plot; more than these are not told apart, and left to the tables.
_STYLES = ("-", "--", ":", "-.")
_ACTION_SHARES = tuple(one for one in quantities.SHARES if one.title.endswith("action"))
_NORMS = quantities.GRADIENT[:3]
_NOISE = quantities.GRADIENT[-2:]


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
    quantities: tuple[Quantity, ...]


PANELS = (
    Panel("Success in training", "success rate (%)", (quantities.SUCCESS,)),
    Panel("Reward in training", "reward of an episode", (quantities.REWARD,)),
    Panel("Response length", "tokens", (quantities.LENGTH,)),
    Panel("Entropy of the policy", "nats a token", (quantities.ENTROPY,)),
    Panel("KL divergence", "nats a token", (quantities.POLICY_KL, quantities.KL)),
    Panel("Clipped tokens", "share (%)", (quantities.CLIP,)),
    Panel("Responses identical to a sibling's", "share (%)", (quantities.IDENTICAL,)),
    Panel("Share of action tokens", "share (%)", _ACTION_SHARES),
    Panel("Exact gradient by span", "norm", _NORMS),
    Panel("Noise in the gradient", "variance over squared norm", _NOISE),
    Panel("How episodes end", "share (%)", (quantities.STOP_REASONS,)),
)


def picture(groups: Sequence[Group]) -> bytes:
    """Draw the mean over seeds of every quantity that is recorded.

    Args:
        groups: the runs.

    Returns:
        A PNG file.
    """
    evaluations = [
        Panel(f"Evaluation: {name}", "share (%)" if quantities.is_share(name) else "score", (_evaluation(name),))
        for name in quantities.EVALUATION.recorded(groups)
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
    return png(figure)


def _evaluation(name: str) -> Quantity:
    return Quantity("", (escape(name),), factor=100 if quantities.is_share(name) else 1)


def _draw(axes: Axes, panel: Panel, groups: Sequence[Group]) -> None:
    """Draw the metrics of a panel: a colour for each group, a style for each metric, the largest ones if many."""
    lines = [(quantity, name) for quantity in panel.quantities for name in quantity.recorded(groups)]
    lines = (
        sorted(lines, key=lambda line: -_largest(groups, line[1]))[: len(_STYLES)]
        if len(lines) > len(_STYLES)
        else lines
    )
    for index, group in enumerate(groups):
        for style, (quantity, name) in zip(_STYLES, lines, strict=False):
            series = group.series(name)
            what = group.label if len(lines) == 1 else f"{group.label}: {_short(name)}"
            if series:
                draw_series(axes, series, COLOURS[index % len(COLOURS)], style, what, quantity.factor)
    finish(axes, panel.title, panel.unit)


def _largest(groups: Sequence[Group], name: str) -> float:
    return max((value for group in groups for values in group.series(name) for value in values.values()), default=0.0)


def _short(name: str) -> str:
    """Name of a metric's line beside others."""
    return next((short for prefix, short in _SHORT.items() if name.startswith(prefix)), name.rsplit("/", 1)[-1])
