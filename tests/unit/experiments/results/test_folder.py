"""What a run's folder says about its attempts is true, and a file that cannot be read is named."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from verl_actfocus.experiments.results.folder import RECORD, RunFolder
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import locked

from ...killed import die, killed
from ..standin import composed, make

BEGAN = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def written_after(path: Path, seconds: float, text: str = "") -> None:
    path.write_text(text)
    os.utime(path, (BEGAN.timestamp() + seconds, BEGAN.timestamp() + seconds))


def test_an_attempt_that_was_killed_lasted_until_it_last_wrote_something(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.begin_attempt(BEGAN.isoformat()) == 1
    written_after(folder.metrics(1), 40.0)
    written_after(folder.log, 75.0)
    assert folder.seconds() == 75.0
    # The next attempt writes into the same log.
    assert folder.begin_attempt("2026-01-02T00:00:00+00:00") == 2
    written_after(folder.log, 1e6)
    folder.end_attempt(2, seconds=12.5, exit_code=0)
    assert folder.seconds() == 87.5
    assert json.loads((tmp_path / "attempt-2.json").read_text()) == {
        "began": "2026-01-02T00:00:00+00:00",
        "seconds": 12.5,
        "exit_code": 0,
    }


@pytest.mark.parametrize("content", ['{"began": "yesterday"}', '{"began": 5}', '{"seconds": "long"}'])
def test_an_attempt_whose_times_are_none_is_named_with_the_remedy(tmp_path: Path, content: str) -> None:
    folder = RunFolder(tmp_path)
    folder.begin_attempt(BEGAN.isoformat())
    (tmp_path / "attempt-1.json").write_text(content)
    with pytest.raises(ExperimentError, match=r"attempt-1\.json does not say when .* delete the file; the time"):
        folder.seconds()


@pytest.mark.parametrize("content", ["", "{", '{"run": {}', "[]", "\x00\x00", '{"seconds": "'])
@pytest.mark.parametrize("name", ["run.json", "done.json", "attempt-1.json"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, name: str, content: str) -> None:
    folder = RunFolder(tmp_path / "r")
    folder.claim(composed(make(folder.path)))
    folder.begin_attempt(BEGAN.isoformat())
    folder.finish(dict.fromkeys(RECORD))
    (folder.path / name).write_text(content)
    with pytest.raises(ExperimentError, match=rf"r/{name} .*delete"):
        _ = (folder.settings, folder.done, folder.seconds())


@pytest.mark.parametrize(
    ("name", "content"),
    [("run.json", '{"run": [], "settings": {}}'), ("done.json", "{}"), ("done.json", '{"seconds": 1}')],
)
def test_a_file_that_lacks_something_is_named_with_the_remedy(tmp_path: Path, name: str, content: str) -> None:
    folder = RunFolder(tmp_path / "r")
    folder.claim(composed(make(folder.path)))
    (folder.path / name).write_text(content)
    with pytest.raises(ExperimentError, match=rf"r/{name} lacks .*delete the (file|folder)"):
        _ = (folder.settings, folder.done)


def test_a_run_of_an_older_layout_is_refused_and_not_misread(tmp_path: Path) -> None:
    run = {"algorithm": "grpo", "method": "actfocus", "env": "frozenlake", "seed": 0, "steps": 3}
    (tmp_path / "run.json").write_text(json.dumps({"run": run, "settings": {}}))
    (tmp_path / "metrics-1.jsonl").write_text("{}")
    for read in (lambda: RunFolder(tmp_path).identity, lambda: RunFolder(tmp_path).check(composed(make(tmp_path)))):
        with pytest.raises(
            ExperimentError, match=r"run\.json names no weighting: an older version .* delete the folder"
        ):
            read()


def test_a_run_that_was_killed_before_it_was_begun_is_begun_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = composed(make(tmp_path / "r"))
    folder = RunFolder(tmp_path / "r")

    def claim() -> None:
        with locked(folder.path):
            folder.claim(run)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)  # before what it is stands whole in its file
        assert killed(claim)
    (folder.path / "run.json.tmp").touch()  # as an earlier version called it
    assert len([*folder.path.iterdir()]) == 3 and not folder.exists
    claim()
    assert folder.identity == run.identity()


def test_a_folder_with_other_peoples_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(ExperimentError, match="holds files but no run"):
        RunFolder(tmp_path).check(composed(make(tmp_path)))
