"""Writes the report of any veRL runs: `metrics.md`, `metrics.png` and the self-contained `metrics.html`."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verl_actfocus.experiments.report import evaluations, quantities
from verl_actfocus.experiments.report.logged_runs import NOT_RECORDED, Group, differing_settings
from verl_actfocus.experiments.report.metrics_plots import picture
from verl_actfocus.experiments.report.quantities import Recorded
from verl_actfocus.experiments.report.report import render
from verl_actfocus.experiments.results.statistics import Estimate, clipped, mean_over_seeds
from verl_actfocus.storage.disk import write_whole

#: Name of the picture in the report's folder.
PICTURE = "metrics.png"
#: Share of a run's steps that its beginning and its end are averaged over.
_ENDS = 0.1
#: What stands where no step was recorded by all seeds.
_NO_COMMON_STEP = "no step in common"


@dataclass(frozen=True)
class Grid:
    """A table of a report."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def write_metrics_report(
    groups: Sequence[Group], out: Path, words: Sequence[str], left_out: Sequence[Path] = ()
) -> list[Path]:
    """Write the report.

    Args:
        groups: the runs, those together that differ in their seed alone.
        out: folder for the files; it need not exist yet.
        words: how the user named the runs, for the command that makes the report again.
        left_out: folders of runs that have no metrics yet.

    Returns:
        The files written: Markdown, HTML and the picture.
    """
    drawn = picture(groups)
    context = {
        "title": f"Metrics of {' and '.join(group.label for group in groups)}",
        "notes": notes(groups, left_out),
        "grids": grids(groups),
        "picture_name": PICTURE,
        "picture_data": base64.b64encode(drawn).decode("ascii"),
        "command": shlex.join(["actfocus", "report", *words, "--out", str(out)]),
    }
    out.mkdir(parents=True, exist_ok=True)
    files = {PICTURE: drawn}
    for name in ("metrics.md", "metrics.html"):
        files[name] = render(name, context).encode("utf-8")
    for name, content in files.items():
        write_whole(out / name, content)
    return [out / "metrics.md", out / "metrics.html", out / PICTURE]


def notes(groups: Sequence[Group], left_out: Sequence[Path] = ()) -> list[str]:
    """Return what a reader must know before the numbers, in sentences."""
    found = []
    for group in groups:
        last = group.last_steps
        if len(set(last)) > 1:
            found.append(
                f"{group.label}: its seeds end at the steps {', '.join(map(str, last))}. The tables compare them at "
                f"the steps that all have, up to {min(last)}; without the shorter ones the report would go further."
            )
    if left_out:
        names = ", ".join(map(str, left_out))
        found.append(f"Not counted, as they have not finished their first step: {names}.")
    return found


def grids(groups: Sequence[Group]) -> list[Grid]:
    """Return the tables of the report."""
    return [
        _evaluations(groups),
        _over_training("Training", groups, quantities.TRAINING),
        _over_training("Signs of collapse", groups, quantities.COLLAPSE),
        _over_training("Where tokens, weight and gradient lie", groups, quantities.SHARES),
        _over_training("The exact gradient", groups, quantities.GRADIENT),
        _over_training("How episodes end", groups, [quantities.STOP_REASONS]),
        _settings(groups),
        _runs(groups),
    ]


def _evaluations(groups: Sequence[Group]) -> Grid:
    header = ["metric", "runs", "seeds", "first", "last", "peak (step)", "peak − last"]
    names = quantities.EVALUATION.recorded(groups)
    rows = [_evaluation(quantities.evaluation(name, groups), name, group) for name in names for group in groups]
    note = (
        "At the steps that all seeds were evaluated at. The peak is the highest of several noisy evaluations and "
        "flatters every run; in brackets 95 % t intervals over seeds."
        if rows
        else f"{NOT_RECORDED.capitalize()}."
    )
    others = evaluations.left_out(run for group in groups for run in group.runs)
    if others:
        note += f" Recorded and not shown: {', '.join(others)}."
    return Grid("Evaluation", note, header, rows)


def _evaluation(quantity: Recorded, name: str, group: Group) -> list[str]:
    """First, last and peak of a group's evaluations."""
    series = group.common(name)
    if not series:
        return [name, group.label, *[NOT_RECORDED] * 5]
    seeds = _seeds(series, group)
    if not series[0]:
        return [name, group.label, seeds, *[_NO_COMMON_STEP] * 4]
    first, last, peak, fall = (
        _value(mean_over_seeds([pick(values) for values in series]), quantity) for pick in (_first, _last, _peak, _fall)
    )
    steps = ", ".join(str(max(values, key=values.__getitem__)) for values in series)
    return [name, group.label, seeds, first, last, f"{peak} ({steps})", fall]


def _first(values: dict[int, float]) -> float:
    return values[min(values)]


def _last(values: dict[int, float]) -> float:
    return values[max(values)]


def _peak(values: dict[int, float]) -> float:
    return max(values.values())


def _fall(values: dict[int, float]) -> float:
    return _peak(values) - _last(values)


def _over_training(title: str, groups: Sequence[Group], chosen: Sequence[Recorded]) -> Grid:
    """A row for each quantity and metric of it, a cell for each group; no rows if nothing of it is recorded."""
    header = ["", *(group.label for group in groups)]
    if not any(quantity.recorded(groups) for quantity in chosen):
        return Grid(title, f"{NOT_RECORDED.capitalize()}.", header, [])
    rows = []
    for quantity in chosen:
        names = quantity.recorded(groups)
        unit = f" ({quantity.unit})" if quantity.unit else ""
        for name in names:
            which = f": {name.rsplit('/', 1)[-1]}" if quantity.each or len(names) > 1 else ""
            rows.append([f"{quantity.title}{which}{unit}", *(_ends(group, name, quantity) for group in groups)])
        if not names and not quantity.each:
            rows.append([f"{quantity.title}{unit}", *[NOT_RECORDED] * len(groups)])
    note = (
        f"Mean over the first → over the last {_ENDS:.0%} of the steps that all seeds have recorded, averaged over "
        "seeds; in brackets the 95 % t interval of the last over seeds."
    )
    return Grid(title, note, header, rows)


def _ends(group: Group, name: str, quantity: Recorded) -> str:
    """Return the beginning and the end of a metric, averaged over its seeds."""
    series = group.common(name)
    if not series:
        return NOT_RECORDED
    if not series[0]:
        return _NO_COMMON_STEP
    beginnings, endings = zip(*map(_beginning_and_end, series), strict=True)
    last = _with_interval(clipped(mean_over_seeds(endings), *quantity.bounds), quantity.factor, "{:.3g}")
    seeds = "" if len(series) == len(group.runs) else f" ({_seeds(series, group)} seeds)"
    return f"{quantity.factor * np.mean(beginnings):.3g} → {last}{seeds}"


def _beginning_and_end(values: dict[int, float]) -> tuple[float, float]:
    count = max(1, round(_ENDS * len(values)))
    ordered = [values[step] for step in sorted(values)]
    return float(np.mean(ordered[:count])), float(np.mean(ordered[-count:]))


def _settings(groups: Sequence[Group]) -> Grid:
    rows = [[row.name, *row.cells] for row in differing_settings(groups)]
    runs = [run for group in groups for run in group.runs]
    recorded = sum(run.settings is not None for run in runs)
    if rows:
        note = "Seeds are left out."
    elif recorded > 1:
        note = f"The settings that {recorded} runs have recorded do not differ, but for seeds."
    elif recorded == 1:
        note = "One run alone has recorded its settings: there is nothing to compare them with."
    else:
        note = f"{NOT_RECORDED.capitalize()}."
    if recorded < len(runs):
        note += f" A metrics file holds no settings: {NOT_RECORDED} for {len(runs) - recorded} of {len(runs)} runs."
    return Grid("Settings that differ", note, ["", *(group.label for group in groups)], rows)


def _runs(groups: Sequence[Group]) -> Grid:
    rows = [
        [
            group.label,
            str(run.path),
            NOT_RECORDED if run.settings is None else str(run.settings.get("data.seed", "absent")),
            str(max(run.metrics)),
        ]
        for group in groups
        for run in group.runs
    ]
    return Grid("Runs", "", ["", "path", "seed", "last step"], rows)


def _seeds(series: Sequence[dict[int, float]], group: Group) -> str:
    return str(len(series)) if len(series) == len(group.runs) else f"{len(series)} of {len(group.runs)}"


def _value(estimate: Estimate, quantity: Recorded) -> str:
    """Write a value of an evaluation; its interval ends where the quantity does."""
    form, unit = ("{:.1f}", " %") if quantity.unit == "%" else ("{:.3g}", "")
    return _with_interval(clipped(estimate, *quantity.bounds), quantity.factor, form) + unit


def _with_interval(estimate: Estimate, factor: float, form: str) -> str:
    value = form.format(factor * estimate.value)
    if estimate.interval is None:
        return value
    low, high = (form.format(factor * end) for end in estimate.interval)
    return f"{value} [{low}, {high}]"
