"""`actfocus reproduce`: the paper's tables from training runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from verl_actfocus.cli._signals import exit_on_signals
from verl_actfocus.cli._training import INTERRUPTED, RUN_FAILED, add_dry_run_argument, show, train
from verl_actfocus.cli._values import positive, writable
from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.grid import Request, cells, distinct_runs
from verl_actfocus.experiments.launcher import Planned, plan
from verl_actfocus.experiments.table_files import find_table, read_scale, read_table, tables_folder
from verl_actfocus.experiments.tables import OtherEvaluation
from verl_actfocus.experiments.weightings import slug


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    known = ", ".join(sorted(path.stem for path in tables_folder().glob("[!_]*.yaml"))) or "none here"
    parser.description = (
        "Train the runs that a table of the paper is made of and write the table beside the paper's numbers. The same "
        "command resumes what was interrupted, repeats what failed and leaves alone what is done; tables share their "
        "runs. Words after -- go to veRL as Hydra overrides."
    )
    parser.add_argument("tables", nargs="+", metavar="TABLE", help=f"{known}; or the path of a YAML file")
    parser.add_argument("--scale", default="gpu", metavar="NAME", help="gpu: the paper's settings; cpu: a miniature")
    parser.add_argument(
        "--seeds", type=positive, metavar="N", help="training seeds (default: the table's, or the scale's)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="environments, algorithms, outcomes, model sizes or variants, weightings to restrict the table to",
    )
    parser.add_argument(
        "--out",
        type=writable,
        default=Path("outputs/paper"),
        metavar="DIR",
        help="the runs (default outputs/paper)",
    )
    parser.add_argument("--write-to", type=writable, metavar="DIR", help="the tables (default: the folder of the runs)")
    add_dry_run_argument(parser)
    parser.add_argument("--no-training", action="store_true", help="write the tables from the runs that are done")
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="evaluate every run that is done as the table's evaluations say, at another temperature or on other tasks",
    )
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
    requests = [_request(args, name) for name in args.tables]
    if args.evaluate and not any(request.table.evaluations for request in requests):
        raise ValueError(f"--evaluate: {', '.join(args.tables)} declares no evaluations; leave it out")
    planned = plan(distinct_runs([cell for request in requests for cell in cells(request)]))
    if args.dry_run:
        return show(planned)
    code = 0
    if not args.no_training:
        # What is still to be evaluated is deleted after that.
        delete = args.delete_checkpoints and not args.evaluate
        code = train("reproduce", planned, keep_going=True, delete_checkpoints=delete)
    if args.evaluate and code != INTERRUPTED:
        code = max(code, _evaluate(requests, planned))
    from verl_actfocus.experiments.report.writing import write_table

    finished = {one.folder.path: one.result for one in planned if one.record is not None}
    for request in requests:
        for path in write_table(request, finished, args.write_to or args.out / slug(request.scale_name)):
            print(path)
    if args.delete_checkpoints:
        for one in planned:
            if one.record is not None:
                one.folder.delete_checkpoints()
    return code


def _evaluate(requests: Sequence[Request], planned: Sequence[Planned]) -> int:
    """Evaluate the finished runs of every table as it declares; return the exit code."""
    from verl_actfocus.evaluation.reevaluation import reevaluate

    done = {one.run.folder: one.run for one in planned if one.record is not None}
    wanted: dict[Path, dict[str, OtherEvaluation]] = {}
    for request in requests:
        for run in distinct_runs(cells(request)):
            if run.folder in done:
                wanted.setdefault(run.folder, {}).update(request.table.evaluations)
    exit_on_signals()
    code = 0
    for number, (folder, others) in enumerate(wanted.items(), start=1):
        try:
            reevaluate(done[folder], others, f"[{number}/{len(wanted)}]")
        except ExperimentError as error:
            print(f"actfocus reproduce: {error}", file=sys.stderr)
            code = RUN_FAILED
        except KeyboardInterrupt:
            print("\ninterrupted; the same command continues", file=sys.stderr)
            return INTERRUPTED
    return code


def _request(args: argparse.Namespace, name: str) -> Request:
    path = find_table(name)
    scale, table = read_scale(path, args.scale), read_table(path)
    if table.scale not in ("", args.scale):
        raise ValueError(f"{table.name} is for --scale {table.scale}, not {args.scale}: what it declares holds there")
    return Request(
        table=table,
        scale=scale,
        scale_name=args.scale,
        seeds=args.seeds or table.seeds or scale.seeds,
        out=args.out,
        only=tuple(args.only),
        extra=args.overrides,
    )
