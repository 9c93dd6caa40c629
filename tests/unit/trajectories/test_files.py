"""Files of trajectories: appended line by line, whole whatever happens to the writer, read one at a time."""

from __future__ import annotations

import gzip
import json
import subprocess
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest

from verl_actfocus.trajectories import TrajectoryFormatError, read_trajectories, trajectory_files, write_trajectory
from verl_actfocus.trajectories.files import drop_cut_line, encoded

from ...trajectories import trajectory

THREE = [trajectory(session=session) for session in range(3)]


@pytest.fixture(params=["1.jsonl", "1.jsonl.gz"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with three trajectories, plain or compressed."""
    path = tmp_path / str(request.param)
    for one in THREE:
        write_trajectory(path, one)
    return path


def test_trajectories_are_appended_and_read_back_in_their_order(file: Path) -> None:
    assert list(read_trajectories(file)) == THREE


def test_a_file_is_what_other_programs_take_it_for(file: Path) -> None:
    frame = pd.read_json(file, lines=True)
    assert frame["session"].tolist() == [0, 1, 2] and frame["ids"][0] == THREE[0].ids
    if file.suffix == ".gz":
        lines = subprocess.run(["gzip", "-dc", file], capture_output=True, check=True).stdout.splitlines()
        assert [json.loads(line)["session"] for line in lines] == [0, 1, 2]


def test_the_whole_trajectories_survive_a_kill_at_any_byte(file: Path) -> None:
    data, compressed = file.read_bytes(), file.suffix == ".gz"
    ends = [sum(len(encoded(one, compress=compressed)) for one in THREE[: n + 1]) for n in range(3)]
    assert ends[-1] == len(data)
    for size in {*range(0, len(data), 97), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])}:
        file.write_bytes(data[:size])
        # The last eight bytes of a gzip member are a checksum: without them the line is there all the same.
        whole = sum(end - (8 if compressed else 0) <= size for end in ends)
        assert list(read_trajectories(file)) == THREE[:whole], size


def test_a_line_that_is_no_trajectory_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "5.jsonl"
    write_trajectory(path, THREE[0])
    with path.open("a") as file:
        file.write('{"version": 1}\n')
    write_trajectory(path, THREE[1])
    reading = read_trajectories(path)
    assert next(reading) == THREE[0]
    with pytest.raises(TrajectoryFormatError, match=r"5\.jsonl, line 2: group: "):
        next(reading)


def test_a_damaged_compressed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "5.jsonl.gz"
    path.write_bytes(b"no gzip at all\n")
    with pytest.raises(TrajectoryFormatError, match=r"5\.jsonl\.gz: damaged behind line 0"):
        list(read_trajectories(path))
    whole = bytearray(gzip.compress((THREE[0].line() + "\n").encode()))
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(whole))
    with pytest.raises(TrajectoryFormatError, match=r"5\.jsonl\.gz"):
        list(read_trajectories(path))


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_trajectories(tmp_path / "1.jsonl"))


def test_one_trajectory_is_in_memory_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    long = trajectory(prompt="x" * 1_000_000)
    for _ in range(12):
        write_trajectory(path, long)
    tracemalloc.start()
    assert sum(1 for _ in read_trajectories(path)) == 12
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6_000_000 < path.stat().st_size


@pytest.mark.parametrize("cut", ["", '{"version', "x" * 200_000])
def test_a_cut_line_is_dropped_and_the_file_can_be_appended_to(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "1.jsonl"
    for whole in ([], THREE[:2]):
        path.write_text("".join(one.line() + "\n" for one in whole) + cut)
        drop_cut_line(path)
        write_trajectory(path, THREE[2])
        assert list(read_trajectories(path)) == [*whole, THREE[2]]
        path.unlink()


def test_files_are_listed_by_their_steps(tmp_path: Path) -> None:
    for name in ("10.jsonl", "9.jsonl.gz", "100.jsonl", "trajectories.jsonl", "30.part", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in trajectory_files(tmp_path)] == [
        "9.jsonl.gz",
        "10.jsonl",
        "100.jsonl",
        "trajectories.jsonl",
    ]
