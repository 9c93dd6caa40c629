"""Files of a run put into its folder, so that a kill at any moment leaves no half run."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from verl_actfocus.experiments.results.archived_run import (
    DIAGNOSIS,
    DONE,
    METRICS,
    OUTCOMES,
    RUN,
    SETTINGS,
    Files,
)
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.storage.disk import write_whole
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import LOCK, locked


def put(files: Files, place: Path) -> None:
    """Put a run in a folder that holds none, whole or not at all. Whoever calls this has the folder's lock."""
    # A folder deeper than runs are looked for: a part of one is not taken for one.
    partial = place.with_name(f".{place.name}.partial")
    made = partial / place.name
    shutil.rmtree(partial, ignore_errors=True)  # of a command that was killed
    fill(files, made)
    for left in place.iterdir():
        left.rename(made / left.name)  # the lock, too: the file that is held is the one that others find
    try:
        made.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise
        # The folder was without a lock for a moment.
        raise ExperimentError(f"{place} is in use by another command; wait for it or end it") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fill(files: Files, folder: Path) -> None:
    """Write a run. Until its metrics are there it is one that died before its first evaluation, which is begun anew."""
    for file in (RUN, *sorted(files.keys() - {RUN, METRICS, DONE, DIAGNOSIS}), METRICS, DONE):
        write(folder / file, files[file])


def put_evaluation(place: Path, settings: bytes, outcomes: bytes) -> None:
    """Put an evaluation in the place of one that was begun there at most: nothing of that one stays."""
    with locked(place):
        for left in place.iterdir():
            if left.name != LOCK:
                left.unlink()
        write(place / SETTINGS, settings)
        write(place / OUTCOMES, outcomes)  # last, since an evaluation with it is whole


def all_metrics(folder: RunFolder) -> bytes:
    """Return what all attempts of a run logged: a training logs more than an archive keeps of it."""
    return b"".join(folder.metrics(number).read_bytes() for number in folder.attempts())


def write(place: Path, content: bytes) -> None:
    """Write a file whole or not at all, and make its folder."""
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, content)
