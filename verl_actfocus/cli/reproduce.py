"""`actfocus reproduce`: the paper's tables from training runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from verl_actfocus.cli._alpha import ready
from verl_actfocus.cli._codes import INCOMPLETE, INTERRUPTED
from verl_actfocus.cli._signals import exit_on_signals
from verl_actfocus.cli._training import add_dry_run_argument, show, train
from verl_actfocus.cli._values import positive, writable
from verl_actfocus.experiments.execution.launcher import Planned, plan
from verl_actfocus.experiments.results.archive import Archive, name_of
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.runs.choice import slug
from verl_actfocus.experiments.runs.own_code import own_modules
from verl_actfocus.experiments.tables.files import find_tables, read_scale, read_table, tables_folder
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs, waits
from verl_actfocus.storage.errors import ExperimentError

if TYPE_CHECKING:
    from verl_actfocus.evaluation.reevaluation import Reevaluation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    known = ", ".join(sorted(path.stem for path in tables_folder().glob("[!_]*.yaml"))) or "none here"
    parser.description = (
        "Train the runs that a table of the paper is made of and write the table beside the paper's numbers. The same "
        "command resumes what was interrupted, repeats what failed and leaves alone what is done; tables share their "
        "runs. Words after -- go to veRL as Hydra overrides."
    )
    parser.add_argument("tables", nargs="+", metavar="TABLE", help=f"{known}; or the path of a YAML file")
    parser.add_argument(
        "--scale",
        default="gpu",
        metavar="NAME",
        help="gpu: the paper's settings (default); cpu: a miniature, which is what our own protocol is for",
    )
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
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FILE.tar.xz",
        help="small file of finished runs, without texts and weights: those in it are put into --out, those that "
        "finish are added, so that machines without a common disk share a table",
    )
    parser.add_argument("--write-to", type=writable, metavar="DIR", help="the tables (default: the folder of the runs)")
    add_dry_run_argument(parser)
    parser.add_argument("--no-training", action="store_true", help="write the tables from the runs that are done")
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="once all runs are trained, evaluate every one that is done as the table's evaluations say: at another "
        "temperature, on other tasks",
    )
    parser.add_argument(
        "--delete-checkpoints",
        action="store_true",
        help="delete the checkpoints of every run that is done, with --evaluate once it is evaluated",
    )
    parser.set_defaults(overrides=())


def run(args: argparse.Namespace) -> int:
    """Train what is not trained yet, evaluate it if that is asked for, and write the tables.

    Args:
        args: the parsed arguments.

    Returns:
        0; 1 if a training run or an evaluation failed, 130 after Ctrl-C.

    Raises:
        ValueError: an argument is unknown or out of range, two tables have one name, or without training there would be
            nothing in the tables, since the archive is not there.
        ExperimentError: veRL is missing or of another version, a file of a table is wrong, or a folder holds something
            else.
    """
    requests = [_request(args, name, path) for name, path in zip(args.tables, find_tables(args.tables), strict=True)]
    chosen = [cell for request in requests for cell in cells(request)]
    runs = distinct_runs(chosen)
    waiting = waits(chosen)
    if not runs:
        raise ValueError(f"every row asked for waits: {'; '.join(waiting)}; there is nothing to train yet")
    for sentence in waiting:
        print(f"note: {sentence}; it is left blank", file=sys.stderr)
    archive = None if args.archive is None else Archive(args.archive)
    if archive is not None and not args.dry_run:
        for folder in (RunFolder(run.folder) for run in runs):
            archive.restore_alpha(name_of(folder), folder)
    planned = plan(
        ready(runs, measure=not (args.dry_run or args.no_training)), starts=not args.no_training or args.evaluate
    )
    if archive is not None:
        _restore(archive, planned, requests, write=not args.dry_run)
    again = _declared(requests) if args.evaluate else {}
    if args.dry_run:
        return _show(planned, again)
    if (
        archive is not None
        and args.no_training
        and not archive.path.exists()
        and not any(one.record for one in planned)
    ):
        raise ValueError(
            f"--archive {archive.path}: there is no such file, and none of the {len(planned)} runs asked for is done "
            f"in {args.out}, so that no number would be in the tables; name the archive, or leave out --no-training"
        )
    _archive(archive, planned)
    code = 0
    if not args.no_training:
        # What is to be evaluated is deleted after that.
        delete = args.delete_checkpoints and not again
        code = train("reproduce", planned, keep_going=True, when_done=partial(_keep, archive, delete))
    finished = [one for one in planned if one.record is not None]
    if again and code != INTERRUPTED:
        code = max(code, _evaluate([one for one in finished if one.run.folder in again], again))
        _archive(archive, finished)
    if not finished:
        nothing = f"none of the {len(planned)} runs asked for is done"
        print(f"note: {nothing}: nothing measured is in the tables", file=sys.stderr)
    from verl_actfocus.experiments.report.writing import write_table

    results = {one.folder.path: one.result for one in finished}
    settings = {one.run.folder: one.composed.settings for one in planned}
    for request in requests:
        modules = own_modules(settings[run.folder] for run in distinct_runs(cells(request)) if run.folder in settings)
        for path in write_table(request, results, args.write_to or args.out / slug(request.scale_name), modules):
            print(path)
    if args.delete_checkpoints:
        for one in finished:
            if all(evaluation.made for evaluation in again.get(one.run.folder, [])):
                one.folder.delete_checkpoints()
    return code


def _restore(archive: Archive, planned: Sequence[Planned], requests: Sequence[Request], *, write: bool) -> None:
    """Put archived runs where the grid looks for them, and say so; without `write` only mark them."""
    names = {name_of(one.folder): one for one in planned}
    for request in requests:
        declared = {name: other.changes for name, other in request.table.evaluations.items()}
        for run in distinct_runs(cells(request)):
            name = name_of(RunFolder(run.folder))
            if name in names:  # one whose α is not measured yet is not planned
                archive.check(name, names[name].composed.settings, declared)
    for name, one in names.items():
        one.archived = name in archive
        if write and archive.restore(name, one.folder):
            one.record = one.folder.done
    restored = sum(one.archived for one in planned)
    if restored:
        print(f"note: {restored} of the runs asked for are in the archive", file=sys.stderr)
    elif archive.path.exists():
        print(f"note: none of the runs asked for is in the archive {archive.path}", file=sys.stderr)
    else:
        print(
            f"note: there is no archive {archive.path} yet: it begins with the first run that is done", file=sys.stderr
        )


def _archive(archive: Archive | None, planned: Sequence[Planned]) -> None:
    if archive is not None:
        archive.add({name_of(one.folder): one.folder for one in planned})


def _keep(archive: Archive | None, delete: bool, folder: RunFolder) -> None:
    """What is done with a run once it is finished."""
    name = name_of(folder)
    if archive is not None and name not in archive:
        archive.add({name: folder})
    if delete:
        folder.delete_checkpoints()


def _declared(requests: Sequence[Request]) -> Mapping[Path, Sequence[Reevaluation]]:
    """Compose the evaluations of the tables; a table without any is named."""
    from verl_actfocus.evaluation.reevaluation import declare

    found = declare(requests)
    without = [request.table.name for request in requests if not request.table.evaluations]
    if without:
        print(f"note: {', '.join(without)} declares no evaluations", file=sys.stderr)
    return found


def _show(planned: Sequence[Planned], again: Mapping[Path, Sequence[Reevaluation]]) -> int:
    """Print what a dry run says; returns 0."""
    show(planned)
    for one in planned:
        for evaluation in again.get(one.run.folder, []):
            print(f"{one.run.title} {evaluation.name}: {evaluation.state()}")
    return 0


def _evaluate(finished: Sequence[Planned], again: Mapping[Path, Sequence[Reevaluation]]) -> int:
    """Evaluate finished runs as their tables declare; return the exit code."""
    from verl_actfocus.evaluation.reevaluation import reevaluate

    exit_on_signals()
    code = 0
    for number, one in enumerate(finished, start=1):
        try:
            reevaluate(again[one.run.folder], f"[{number}/{len(finished)}]", partial(print, file=sys.stderr))
        except ExperimentError as error:
            print(f"actfocus reproduce: {error}", file=sys.stderr)
            code = INCOMPLETE
        except KeyboardInterrupt:
            print("\ninterrupted; the same command continues", file=sys.stderr)
            return INTERRUPTED
    return code


def _request(args: argparse.Namespace, name: str, path: Path) -> Request:
    scale, table = read_scale(path, args.scale), read_table(path)
    if table.scale not in ("", args.scale):
        raise ValueError(f"{table.name} is for --scale {table.scale}, not {args.scale}: what it declares holds there")
    return Request(
        table=table.on(scale),
        scale=scale,
        scale_name=args.scale,
        seeds=args.seeds or table.seeds or scale.seeds,
        out=args.out,
        only=tuple(args.only),
        extra=args.overrides,
        asked_for=name,
    )
