"""`actfocus report`: the report of a comparison once more, or of any veRL runs, from what they have left on disk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from verl_actfocus.cli._values import writable
from verl_actfocus.experiments.report.logged_runs import grouped, read_logged
from verl_actfocus.experiments.report.metrics_report import write_metrics_report
from verl_actfocus.experiments.report.report import NO_TRAJECTORIES, Page, write_report
from verl_actfocus.experiments.report.summary import Summary, summarise
from verl_actfocus.experiments.results.run_result import read_runs
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.viewer import examples, run_source, select, write_page

#: Name of the page of trajectories in a comparison's folder.
PAGE = "trajectories.html"
#: Most trajectories on it.
_LIMIT = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Write a report; nothing is trained. Of the folder of a comparison, its report.md, report.html, picture and "
        "page of trajectories again. With --out, of any runs the metrics over training: metrics.md, metrics.html and "
        "metrics.png."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]PATH",
        help="folder that actfocus compare --out has filled, a run's folder, or a file of veRL's 'file' logger; runs "
        "of one NAME are seeds of the same thing, without names those whose recorded settings differ in seeds alone",
    )
    parser.add_argument("--out", type=writable, metavar="DIR", help="where the report of the runs' metrics goes")


def run(args: argparse.Namespace) -> int:
    """Write the report.

    Args:
        args: the parsed arguments.

    Returns:
        0.

    Raises:
        ExperimentError: a path holds no run, or the folder of a comparison no finished one.
    """
    if args.out is not None:
        runs, left_out = read_logged(args.runs)
        for file in write_metrics_report(grouped(runs), args.out, args.runs, left_out):
            print(file)
        return 0
    write_and_print(_comparison(args.runs))
    return 0


def _comparison(words: Sequence[str]) -> Path:
    """Return the folder of the one comparison that was named."""
    folder = Path(words[0])
    if len(words) > 1 or folder.is_file() or (folder / "run.json").exists():
        raise ExperimentError(
            "a report of runs and metrics files needs --out DIR to say where it goes; without --out, name the folder "
            "of one comparison"
        )
    return folder


def write_and_print(folder: Path) -> None:
    """Write the report of a comparison, and print its sentences and where it is."""
    summary = summarise(read_runs(folder))
    page = _trajectories(summary, folder)
    files = [*write_report(summary, folder, page), *([folder / page.name] if isinstance(page, Page) else [])]
    for one in summary.weightings:
        print(one.sentence)
    for difference in summary.differences:
        print(f"{difference.sentence} {difference.scope}")
    for file in files:
        print(file)


def _trajectories(summary: Summary, folder: Path) -> Page | str:
    """Write the page of all runs' trajectories, the baseline's first; why there is none, in words, otherwise."""
    try:
        selection = select([run_source(run.folder.path) for run in [*summary.runs, *summary.unfinished]], _LIMIT)
    except ExperimentError as error:
        # What was measured does not depend on the samples.
        print(f"no page of trajectories: {error}", file=sys.stderr)
        return f"There is no page of trajectories: {error}."
    if not selection.entries:
        return NO_TRAJECTORIES
    write_page(selection, folder / PAGE)
    links = {link.text: link.fragment for link in examples(selection)}
    return Page(PAGE, len(selection.entries), selection.omissions, links)
