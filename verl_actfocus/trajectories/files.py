"""Files of trajectories: `*.jsonl`, one a line, or `*.jsonl.gz`, the same compressed."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from verl_actfocus.trajectories.format import Trajectory, TrajectoryFormatError

SUFFIXES = (".jsonl", ".jsonl.gz")
#: Bytes that are read at a time when the end of the last whole line is looked for.
_BLOCK = 1 << 16
#: How every gzip member begins; the module names what it found if there is no second byte.
_FIRST_BYTE = b"\x1f"


def encoded(trajectory: Trajectory, *, compress: bool) -> bytes:
    """Return what a trajectory adds to a file: its line, or a whole gzip member with it.

    Members may stand behind each other in one gzip file, so every line that was written whole survives what becomes of
    the next.

    Raises:
        TrajectoryFormatError: a value cannot be written.
    """
    data = (trajectory.line() + "\n").encode()
    return gzip.compress(data, mtime=0) if compress else data


def write_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Append a trajectory to a file and flush it; a name that ends in `.gz` is compressed.

    Raises:
        TrajectoryFormatError: a value cannot be written.
        OSError: the file cannot be written.
    """
    data = encoded(trajectory, compress=path.name.endswith(".gz"))
    with path.open("ab") as file:
        file.write(data)


def read_trajectories(path: Path, when_cut_off: Callable[[], None] = lambda: None) -> Iterator[Trajectory]:
    """Yield the trajectories of a file, one at a time.

    Args:
        path: the file.
        when_cut_off: called if the last line has no line feed: it was cut off by a kill, and is left out.

    Raises:
        TrajectoryFormatError: another line is no trajectory; the message names file and line.
        OSError: the file cannot be read.
    """
    with cast("IO[bytes]", gzip.open(path) if path.name.endswith(".gz") else path.open("rb")) as file:
        number = 0
        while True:
            try:
                line = file.readline()
            except EOFError:  # a compressed member that was cut off
                return when_cut_off()
            except (gzip.BadGzipFile, zlib.error) as error:
                if str(_FIRST_BYTE) in str(error):  # cut off behind its first byte
                    return when_cut_off()
                raise TrajectoryFormatError(f"{path}: damaged behind line {number}: {error}") from error
            number += 1
            if not line:
                return None
            if not line.endswith(b"\n"):
                return when_cut_off()
            try:
                yield Trajectory.from_line(line)
            except TrajectoryFormatError as error:
                raise TrajectoryFormatError(f"{path}, line {number}: {error}") from error


def drop_cut_line(path: Path) -> None:
    """Remove what stands behind the last line feed of a file that is not compressed, so that lines can be added.

    The file is shortened and not written anew: whatever happens here, the whole lines stay.

    Raises:
        OSError: the file cannot be read or shortened.
    """
    size = end = path.stat().st_size
    with path.open("rb") as file:
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
    if end < size:
        os.truncate(path, end)


def trajectory_files(folder: Path) -> list[Path]:
    """Return the files of trajectories in a folder, those of earlier steps first where their names are steps."""
    found = [path for path in folder.iterdir() if path.name.endswith(SUFFIXES)]
    return sorted(found, key=lambda path: (_step(path) is None, _step(path) or 0, path.name))


def _step(path: Path) -> int | None:
    stem = path.name.split(".")[0]
    return int(stem) if stem.isdecimal() and stem.isascii() else None
