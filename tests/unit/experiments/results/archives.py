"""Runs of a request in an archive and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from verl_actfocus.experiments.results.archive import Archive, name_of
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs
from verl_actfocus.storage.disk import UNFINISHED
from verl_actfocus.storage.locks import LOCK


def folders(request: Request) -> dict[str, RunFolder]:
    """All runs of a request, by their names in an archive."""
    every = [RunFolder(run.folder) for run in distinct_runs(cells(request))]
    return {name_of(folder): folder for folder in every}


def restored(path: Path, wanted: Mapping[str, RunFolder]) -> list[str]:
    """Put runs of an archive in their places; return which were put there."""
    archive = Archive(path)
    return [name for name, folder in wanted.items() if archive.restore(name, folder)]


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, but for locks and what a kill left of a file."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((LOCK, UNFINISHED)))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
