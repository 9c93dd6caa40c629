"""Writes the report of a comparison: `report.md`, `learning_curves.png` and the self-contained `report.html`."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from verl_actfocus.experiments.report import summary as numbers
from verl_actfocus.experiments.report.commands import compare_command
from verl_actfocus.experiments.report.escapes import Verbatim, fenced, markdown
from verl_actfocus.experiments.report.plots import learning_curves
from verl_actfocus.experiments.report.provenance import NamedRow, made_with, wall_times
from verl_actfocus.experiments.report.steps import checks, run_times, step_times
from verl_actfocus.experiments.report.summary import Summary
from verl_actfocus.experiments.runs.weightings import SECTION
from verl_actfocus.storage.disk import write_whole
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.settings import within

#: Name of the picture in the report's folder.
PICTURE = "learning_curves.png"
#: What a report says of runs without a page of trajectories.
NO_TRAJECTORIES = "The runs have written no trajectories."
#: What a reader wants to know about the conditions → the settings that say it.
_CONDITIONS = {
    "model": ("actor_rollout_ref.model.path",),
    "prompts × trajectories per step": ("data.train_batch_size", "actor_rollout_ref.rollout.n"),
    "mini-batch (prompts)": ("actor_rollout_ref.actor.ppo_mini_batch_size",),
    "learning rate of the policy": ("actor_rollout_ref.actor.optim.lr",),
    "clip range: low, high": (
        "actor_rollout_ref.actor.clip_ratio_low",
        "actor_rollout_ref.actor.clip_ratio_high",
    ),
    "entropy coefficient": ("actor_rollout_ref.actor.entropy_coeff",),
    "sampling temperature: training, evaluation": (
        "actor_rollout_ref.rollout.temperature",
        "actor_rollout_ref.rollout.val_kwargs.temperature",
    ),
    "evaluation tasks × episodes": ("data.environment.val_size", "actor_rollout_ref.rollout.val_kwargs.n"),
    "share of prompt groups trained on": ("algorithm.actfocus.keep_groups",),
    "weights normalised over": ("algorithm.actfocus.normalize_over",),
}
_SECTIONS = {"episode limits": "data.environment.limits.", "environment options": "data.environment.kwargs."}


@dataclass(frozen=True)
class Page:
    """The page of trajectories beside a report."""

    #: Name of the file.
    name: str
    #: How many trajectories it shows.
    count: int
    #: What is not on it, in sentences.
    omissions: Sequence[str]
    #: What a link says → the fragment of the page's address that opens it.
    links: Mapping[str, str]


def write_report(summary: Summary, out: Path, page: Page | str = NO_TRAJECTORIES) -> list[Path]:
    """Write the report of a comparison.

    Args:
        summary: its numbers, see `verl_actfocus.experiments.report.summary.summarise`.
        out: folder of the comparison, where the report goes.
        page: the page of its trajectories, which lies there already; or why there is none, in a sentence.

    Returns:
        The files written: Markdown, HTML and the picture.

    Raises:
        ExperimentError: the runs' files contradict each other.
    """
    identity = summary.runs[0].identity
    title = f"{identity['algorithm'].upper()} on {identity['env']}, {identity['steps']} steps"
    picture = learning_curves(summary, title)
    context = {
        "title": title,
        "summary": summary,
        "numbers": numbers,
        "conditions": _conditions(summary),
        "step_times": step_times(summary),
        "run_times": run_times(summary),
        "checks": checks(summary),
        "made_with": [*made_with(summary.runs), *wall_times(summary.runs)],
        "picture_name": PICTURE,
        "picture_data": base64.b64encode(picture).decode("ascii"),
        "run_commands": [run.folder.done["command"] for run in summary.runs if run.folder.done],
        "page": page,
        "commands": [*compare_command(summary, out), f"actfocus report {shlex.quote(str(out))}"],
    }
    files = {PICTURE: picture}
    for name in ("report.md", "report.html"):
        files[name] = render(name, context).encode("utf-8")
    for name, content in files.items():
        write_whole(out / name, content)
    return [out / "report.md", out / "report.html", out / PICTURE]


def render(name: str, context: dict[str, Any]) -> str:
    """Fill in a template; text cannot become markup, unless the template says `verbatim` of it."""
    is_html = name.endswith(".html")
    environment = Environment(
        loader=PackageLoader("verl_actfocus.experiments.report"),
        autoescape=is_html,
        finalize=None if is_html else markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["verbatim"] = Verbatim
    environment.globals["fenced"] = fenced
    return environment.get_template(name).render(context)


def _conditions(summary: Summary) -> list[NamedRow]:
    """What the runs have in common, then the weightings."""
    settings = summary.runs[0].folder.settings
    rows = []
    for name, keys in _CONDITIONS.items():
        missing = [key for key in keys if key not in settings]
        if missing:
            raise ExperimentError(f"{summary.runs[0].folder.path}/run.json lacks the settings {', '.join(missing)}")
        between = " × " if "×" in name else ", "
        rows.append(NamedRow(name, [between.join(str(settings[key]) for key in keys)]))
    for name, prefix in _SECTIONS.items():
        values = [f"{key.removeprefix(prefix)} {value}" for key, value in settings.items() if key.startswith(prefix)]
        if values:
            rows.append(NamedRow(name, [", ".join(values)]))
    rows.append(NamedRow("overrides of the user", [" ".join(summary.runs[0].identity["extra"]) or "none"]))
    for one in summary.weightings:
        own = within(one.runs[0].folder.settings, SECTION)
        shown = [f"{key} {value}" for key, value in own.items() if value is not None]
        rows.append(NamedRow(f"weighting of {one.label}", [", ".join(shown)]))
        if one.label != one.weighting.label:
            rows.append(NamedRow(f"estimator of {one.label}", [str(one.estimator)]))
    return rows
