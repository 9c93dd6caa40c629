"""One command at a time in a folder, whatever machine of a cluster it runs on, as far as the file system has locks."""

from __future__ import annotations

import errno
import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verl_actfocus.storage.disk import writing
from verl_actfocus.storage.errors import ExperimentError

#: File that is locked. It stays behind: a lock is what a living process holds, not a file.
LOCK = ".lock"
#: What file systems without locks answer, some of those that clusters share among them.
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def locked(folder: Path, name: str = LOCK, *, wait: bool = False) -> Iterator[None]:
    """Keep other commands out of a folder while the block runs.

    The lock ends with this process, even if that is killed. Processes that the block starts do not hold it.

    Args:
        folder: the folder; it is made if there is none.
        name: file that is locked; another one locks something of its own in the folder.
        wait: wait for the other command, which is done in a moment.

    Raises:
        ExperimentError: another command is in the folder, or the disk is full.
    """
    with writing(folder / name):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ExperimentError(f"{folder} is in use by another command; wait for it or end it") from error
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            warnings.warn(
                f"the file system of {folder} has no locks ({error}): take care that no second command uses it",
                stacklevel=3,
            )
        yield
