"""`actfocus report`: the report of a comparison once more, or of any veRL runs, from what they have left on disk."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.report.metrics_report import write_metrics_report
from verl_actfocus.experiments.report.report import write_report
from verl_actfocus.experiments.report.runs import grouped, read_logged
from verl_actfocus.experiments.report.summary import summarise
from verl_actfocus.experiments.results import read_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Write a report; nothing is trained. Of the folder of a comparison, its report.md, report.html and picture "
        "again. With --out, of any runs the metrics over training: metrics.md, metrics.html and metrics.png."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]PATH",
        help="folder that actfocus compare --out has filled, a run's folder, or a file of veRL's 'file' logger; runs "
        "of one NAME are seeds of the same thing, without names those whose recorded settings differ in seeds alone",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report of the runs' metrics goes")


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
        for file in write_metrics_report(grouped(read_logged(args.runs)), args.out, args.runs):
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
    files = write_report(summary, folder)
    for one in summary.weightings:
        print(one.sentence)
    for difference in summary.differences:
        print(f"{difference.sentence} {difference.scope}")
    for file in files:
        print(file)
