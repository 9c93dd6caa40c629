"""A file is whole under its name, whoever else writes it, and what a kill leaves beside it is nobody's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from verl_actfocus.storage import disk
from verl_actfocus.storage.claims import claimed, unclaimed
from verl_actfocus.storage.disk import write_whole
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import LOCK

from ..killed import die, killed


def test_two_that_write_a_file_at_a_time_leave_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, replace = tmp_path / "runs.tar.xz", Path.replace
    seen = []

    def other_first(temporary: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        write_whole(path, b"of the other")
        seen.append(path.read_bytes())
        return replace(temporary, target)

    monkeypatch.setattr(Path, "replace", other_first)
    write_whole(path, b"of the one")
    assert seen == [b"of the other"] and path.read_bytes() == b"of the one"
    assert [file.name for file in tmp_path.iterdir()] == ["runs.tar.xz"]


def test_what_a_killed_command_leaves_is_no_result_and_the_next_claims_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "eval"

    def claim() -> None:
        with claimed(folder, {}, "evaluation"):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)  # before the settings are whole
        assert killed(claim) and killed(claim)
    (folder / "settings.json.tmp").touch()  # as an earlier version called it
    left = {file.name for file in folder.iterdir()} - {LOCK}
    assert len(left) == 3 and unclaimed(folder)
    (folder / "thesis.tex").touch()
    with pytest.raises(ExperimentError, match="holds files but no evaluation"):
        claim()
    (folder / "thesis.tex").unlink()
    claim()
    assert not unclaimed(folder) and (folder / "settings.json").read_text() == "{}\n"
    # What the two killed processes left is gone, and nothing else.
    assert {file.name for file in folder.iterdir()} == {LOCK, "settings.json", "settings.json.tmp"}


def test_what_another_process_is_writing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs [1].json"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        assert killed(lambda: write_whole(path, b"lost"))
    mine, elsewhere, strange = (
        path.with_name(f"{path.name}.{mark}.tmp")
        for mark in (disk._mark(), f"0-{os.getpid()}-0", f"{disk._HERE}-of-somebody")
    )
    for file in (mine, elsewhere, strange):
        file.touch()
    assert len([*tmp_path.iterdir()]) == 4
    write_whole(path, b"new")
    assert {*tmp_path.iterdir()} == {path, mine, elsewhere, strange}
