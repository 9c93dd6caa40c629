"""A run's own place for temporary files: a session of Ray, lock files of veRL, and whatever else its processes leave.

It lies in the system's temporary folder and not in the run's: the path of a socket may have 107 bytes. A command finds
it in `TMPDIR`, which Ray follows too, unless the user has chosen another place for it (`RAY_TMPDIR`).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from verl_actfocus.storage.disk import writing

#: Longest path that leaves room for the sockets of Ray.
_LONGEST = 107 - len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")


def claim(folder: Path) -> Path | None:
    """Make an empty temporary folder for a run, in the place of one that a killed command of the same run has left.

    Args:
        folder: the run's folder; the caller has its lock.

    Returns:
        The folder; None where the system's temporary folder has such a long path that Ray could not work below it.

    Raises:
        ExperimentError: the disk is full.
        OSError: the folder cannot be made.
    """
    name = f"af-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:10]}"
    path = Path(tempfile.gettempdir()) / name
    if len(str(path).encode()) > _LONGEST:
        return None
    shutil.rmtree(path, ignore_errors=True)
    with writing(path):
        path.mkdir(mode=0o700)
    return path


def release(path: Path, logs: Path, *, keep_logs: bool) -> None:
    """Delete a temporary folder. What cannot be moved or deleted is no reason to fail, or to hide why a run has.

    Args:
        path: what `claim` returned.
        logs: where the logs of Ray go; those of an earlier attempt are deleted there.
        keep_logs: whether they are worth it: a run that fails without a word in its own log may have said why in them.
    """
    shutil.rmtree(logs, ignore_errors=True)
    if keep_logs:
        with suppress(OSError):
            for found in path.glob("ray/session_[0-9]*/logs"):
                shutil.move(found, logs)
    shutil.rmtree(path, ignore_errors=True)
