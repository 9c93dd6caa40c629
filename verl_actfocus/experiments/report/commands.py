"""The command lines under reports and tables, which make what they show again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from verl_actfocus.experiments.report.summary import Summary, baseline_first, method_order
from verl_actfocus.experiments.runs.own_code import own_modules
from verl_actfocus.experiments.tables.grid import Request


def compare_command(summary: Summary, out: Path) -> list[str]:
    """Return the command that makes all runs of a report again, or continues them; none if no comparison makes them."""
    runs = [*summary.runs, *summary.unfinished]
    run, seeds = runs[0].identity, {run.seed for run in runs}
    if min(seeds) > 0 or run["trial"]:
        return []
    weightings = [str(choice) for choice in baseline_first(run.weighting for run in runs)]
    words = _actfocus("compare", own_modules(one.folder.settings for one in runs))
    words += ["--profile", run["profile"], "--algorithm", run["algorithm"]]
    words += ["--steps", str(run["steps"]), "--seeds", str(1 + max(seeds)), "--weightings", *weightings]
    words += ["--device", run["device"]] if "device" in run else []
    if any("estimator" in one.identity for one in runs):
        words += ["--estimators", *dict.fromkeys(str(one.estimator) for one in sorted(runs, key=method_order))]
    return [shlex.join([*words, "--out", str(out), *(["--", *run["extra"]] if run["extra"] else [])])]


def reproduce_command(request: Request, modules: Sequence[str]) -> str:
    """Return the command line that makes a table, but for where its runs are: that is another place elsewhere.

    Args:
        request: the table.
        modules: those of the user's that its runs train with.
    """
    words = _actfocus("reproduce", modules)
    words += [request.asked_for or request.table.name, "--scale", request.scale_name]
    words += ["--seeds", str(request.seeds), *(["--only", *request.only] if request.only else [])]
    words += ["--evaluate"] if request.table.evaluations else []
    return shlex.join([*words, *(["--", *request.extra] if request.extra else [])])


def _actfocus(command: str, modules: Sequence[str]) -> list[str]:
    return ["actfocus", *(word for module in modules for word in ("--module", module)), command]
