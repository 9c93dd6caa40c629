"""Files of trajectories: `*.jsonl`, one a line, or `*.jsonl.gz`, the same compressed."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from verl_actfocus.trajectories.format import Trajectory, TrajectoryFormatError

SUFFIXES = (".jsonl", ".jsonl.gz")


def write_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Append a trajectory to a file and flush it; a name that ends in `.gz` is compressed.

    Raises:
        TrajectoryFormatError: a number is not finite.
        OSError: the file cannot be written.
    """
    data = (trajectory.line() + "\n").encode()
    # Members of a gzip file may stand behind each other: a whole one for every line survives a kill at the next.
    with path.open("ab") as file:
        file.write(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Yield the trajectories of a file, one at a time.

    A last line without its line feed was cut off by a kill and is left out.

    Raises:
        TrajectoryFormatError: another line is no trajectory; the message names file and line.
        OSError: the file cannot be read.
    """
    with path.open("rb") as raw:
        file: IO[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if path.name.endswith(".gz") else raw
        number = 0
        while True:
            try:
                line = file.readline()
            except EOFError:  # a compressed member that was cut off
                return
            except gzip.BadGzipFile as error:
                raise TrajectoryFormatError(f"{path}: damaged behind line {number}: {error}") from error
            number += 1
            if not line.endswith(b"\n"):
                return
            try:
                yield Trajectory.from_line(line)
            except TrajectoryFormatError as error:
                raise TrajectoryFormatError(f"{path}, line {number}: {error}") from error


def trajectory_files(folder: Path) -> list[Path]:
    """Return the files of trajectories in a folder, those of earlier steps first where their names are steps."""
    found = [path for path in folder.iterdir() if path.name.endswith(SUFFIXES)]
    return sorted(found, key=lambda path: (_step(path) is None, _step(path) or 0, path.name))


def _step(path: Path) -> int | None:
    stem = path.name.split(".")[0]
    return int(stem) if stem.isdecimal() else None
