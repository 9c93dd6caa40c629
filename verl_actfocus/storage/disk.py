"""Files written whole or not at all, and a full disk said with the place and the remedy."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from platform import node
from secrets import token_hex
from typing import Any
from zlib import crc32

from safetensors import SafetensorError

from verl_actfocus.storage.errors import ExperimentError

#: What the name of a file ends with that is not whole yet, or that a killed command left behind.
UNFINISHED = ".tmp"
#: This machine, in eight digits.
_HERE = f"{crc32(node().encode()):08x}"
#: What the operating system says of a full disk and of a used-up quota.
FULL = (errno.ENOSPC, errno.EDQUOT)
_IN_WORDS = ("No space left on device", "Disk quota exceeded")
#: Free bytes below which a file system is taken for full: torch says of a write that failed only that it did.
_FREE_ENOUGH = 20e6
_REMEDY = "make room there, or choose another --out; the same command then continues"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file and the remedy if the disk is full while the block writes.

    Args:
        path: the file.

    Raises:
        ExperimentError: the disk is full, or the quota is used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ExperimentError(f"{path} cannot be written: {error.strerror}; {_REMEDY}") from error
    except (RuntimeError, SafetensorError) as error:  # torch and safetensors do not say why a file cannot be written
        reason = full(path.parent, [str(error)])
        if reason is None:
            raise
        raise ExperimentError(f"{path} cannot be written: {reason}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: one that is there stays as it is if the new one does not fit.

    Several may write the same file at a time, on several machines too: it is then one of theirs. What a process that
    was killed on this machine left of it is removed.

    Raises:
        ExperimentError: the disk is full.
    """
    temporary = path.with_name(f"{path.name}.{_mark()}{UNFINISHED}")
    try:
        with writing(path):
            temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    for left in path.parent.glob(f"{escape(path.name)}.{_HERE}-*{UNFINISHED}"):
        process = left.name.rpartition("-")[0].rpartition("-")[2]
        if process.isdigit() and not _runs(int(process)):
            left.unlink(missing_ok=True)


def _mark() -> str:
    """Return what no other file that is being written has in its name: this machine, this process, and a number."""
    return f"{_HERE}-{os.getpid()}-{token_hex(4)}"


def _runs(process: int) -> bool:
    """Whether a process of this machine has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        ExperimentError: the disk is full.
    """
    write_whole(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def full(folder: Path, errors: Sequence[str], remedy: str = _REMEDY) -> str | None:
    """Say that a full disk is why something failed; None if nothing points to it.

    Args:
        folder: where it wrote.
        errors: its last error lines.
        remedy: what to do about it.
    """
    places = (folder, Path(tempfile.gettempdir()))  # Ray writes to the latter
    free = {place: shutil.disk_usage(place).free for place in places}
    if not any(words in line for words in _IN_WORDS for line in errors) and min(free.values()) > _FREE_ENOUGH:
        return None
    usage = ", ".join(f"{place} {size / 1e6:.0f} MB" for place, size in free.items())
    return f"the disk is full (free: {usage}; or a quota is used up); {remedy}"
