"""A folder of results belongs to one model and one set of settings; the same command continues it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from verl_actfocus.storage.disk import UNFINISHED, write_json
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import LOCK, locked
from verl_actfocus.storage.settings import differences, flatten, in_words

_SETTINGS = "settings.json"


@contextmanager
def claimed(
    folder: Path, settings: dict[str, Any], what: str, remedy: str = "choose another --out or delete the folder"
) -> Iterator[None]:
    """Claim a folder, or make sure that it was claimed with these settings, while the block runs.

    The settings stand in its `settings.json`.

    Args:
        folder: need not exist yet.
        settings: model and settings, as plain values.
        what: what the folder holds, in a word.
        remedy: what to do about a folder that holds something else.

    Raises:
        ExperimentError: the folder holds results of other settings or other files, or is in use.
    """
    wanted = json.loads(json.dumps(settings))
    _check(folder, wanted, what, remedy)  # before a lock is left in a folder of somebody else's
    with locked(folder):
        _check(folder, wanted, what, remedy)  # another command may have claimed it
        write_json(folder / _SETTINGS, wanted)
        yield


def unclaimed(folder: Path) -> bool:
    """Whether a folder is nobody's: none is there, or it has only what a command leaves that was killed at once."""
    return not folder.exists() or all(file.name == LOCK or file.name.endswith(UNFINISHED) for file in folder.iterdir())


def _check(folder: Path, wanted: dict[str, Any], what: str, remedy: str) -> None:
    begun = folder / _SETTINGS
    article = "an" if what[0] in "aeiou" else "a"
    if begun.exists():
        try:
            before = json.loads(begun.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ExperimentError(f"{begun} cannot be read ({error}); {remedy}") from error
        changes = differences(flatten(before), flatten(wanted))
        if changes:
            raise ExperimentError(
                f"{folder} holds {article} {what} with other settings ({in_words(changes)}); {remedy}"
            )
    elif not unclaimed(folder):
        raise ExperimentError(f"{folder} holds files but no {what}; {remedy}")
