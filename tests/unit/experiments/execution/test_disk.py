"""A full disk: the file, the remedy, and never in the place of what went wrong first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.storage.disk import write_whole, writing
from verl_actfocus.storage.errors import ExperimentError, RunFailedError

from ....trajectories import episode
from ..standin import TRAINER, make, train

pytestmark = pytest.mark.usefixtures("quick", "known")

#: Puts a file on a disk that is full, for the command that runs the trainer.
FILL = "import os; os.symlink('/dev/full', {path!r})\n"
#: Ends the name of every file until it is whole.
KNOWN = ".known.tmp"
REMEDY = "No space left on device; make room there, or choose another --out; the same command then continues"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are not whole yet have names that a test can take before them."""
    monkeypatch.setattr("verl_actfocus.storage.disk._mark", lambda: "known")


def test_a_file_that_does_not_fit_is_named_with_the_remedy_and_the_old_one_stays(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("old")
    (tmp_path / f"report.md{KNOWN}").symlink_to("/dev/full")
    with pytest.raises(ExperimentError, match=f"report.md cannot be written: {REMEDY}"):
        write_whole(tmp_path / "report.md", b"new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"report.md": "old"}


def test_a_log_that_does_not_fit_is_named(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    with pytest.raises(RunFailedError):
        train(run, "raise SystemExit(1)")
    (run.folder / "log.txt").unlink()
    (run.folder / "log.txt").symlink_to("/dev/full")
    with pytest.raises(ExperimentError, match=f"log.txt cannot be written: {REMEDY}"):
        train(run, TRAINER, "0", "3")


def test_a_run_that_cannot_be_marked_as_finished_says_so_and_is_finished_by_the_same_command(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    full = FILL.format(path=str(run.folder / f"done.json{KNOWN}"))
    with pytest.raises(ExperimentError, match=f"done.json cannot be written: {REMEDY}"):
        train(run, full + TRAINER, "0", "3")
    assert RunFolder(run.folder).done is None
    assert train(run, TRAINER, "3", "3")["attempts"] == 2


def test_a_folder_of_results_that_could_not_be_begun_is_begun_by_the_same_command(tmp_path: Path) -> None:
    folder = EvaluationFolder(tmp_path / "eval")
    (tmp_path / "eval").mkdir()
    (tmp_path / f"eval/settings.json{KNOWN}").symlink_to("/dev/full")
    with pytest.raises(ExperimentError, match=f"settings.json cannot be written: {REMEDY}"), folder.claimed({}):
        pytest.fail("nothing can be written here")
    with folder.claimed({}):
        assert (tmp_path / "eval/settings.json").exists()


def test_the_error_of_the_run_is_told_though_its_end_cannot_be_written(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    full = FILL.format(path=str(run.folder / f"attempt-1.json{KNOWN}"))
    with pytest.raises(RunFailedError, match="ValueError: the first error"):
        train(run, full + "raise ValueError('the first error')")


def test_a_training_that_meets_a_full_disk_says_where_and_what_to_do(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    with pytest.raises(RunFailedError) as error:
        train(run, "print('x', file=open('/dev/full', 'w'), flush=True)")
    assert "OSError: [Errno 28] No space left on device" in str(error.value)
    assert f"the disk is full (free: {run.folder} " in str(error.value)
    assert "make room there, or choose another --out; the same command then continues" in str(error.value)


def test_a_training_whose_error_says_nothing_of_the_disk_is_explained_by_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch's, which only says that a file could not be written."""
    nothing_free = os.statvfs_result((4096, 4096, 1000, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda path: nothing_free)
    with pytest.raises(RunFailedError, match=r"the disk is full \(free: .*/r 0 MB"):
        train(make(tmp_path / "r"), "raise RuntimeError('PytorchStreamWriter failed writing file')")


def test_another_failure_is_not_put_down_to_the_disk(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError) as error:
        train(make(tmp_path / "r"), "raise ValueError('a wrong setting')")
    assert "disk" not in str(error.value)


def test_what_torch_cannot_write_is_explained_by_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "checkpoint.pt"
    file.symlink_to("/dev/full")
    with pytest.raises(RuntimeError), writing(file):  # there is room beside the file: it is something else
        torch.save(torch.zeros(10_000), file)
    nothing_free = os.statvfs_result((4096, 4096, 1000, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda path: nothing_free)
    said = r"checkpoint\.pt cannot be written: the disk is full \(free: .* 0 MB"
    with pytest.raises(ExperimentError, match=said), writing(file):
        torch.save(torch.zeros(10_000), file)


def test_an_episode_that_cannot_be_written_names_its_file(tmp_path: Path) -> None:
    folder = EvaluationFolder(tmp_path)
    folder.trajectories.symlink_to("/dev/full")
    with pytest.raises(ExperimentError, match=f"trajectories.jsonl cannot be written: {REMEDY}"):
        folder.add(episode(task=1))
