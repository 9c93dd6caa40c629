"""Finished runs in one file: the same tables come of it, nothing is replaced unseen, nothing is written elsewhere."""

from __future__ import annotations

import io
import json
import lzma
import math
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from verl_actfocus.experiments.report.writing import write_table
from verl_actfocus.experiments.results.archive import Archive, name_of
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import LOCK, locked

from ...conftest import write_lines
from ..declared import finished
from ..report.test_robustness import DECLARED, made_with
from .archives import folders, restored

Finish = Callable[..., None]


def test_a_table_made_of_an_archive_is_the_table_of_its_runs(trained: Request, archive: Path, tmp_path: Path) -> None:
    elsewhere = replace(trained, out=tmp_path / "elsewhere")
    assert restored(archive, folders(elsewhere)) == [*folders(elsewhere)]
    there = {path.name: path for path in write_table(trained, finished(trained), tmp_path / "there")}
    here = {path.name: path for path in write_table(elsewhere, finished(elsewhere), tmp_path / "here")}
    assert there.keys() == here.keys() and any(name.endswith("robustness.csv") for name in there)
    for name, path in there.items():
        if not name.endswith(".png"):
            assert path.read_text(encoding="utf-8") == here[name].read_text(encoding="utf-8"), name


def test_the_same_runs_make_the_same_bytes_and_none_of_this_machine(
    trained: Request, archive: Path, tmp_path: Path
) -> None:
    elsewhere = replace(trained, out=tmp_path / "elsewhere")
    for one, other in zip(folders(trained).values(), folders(elsewhere).values(), strict=True):
        assert Archive(archive).restore(name_of(other), other)
        command = f"python trainer.default_local_dir='{one.path}/checkpoints' x={one.path}/evaluations"
        (one.path / "done.json").write_text(json.dumps({**(one.done or {}), "command": command}))
        (other.path / "done.json").write_text(
            json.dumps({**(other.done or {}), "command": command.replace(str(one.path), str(other.path))})
        )
    first, second = tmp_path / "first.tar.xz", tmp_path / "second.tar.xz"
    Archive(first).add(folders(trained))
    names = [*folders(elsewhere).items()]
    for name, folder in reversed(names):
        Archive(second).add({name: folder})
    assert first.read_bytes() == second.read_bytes()
    content = lzma.decompress(first.read_bytes())
    assert str(tmp_path).encode() not in content and b"'RUN/checkpoints' x=RUN/evaluations" in content
    assert "…".encode() not in content  # texts of episodes


def test_two_commands_add_to_one_file(trained: Request, tmp_path: Path) -> None:
    path, names = tmp_path / "runs.tar.xz", folders(trained)
    one, other = Archive(path), Archive(path)
    halves = [dict(list(names.items())[start::2]) for start in (0, 1)]
    assert one.add(halves[0]) == [*halves[0]]
    assert other.add(halves[1]) == [*halves[1]]
    assert all(name in Archive(path) for name in names)
    assert Archive(path).add(names) == []


def test_a_read_only_archive_needs_no_lock_where_there_is_nothing_to_add(trained: Request, archive: Path) -> None:
    before, lock = archive.read_bytes(), archive.with_name(f".{archive.name}.lock")
    lock.unlink()
    lock.mkdir()  # nobody can write a lock here, whatever the rights of who runs this test
    assert Archive(archive).add(folders(trained)) == []
    (name, folder), *_ = folders(trained).items()
    write_lines(folder.outcomes("unseen"), [{"seed": 64, "success": True}])
    made_with(folder.path, "unseen", {"first_task": 64})
    with pytest.raises(IsADirectoryError, match=r"\.runs\.tar\.xz\.lock"):
        Archive(archive).add({name: folder})
    assert archive.read_bytes() == before


def test_unfinished_runs_are_left_out_and_later_evaluations_are_added(
    trained: Request, archive: Path, tmp_path: Path
) -> None:
    (name, folder), *_ = folders(trained).items()
    fresh = tmp_path / "fresh.tar.xz"
    (folder.path / "done.json").rename(folder.path / "kept")
    assert name not in Archive(fresh).add(folders(trained))
    (folder.path / "kept").rename(folder.path / "done.json")
    write_lines(folder.outcomes("unseen"), [{"seed": 64, "success": True, "output": "text"}])
    made_with(folder.path, "unseen", {"first_task": 64})
    assert Archive(archive).add(folders(trained)) == [name]
    # A machine that has the run without its evaluations takes nothing away.
    shutil.rmtree(folder.path / "reevaluations")
    assert Archive(archive).add(folders(trained)) == []
    shutil.rmtree(folder.path)
    assert restored(archive, folders(trained)) == [name]
    assert json.loads(folder.outcomes("unseen").read_text()) == {"seed": 64, "success": True}
    assert folder.reevaluated("unseen", {"first_task": 64}) is not None


def test_an_evaluation_made_elsewhere_comes_to_a_run_that_is_there(trained: Request, archive: Path) -> None:
    name, folder = next((name, one) for name, one in folders(trained).items() if "actfocus" in name)
    write_lines(folder.outcomes("unseen"), [{"seed": 64, "success": True}])
    made_with(folder.path, "unseen", {"first_task": 64})
    Archive(archive).add({name: folder})
    shutil.rmtree(folder.path / "reevaluations")
    assert not Archive(archive).restore(name, folder)
    assert folder.reevaluated("unseen", {"first_task": 64}) is not None


def test_an_archived_evaluation_that_the_table_declares_otherwise_is_refused(trained: Request, archive: Path) -> None:
    """It would be put back whenever the folder is deleted, and refused again."""
    name, folder = next((name, one) for name, one in folders(trained).items() if "uniform" in name)
    Archive(archive).check(name, folder.settings, {"greedy": {"temperature": 0}, "unseen": {"first_task": 64}})
    with pytest.raises(ExperimentError, match=r"'greedy' of .* made otherwise \(temperature was 0.0, is 0.5\); give"):
        Archive(archive).check(name, folder.settings, {"greedy": {"temperature": 0.5}})


def test_an_evaluation_that_was_begun_here_and_is_whole_in_the_archive_is_taken_whole(
    trained: Request, archive: Path
) -> None:
    """Never one's outcomes beside the other's settings; what a kill left between the two files is made good."""
    name, folder = next((name, one) for name, one in folders(trained).items() if "uniform" in name)
    outcomes, settings = folder.outcomes("greedy"), folder.reevaluation("greedy") / "settings.json"
    whole = outcomes.read_bytes()
    outcomes.unlink()
    settings.write_text(json.dumps({"changes": {"temperature": 0.5}}))
    (folder.reevaluation("greedy") / "trajectories.jsonl").write_text("{}\n")
    with locked(folder.reevaluation("greedy")), pytest.raises(ExperimentError, match="greedy is in use"):
        Archive(archive).restore(name, folder)
    Archive(archive).restore(name, folder)
    there = {file.name for file in folder.reevaluation("greedy").iterdir()}
    assert there == {"settings.json", "outcomes.jsonl", LOCK}
    assert json.loads(settings.read_text())["changes"] == {"temperature": 0.0}
    assert outcomes.read_bytes() == whole
    settings.unlink()
    with pytest.raises(ExperimentError, match=r"settings.json cannot be read .*; delete .*greedy, --evaluate makes it"):
        Archive(archive).add({name: folder})


def test_a_rate_that_was_not_a_number_is_read_as_such(trained: Request, tmp_path: Path) -> None:
    (name, folder), *_ = folders(trained).items()
    record = {"step": 0, "data": {"val/success": 0.5, "val/reward": None}}
    folder.metrics(1).write_text(json.dumps(record) + "\n")
    Archive(tmp_path / "one.tar.xz").add({name: folder})
    read = Archive(tmp_path / "one.tar.xz").metrics()[name][0]
    assert read["val/success"] == 0.5 and math.isnan(read["val/reward"])


def test_an_evaluation_of_another_outcome_is_refused(trained: Request, archive: Path) -> None:
    (name, folder), *_ = folders(trained).items()
    write_lines(folder.outcomes("greedy"), [{"seed": task, "success": True} for task in range(10)])
    for way in (lambda: Archive(archive).add({name: folder}), lambda: Archive(archive).restore(name, folder)):
        with pytest.raises(ExperimentError, match=rf"different reevaluations/greedy/outcomes.jsonl of {name}; delete"):
            way()


def test_where_a_checkpoint_lay_is_not_told(trained: Request, archive: Path, tmp_path: Path) -> None:
    (name, folder), *_ = folders(trained).items()
    settings = {"model": {"weights": [str(tmp_path)]}, "changes": {"temperature": 0.0}, "evaluation": {"tasks": 64}}
    (folder.reevaluation("greedy") / "settings.json").write_text(json.dumps(settings))
    fresh = tmp_path / "fresh.tar.xz"
    Archive(fresh).add({name: folder})
    content = lzma.decompress(fresh.read_bytes())
    assert str(tmp_path).encode() not in content and b'"tasks": 64' in content


def test_a_run_of_other_settings_is_refused_by_the_archives_name(trained: Request, archive: Path) -> None:
    (name, folder), *_ = folders(trained).items()
    Archive(archive).check(name, folder.settings)
    with pytest.raises(
        ExperimentError, match=rf"holds {name} with other settings \(data.train_batch_size was 16, is 8"
    ):
        Archive(archive).check(name, {**folder.settings, "data.train_batch_size": 8})


def test_a_folder_that_was_moved_holds_the_same_run(trained: Request, archive: Path, tmp_path: Path) -> None:
    (name, folder), *_ = folders(trained).items()
    record = {**(folder.done or {}), "command": f"python trainer.default_local_dir={folder.path}/checkpoints"}
    (folder.path / "done.json").write_text(json.dumps(record))
    moved = RunFolder(tmp_path / "moved" / name)
    shutil.copytree(folder.path, moved.path)
    fresh = tmp_path / "fresh.tar.xz"
    Archive(fresh).add({name: folder})
    assert Archive(fresh).add({name: moved}) == []
    again = tmp_path / "again.tar.xz"
    Archive(again).add({name: moved})
    assert again.read_bytes() == fresh.read_bytes()


def test_a_run_of_another_training_is_refused_on_both_ways(trained: Request, archive: Path) -> None:
    (name, folder), *_ = folders(trained).items()
    record = folder.done or {}
    (folder.path / "done.json").write_text(json.dumps({**record, "finished": "2026-02-02T00:00:00+00:00"}))
    for way in (lambda: Archive(archive).add({name: folder}), lambda: Archive(archive).restore(name, folder)):
        with pytest.raises(ExperimentError, match=f"{name} of two trainings; delete the folder, or name another"):
            way()
    (folder.path / "done.json").unlink()
    with pytest.raises(
        ExperimentError, match=f"holds {name} finished, and .* the same run unfinished; delete that folder"
    ):
        Archive(archive).restore(name, folder)


def test_a_measured_alpha_comes_with_its_run(
    make_request: Callable[..., Request], finish: Finish, tmp_path: Path
) -> None:
    table = DECLARED.replace("actfocus: {label: ActFocus}", 'actfocus: {label: α, weighting: "actfocus alpha=auto"}')
    request = make_request(table, seeds=1, only=("frozenlake", "actfocus"))
    (name, folder), *_ = folders(request).items()
    (run,) = distinct_runs(cells(request))
    diagnosis = folder.path.parent / "diagnosis" / "diagnosis.json"
    diagnosis.parent.mkdir(parents=True)
    diagnosis.write_text('{"decisions": []}')
    finish(run, {step: {0: [1]} for step in (0, 4)})
    archive = tmp_path / "runs.tar.xz"
    Archive(archive).add({name: folder})
    shutil.rmtree(folder.path.parent)
    assert Archive(archive).restore(name, folder)
    assert diagnosis.read_text() == '{"decisions": []}'
    # Runs that were trained here with another α are not given this one.
    diagnosis.write_text('{"decisions": [0]}')
    for way in (lambda: Archive(archive).restore(name, folder), lambda: Archive(archive).add({name: folder})):
        with pytest.raises(ExperimentError, match=r"another measurement of α|different diagnosis.json"):
            way()
    assert diagnosis.read_text() == '{"decisions": [0]}'


def _packed(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member, io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "cannot be read as an archive of runs"),
        (lzma.compress(b"x" * 2000), "cannot be read as an archive of runs"),
        (_packed("cpu/a/b/run.json")[:60], "cannot be read as an archive of runs"),
        (_packed("cpu/a/../../../b/run.json"), "is no file of a run"),
        (_packed("/cpu/a/b/run.json"), "is no file of a run"),
        (_packed("cpu/a/b/run.json", tarfile.SYMTYPE), "is no file of a run"),
        (_packed("notes.txt"), "is no file of a run"),
        (_packed("cpu/a/b/checkpoints/global_step_20/actor/model.pt"), "is no file of a run"),
        (_packed("cpu/a/../run.json"), "is no file of a run"),
        (_packed("cpu/a/b/run.json"), r"cpu/a/b lacks done.json, metrics-1.jsonl"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "runs.tar.xz"
    path.write_bytes(content)
    with pytest.raises(ExperimentError, match=message):
        Archive(path)


def test_its_name_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"runs.zip is no name for an archive of runs: let it end in .tar.xz"):
        Archive(tmp_path / "runs.zip")
