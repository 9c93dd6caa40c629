"""A run leaves nothing in the system's temporary folder, whatever its processes have put there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from verl_actfocus.experiments.execution import supervision, temporary
from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.storage.errors import RunFailedError

from ..standin import TRAINER, make, train

pytestmark = pytest.mark.usefixtures("quick")

#: Leaves what Ray and veRL leave.
LITTER = """
import pathlib, tempfile
place = pathlib.Path(tempfile.gettempdir())
print("was", sorted(item.name for item in place.iterdir()), flush=True)
(place / "ray/session_1/logs").mkdir(parents=True)
(place / "ray/session_1/logs/raylet.err").touch()
(place / "ckpt_0.lock").touch()
"""


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the system, with the short path that they have."""
    folder = Path(tempfile.mkdtemp(prefix="t"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_a_finished_run_leaves_nothing_in_the_temporary_folder(tmp_path: Path, system: Path) -> None:
    train(make(tmp_path / "r"), LITTER + TRAINER, "0", "3")
    assert list(system.iterdir()) == []


def test_a_failed_run_has_the_logs_of_ray_in_its_folder_until_it_is_continued(tmp_path: Path, system: Path) -> None:
    run = make(tmp_path / "r")
    for code in (1, 2):
        with pytest.raises(RunFailedError):
            train(run, LITTER + f"raise SystemExit({code})")
        assert [file.name for file in (run.folder / "ray").iterdir()] == ["raylet.err"]
        assert list(system.iterdir()) == []
    train(run, LITTER + TRAINER, "0", "3")
    assert not (run.folder / "ray").exists()
    assert list(system.iterdir()) == []


def test_a_run_that_was_ended_for_standing_still_leaves_the_logs_of_ray(
    tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def littered(*_: object) -> str | None:
        return "nothing happened" if list(system.glob("*/ckpt_0.lock")) else None

    monkeypatch.setattr(supervision.Watchdog, "verdict", littered)
    run = make(tmp_path / "r")
    with pytest.raises(RunFailedError, match="was ended: nothing happened"):
        train(run, LITTER + "import time; time.sleep(60)")
    assert [file.name for file in (run.folder / "ray").iterdir()] == ["raylet.err"]
    assert list(system.iterdir()) == []


def test_what_a_killed_command_has_left_is_cleared_when_the_run_is_continued(tmp_path: Path, system: Path) -> None:
    run = make(tmp_path / "r")
    left = temporary.claim(run.folder)
    assert left is not None
    (left / "ckpt_1.lock").touch()
    train(run, LITTER + TRAINER, "0", "3")
    assert "was []" in (run.folder / "log.txt").read_text()
    assert list(system.iterdir()) == []


class Interrupting(Display):
    """Stands for a user who presses Ctrl-C once the run has left its litter."""

    def __init__(self, system: Path) -> None:
        super().__init__("run")
        self.system = system

    def show(self, line: str, news: bool) -> None:
        if list(self.system.glob("*/ckpt_0.lock")):
            raise KeyboardInterrupt


def test_an_interrupted_run_leaves_nothing_either(tmp_path: Path, system: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(make(tmp_path / "r"), LITTER + "import time; time.sleep(60)", display=Interrupting(system))
    assert list(system.iterdir()) == []


def test_runs_have_a_place_each_and_none_where_the_path_would_be_too_long_for_ray(
    tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert temporary.claim(tmp_path / "a") != temporary.claim(tmp_path / "b")
    (system / ("long" * 8)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(system / ("long" * 8)))
    assert temporary.claim(tmp_path / "a") is None
