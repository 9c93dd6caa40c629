"""Pictures of a diagnosis, as PNG files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from verl_actfocus.diagnosis.correlation import PARTS, Correlation, Group, paper_signals
from verl_actfocus.diagnosis.tables import TERMS
from verl_actfocus.diagnosis.variance import Decided
from verl_actfocus.experiments.report.plots import COLOURS, MARKERS, png, put_title
from verl_actfocus.trajectories import Trajectory

#: What each part is drawn in.
_COLOUR = dict(zip(("action", "reasoning", "all"), COLOURS, strict=False))
_MARKER = dict(zip(("action", "reasoning", "all"), MARKERS, strict=False))
#: Bars of a histogram.
BINS = 40


def scatter(groups: Sequence[Group], found: Sequence[Correlation], title: str) -> bytes:
    """Draw every group's mean energy against its spread of rewards, over all, reasoning and action tokens.

    This is the figure of He et al. 2026, §2.

    Args:
        groups: the groups.
        found: their correlations.
        title: stands above the figure.
    """
    figure = Figure(figsize=(12, 4.3), layout="constrained")
    for axes, part in zip(figure.subplots(1, 3, sharey=True), PARTS, strict=True):
        one = next(one for one in found if one.signal == "energy" and one.part == part)
        pairs = [(mean, group.spread) for group in groups if (mean := group.mean("energy", part)) is not None]
        axes.scatter(*np.array(pairs).reshape(-1, 2).T, s=14, alpha=0.5, color=_COLOUR[part], linewidths=0)
        axes.set_title(f"{part} tokens\n{_rho(one)}", fontsize=10)
        axes.set_xlabel("mean energy of the group's tokens")
        _finish(axes)
    figure.axes[0].set_ylabel("standard deviation of the group's rewards")
    put_title(figure, title)
    return png(figure)


def energy_histogram(trajectories: Sequence[Iterable[Trajectory]]) -> dict[str, list[float]] | None:
    """Count the energies of reasoning and action tokens in common bins.

    Args:
        trajectories: the same trajectories twice: once for the range, once for the counts.

    Returns:
        `edges` (`BINS` + 1) and, for each span, the share of its tokens in every bin; None without energies.
    """
    low, high = np.inf, -np.inf
    for values in map(_energies, trajectories[0]):
        low = min([low, *(value.min() for value in values.values() if len(value))])
        high = max([high, *(value.max() for value in values.values() if len(value))])
    if low > high:
        return None
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    counts = {part: np.zeros(BINS) for part in ("reasoning", "action")}
    for values in map(_energies, trajectories[1]):
        for part, value in values.items():
            counts[part] += np.histogram(value, edges)[0]
    return {
        "edges": edges.tolist(),
        **{part: (count / max(count.sum(), 1.0)).tolist() for part, count in counts.items()},
    }


def _energies(trajectory: Trajectory) -> dict[str, NDArray[np.float64]]:
    energies = paper_signals(trajectory).get("energy") or [None] * len(trajectory.spans)
    pairs = list(zip(energies, trajectory.spans, strict=True))
    return {
        part: np.array([value for value, span in pairs if span == part and value is not None], dtype=np.float64)
        for part in ("reasoning", "action")
    }


def histogram(counted: Mapping[str, Sequence[float]], title: str) -> bytes:
    """Draw what `energy_histogram` counted."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    for part in ("reasoning", "action"):
        percents = 100 * np.asarray(counted[part])
        axes.stairs(percents, counted["edges"], fill=True, alpha=0.45, color=_COLOUR[part], label=f"{part} tokens")
    axes.set_xlabel("energy of the token under the reference model")
    axes.set_ylabel("share of the span's tokens (%)")
    put_title(figure, title)
    axes.legend(frameon=False)
    _finish(axes)
    return png(figure)


def over_training(steps: Sequence[tuple[int, Sequence[Correlation]]], signal: str, title: str) -> bytes:
    """Draw ρ of a signal over training, with bands of its interval; a gap where it is not defined.

    Args:
        steps: last step and its correlations.
        signal: name in `correlation.SIGNALS`.
        title: stands above the figure.
    """
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    for part in PARTS:
        ones = [next(one for one in found if (one.signal, one.part) == (signal, part)) for _, found in steps]
        numbers = [step for step, _ in steps]
        values = np.array([np.nan if one.rho is None else one.rho for one in ones])
        ends = np.array([one.interval or (np.nan, np.nan) for one in ones])
        axes.plot(numbers, values, color=_COLOUR[part], marker=_MARKER[part], markersize=5, label=f"{part} tokens")
        axes.fill_between(numbers, ends[:, 0], ends[:, 1], color=_COLOUR[part], alpha=0.12, linewidth=0)
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.set_ylim(-1, 1)
    axes.set_xlabel("training step")
    axes.set_ylabel("Spearman's ρ with the spread of rewards")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    put_title(figure, title)
    axes.legend(frameon=False)
    _finish(axes)
    return png(figure)


def decision_bars(found: Sequence[tuple[str, str, Decided]], title: str) -> bytes:
    """Draw the shares of the return's variance with their intervals, a panel for each turn and outcome.

    Args:
        found: name of the turn, name of the outcome, and where it is decided.
        title: stands above the figure.
    """
    figure = Figure(figsize=(8, 1.2 + 1.1 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (turn, outcome, one) in zip(panels, found, strict=True):
        terms = [term for term, share in one.shares.items() if share.value is not None]
        for row, term in enumerate(terms):
            share = one.shares[term]
            axes.barh(row, share.value or 0.0, color=COLOURS[row], alpha=0.6)
            if share.interval is not None:
                axes.plot(share.interval, (row, row), color="black", linewidth=1.2)
        axes.set_yticks(range(len(terms)), [TERMS[term] for term in terms], fontsize=8)
        axes.invert_yaxis()
        axes.set_title(f"turn {turn}, {outcome}" + ("" if terms else ": nothing is decided here"), fontsize=9)
        axes.axvline(0, color="gray", linewidth=0.8)
        _finish(axes)
    panels[-1].set_xlabel("share of the variance within a state (lines: 95 % interval)")
    put_title(figure, title)
    return png(figure)


def _rho(one: Correlation) -> str:
    if one.rho is None:
        return "ρ not defined"
    ends = "" if one.interval is None else f" [{one.interval[0]:+.2f}, {one.interval[1]:+.2f}]"
    return f"ρ = {one.rho:+.2f}{ends}, p = {one.p_value:.2g}"


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
