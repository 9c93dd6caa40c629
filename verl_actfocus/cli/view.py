"""`actfocus view`: look at the trajectories of runs and evaluations in a browser."""

from __future__ import annotations

import argparse
from importlib.resources import as_file, files
from pathlib import Path

from tqdm import tqdm

from verl_actfocus.cli._values import positive
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.viewer import Selection, Source, find_sources, select, write_page

#: Packaged samples of both methods, in the order of the page: `viewer/demo/README.md` says where they are from.
_DEMO = ("Uniform", "ActFocus")
#: Most files that a sentence names.
_NAMED = 3
#: Megabytes of a page from which on it opens slowly.
_SLOW = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Write one page with the trajectories of runs, evaluations, folders or files: every token coloured by weight, "
        "advantage, energy or log-probability, siblings and runs side by side. It needs no network and no server."
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="RUN|EVAL|FOLDER|FILE",
        help="folder of a run, of a comparison or of an evaluation, any folder of trajectories, or a file of them",
    )
    parser.add_argument("--demo", action="store_true", help="show packaged trajectories of Uniform and ActFocus")
    parser.add_argument(
        "--out", type=_page, default=Path("trajectories.html"), metavar="FILE", help="the page (default %(default)s)"
    )
    parser.add_argument(
        "--limit",
        type=positive,
        default=1000,
        metavar="N",
        help="most trajectories on the page, in whole groups, runs and steps in turns (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and say where it is and what is not on it.

    Args:
        args: the parsed arguments.

    Returns:
        0.

    Raises:
        ValueError: neither or both of paths and `--demo` are given.
        ExperimentError: a path holds no trajectories, a line is damaged, or the disk is full.
    """
    if bool(args.paths) == args.demo:
        raise ValueError("name a run, an evaluation, a folder or a file, or --demo alone for packaged samples")
    if args.demo:
        with as_file(files("verl_actfocus.viewer") / "demo") as folder:
            selection = read(find_sources([folder / f"{name}.jsonl.gz" for name in _DEMO]), args.limit)
    else:
        others: list[Path] = []
        selection = read(find_sources(args.paths, others.append), args.limit)
        if others:
            more = ", …" if len(others) > _NAMED else ""
            named = ", ".join(map(str, others[:_NAMED]))
            selection.omissions.append(f"{len(others)} files hold no trajectories and are passed over: {named}{more}.")
    if not selection.entries:
        raise ExperimentError("no trajectory has been written there yet")
    write_page(selection, args.out)
    size = args.out.stat().st_size / 1e6
    print(f"{len(selection.entries)} trajectories of {'; '.join(source.label for source in selection.sources)}")
    for omission in selection.omissions:
        print(omission)
    if size > _SLOW:
        print(f"{size:.0f} MB take a browser some seconds to open; a smaller --limit makes the page smaller")
    print(f"{args.out} ({size:.1f} MB), in a browser: {args.out.resolve().as_uri()}")
    return 0


def _page(text: str) -> Path:
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file, such as {Path(text) / 'trajectories.html'}")
    return Path(text)


def read(sources: list[Source], limit: int) -> Selection:
    """Read trajectories and choose those of the page; what takes longer than a second shows its progress."""
    with tqdm(desc="reading", unit=" trajectories", delay=1, leave=False) as bar:

        def watch(count: int) -> None:
            bar.update(count - bar.n)

        return select(sources, limit, watch)
