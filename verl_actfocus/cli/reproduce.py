"""``actfocus reproduce``: the paper's tables from training runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from verl_actfocus.cli._environment_arguments import positive
from verl_actfocus.cli._training import INTERRUPTED, RUN_FAILED, end_cleanly, require_machine
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.grid import Request, cells, distinct_runs
from verl_actfocus.experiments.requirements import require_verl
from verl_actfocus.experiments.runs import Run
from verl_actfocus.experiments.specification import find_table, read_profile, read_table, tables_folder
from verl_actfocus.experiments.training import state, title, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    known = ", ".join(sorted(path.stem for path in tables_folder().glob("[!_]*.yaml"))) or "none here"
    parser.description = (
        "Train the runs that a table of the paper is made of and write the table beside the paper's numbers. The same "
        "command resumes what was interrupted, repeats what failed and leaves alone what is done; tables share their "
        "runs. Words after -- go to veRL as Hydra overrides."
    )
    parser.add_argument("tables", nargs="+", metavar="TABLE", help=f"{known}; or the path of a YAML file")
    parser.add_argument("--profile", default="gpu", metavar="NAME", help="gpu: the paper's settings; cpu: a miniature")
    parser.add_argument("--seeds", type=positive, metavar="N", help="training seeds (default: the profile's)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="environments, algorithms, outcomes, model sizes or variants to restrict the table to",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/paper"), metavar="DIR", help="the runs (default outputs/paper)"
    )
    parser.add_argument("--write-to", type=Path, metavar="DIR", help="the tables (default: the folder of the runs)")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, their state and their commands")
    parser.add_argument("--no-training", action="store_true", help="write the tables from the runs that are done")
    parser.add_argument(
        "--delete-checkpoints", action="store_true", help="delete the checkpoints of every run that is done"
    )
    parser.set_defaults(overrides=())


def run(args: argparse.Namespace) -> int:
    """Train what is not trained yet and write the tables.

    Args:
        args: the parsed arguments.

    Returns:
        0; 1 if a training run failed, 130 after Ctrl-C.

    Raises:
        ValueError: an argument is unknown or out of range.
        ExperimentError: veRL is missing or of another version, a file of a table is wrong, or a folder holds something
            else.
    """
    require_verl()
    requests = [_request(args, name) for name in args.tables]
    runs = distinct_runs([cell for request in requests for cell in cells(request)])
    if args.dry_run:
        return _list(runs)
    failed, interrupted = (0, False) if args.no_training else _train(runs, args.delete_checkpoints)
    from verl_actfocus.experiments.report.writing import write_table

    for request in requests:
        for path in write_table(request, args.write_to or args.out / request.profile_name):
            print(path)
    if args.delete_checkpoints:
        for folder in (RunFolder(run.folder) for run in runs):
            if folder.done is not None:
                folder.delete_checkpoints()
    if interrupted:
        print("interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    return RUN_FAILED if failed else 0


def _request(args: argparse.Namespace, name: str) -> Request:
    path = find_table(name)
    profile = read_profile(path, args.profile)
    request = Request(
        table=read_table(path),
        profile=profile,
        profile_name=args.profile,
        seeds=args.seeds or profile.seeds,
        out=args.out,
        only=tuple(args.only),
        extra=args.overrides,
    )
    cells(request)
    return request


def _list(runs: list[Run]) -> int:
    states = {run: state(run) for run in runs}
    for run, words in states.items():
        print(f"{title(run)}: {words}\n  {run.shell_command()}")
    print(f"{len(runs)} runs, {sum(words == 'done' for words in states.values())} done")
    return 0


def _train(runs: list[Run], delete_checkpoints: bool) -> tuple[int, bool]:
    """Train; returns the number of failed runs, and whether Ctrl-C was pressed."""
    require_machine(runs)
    end_cleanly()
    try:
        failures = train(runs, delete_checkpoints=delete_checkpoints)
    except KeyboardInterrupt:
        return 0, True
    for failure in failures:
        print(f"actfocus reproduce: {title(failure.run)}: {failure.error}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} runs failed; the same command tries them again", file=sys.stderr)
    return len(failures), False
