"""`actfocus report`: make the report of a comparison again from what its runs have left on disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from verl_actfocus.experiments.report.report import Page, write_report
from verl_actfocus.experiments.report.summary import Summary, summarise
from verl_actfocus.experiments.results import read_runs
from verl_actfocus.viewer import examples, run_source, select, write_page

#: Name of the page of trajectories in a comparison's folder.
PAGE = "trajectories.html"
#: Most trajectories on it.
_LIMIT = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Write report.md, report.html, the picture and the page of trajectories of a comparison again; nothing is "
        "trained."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder that actfocus compare --out has filled")


def run(args: argparse.Namespace) -> int:
    """Write the report.

    Args:
        args: the parsed arguments.

    Returns:
        0.

    Raises:
        ExperimentError: the folder holds no finished run.
    """
    write_and_print(args.folder)
    return 0


def write_and_print(folder: Path) -> None:
    """Write the report of a folder, and print its sentences and where it is."""
    summary = summarise(read_runs(folder))
    page = _trajectories(summary, folder)
    files = [*write_report(summary, folder, page), *([] if page is None else [folder / page.name])]
    for one in summary.weightings:
        print(one.sentence)
    for difference in summary.differences:
        print(f"{difference.sentence} {difference.scope}")
    for file in files:
        print(file)


def _trajectories(summary: Summary, folder: Path) -> Page | None:
    """Write the page of all runs' trajectories, the baseline's first; None if there are none."""
    selection = select([run_source(run.folder.path) for run in [*summary.runs, *summary.unfinished]], _LIMIT)
    if not selection.entries:
        return None
    write_page(selection, folder / PAGE)
    links = {link.text: link.fragment for link in examples(selection)}
    return Page(PAGE, len(selection.entries), selection.omissions, links)
