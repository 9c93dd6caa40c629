"""`actfocus report`: make the report of a comparison again from what its runs have left on disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from verl_actfocus.experiments.report.report import write_report
from verl_actfocus.experiments.report.summary import summarise
from verl_actfocus.experiments.results import read_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = "Write report.md, report.html and the picture of a comparison again; nothing is trained."
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
    files = write_report(summary, folder)
    for one in summary.weightings:
        print(one.sentence)
    for difference in summary.differences:
        print(f"{difference.sentence} {difference.scope}")
    for file in files:
        print(file)
