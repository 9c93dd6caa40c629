"""A folder is used by one command at a time; where the file system cannot see to it, the user is told."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import locked


def test_the_second_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "new/folder"
    with locked(folder), pytest.raises(ExperimentError, match="new/folder is in use"), locked(folder):
        pytest.fail("two commands in a folder")
    with locked(folder):
        pass


def test_without_locks_the_user_is_told_to_take_care(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="has no locks.*take care"), locked(tmp_path):
        pass
