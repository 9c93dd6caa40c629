"""Links from a report into the page of trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from verl_actfocus.viewer.selection import Selection


@dataclass(frozen=True)
class Link:
    """What a report says of a trajectory, and the fragment of the page's address that opens it."""

    text: str
    fragment: str


def address(name: str, beside: str | None = None) -> str:
    """Return the fragment of the page's address that opens a trajectory.

    Args:
        name: the trajectory's `name` in its summary.
        beside: name of the one that stands beside it; None for none.

    Example:
        >>> address("Uniform, seed 0/20/g 3/1")
        '#view=Uniform%2C+seed+0%2F20%2Fg+3%2F1'
    """
    return "#" + urlencode({"view": name, **({} if beside is None else {"with": beside})})


def examples(selection: Selection) -> list[Link]:
    """Link to the first trajectory of the first and of the last step of every weighting's first run.

    None is chosen by hand or by its outcome. A last link puts the baseline's beside another weighting's of the same
    task and step, if the page has both.
    """
    runs: dict[int, list[dict[str, Any]]] = {}
    found = reversed([(n, source) for n, source in enumerate(selection.sources) if source.files])
    firsts = {(source.weighting, source.estimator): n for n, source in found}
    for entry in selection.entries:
        if entry.summary["source"] in firsts.values():
            runs.setdefault(entry.summary["source"], []).append(entry.summary)
    links = []
    for run in runs.values():
        ends = {one["name"]: one for one in (run[0], next(one for one in run if one["step"] == run[-1]["step"]))}
        links += [Link(_headline(selection, one), address(one["name"])) for one in ends.values()]
    for first, second in _pairs(list(runs.values())):
        labels = " | ".join(selection.sources[one["source"]].label for one in (first, second))
        text = f"side by side: {labels}, step {first['step']}, the same task"
        links.append(Link(text, address(first["name"], second["name"])))
    return links


def _pairs(runs: list[list[dict[str, Any]]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield for each run but the first one its latest trajectory whose task and step the first has too, with that."""
    if not runs:
        return
    baseline = {(one["step"], one["same_task"], one["session"]): one for one in runs[0]}
    for run in runs[1:]:
        for one in reversed(run):
            partner = baseline.get((one["step"], one["same_task"], one["session"]))
            if partner is not None:
                yield partner, one
                break


def _headline(selection: Selection, one: dict[str, Any]) -> str:
    """What a trajectory is, in a line."""
    task = "" if one["task"] is None else f", task {one['task']}"
    end = "" if one["stop_reason"] is None else f", end: {one['stop_reason']}"
    return f"{selection.sources[one['source']].label}, step {one['step']}{task}: reward {one['reward']:+.2f}{end}"
