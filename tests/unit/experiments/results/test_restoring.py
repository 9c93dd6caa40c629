"""A run comes out of an archive whole or not at all, and what is there stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from verl_actfocus.experiments.results.archive import Archive, name_of
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.tables.grid import Request
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import LOCK

from ...killed import die, killed
from .archives import files, folders


def killed_everywhere(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Do work that is killed before the first thing it does to a file, then before the second, until it is done.

    Yields:
        After each kill.
    """
    ways = {name: getattr(Path, name) for name in ("write_bytes", "replace", "rename")}
    left = 0

    def counted(name: str) -> Callable[..., object]:
        def do(*arguments: object) -> object:
            nonlocal left
            left -= 1
            return die() if left < 0 else ways[name](*arguments)

        return do

    with monkeypatch.context() as patch:
        for name in ways:
            patch.setattr(Path, name, counted(name))
        for things in range(1000):
            left = things
            if not killed(work):
                break
            left = 1000  # for what is done here after the kill
            yield


@pytest.fixture
def whole(trained: Request, archive: Path, tmp_path: Path) -> RunFolder:
    """A run that has been restored, with an evaluation after training."""
    name = next(name for name in folders(trained) if "uniform" in name)
    folder = RunFolder(tmp_path / "whole" / name)
    assert Archive(archive).restore(name, folder)
    return folder


def test_a_run_is_restored_whole_or_not_at_all_and_the_same_command_goes_on(
    whole: RunFolder, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = name_of(whole)
    folder = RunFolder(tmp_path / "cut" / name)
    kills = 0
    for _ in killed_everywhere(lambda: Archive(archive).restore(name, folder), monkeypatch):
        kills += 1
        assert not [*folder.path.parent.glob("*/run.json")]
        folder.check_free()  # it could be trained there
        again = RunFolder(tmp_path / "again" / name)
        shutil.copytree(tmp_path / "cut", tmp_path / "again")
        assert Archive(archive).restore(name, again)
        assert files(tmp_path / "again") == files(tmp_path / "whole")
        shutil.rmtree(tmp_path / "again")
    # Every file is written and named; then the lock and the folder are moved.
    assert kills == 2 * len(files(whole.path)) + 2 and files(tmp_path / "cut") == files(tmp_path / "whole")


def test_a_run_is_restored_over_attempts_that_died_and_nothing_of_theirs_is_lost(
    whole: RunFolder, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = name_of(whole)
    died = {"log.txt": b"why", "metrics-2.jsonl": b"", "attempt-2.json": b"{}", "ray/worker.err": b"why"}
    kills = 0

    def begin(folder: RunFolder) -> None:
        for file, content in {**died, "run.json": files(whole.path)["run.json"], "metrics-1.jsonl": b""}.items():
            (folder.path / file).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / file).write_bytes(content)

    folder = RunFolder(tmp_path / "cut" / name)
    begin(folder)
    for _ in killed_everywhere(lambda: Archive(archive).restore(name, folder), monkeypatch):
        kills += 1
        assert folder.done is None
        assert Archive(archive).restore(name, folder)
        assert files(folder.path) == {**died, **files(whole.path)}
        shutil.rmtree(folder.path)
        begin(folder)
    assert kills == 2 * len(files(whole.path))


def test_a_command_that_comes_between_is_said_to_be_there(
    trained: Request, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name, _), *_ = folders(trained).items()
    folder = RunFolder(tmp_path / "elsewhere" / name)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        if target == folder.path:  # the moment in which it is without a lock
            (target / LOCK).touch()
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", late)
        with pytest.raises(ExperimentError, match=r"is in use by another command; wait for it or end it"):
            Archive(archive).restore(name, folder)
    assert [path.name for path in folder.path.parent.iterdir()] == [folder.path.name]
    assert Archive(archive).restore(name, folder) and folder.done is not None


def test_a_run_is_not_restored_among_files_of_somebody_else(trained: Request, archive: Path, tmp_path: Path) -> None:
    name, *_ = folders(trained)
    folder = RunFolder(tmp_path / "elsewhere" / name)
    folder.path.mkdir(parents=True)
    (folder.path / "done.json").write_text("of something else")
    with pytest.raises(ExperimentError, match="holds files but no run"):
        Archive(archive).restore(name, folder)
    assert files(tmp_path / "elsewhere") == {f"{name}/done.json": b"of something else"}
