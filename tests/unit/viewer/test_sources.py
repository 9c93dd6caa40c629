"""Runs, evaluations, folders and files are found, and called by names that tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.viewer import find_sources

from .samples import make, write

RecordRun = Callable[..., Path]
OUTCOMES = {0: {7: [1, 0]}, 2: {7: [1, 1]}}


def found(*paths: Path) -> list[tuple[str, list[str]]]:
    return [(source.label, [file.name for file in source.files]) for source in find_sources(paths)]


def test_a_run_is_called_by_its_weighting_and_seed(tmp_path: Path, record_run: RecordRun) -> None:
    run = record_run(tmp_path, "actfocus alpha=0.3", 4, OUTCOMES)
    assert found(run) == [("ActFocus alpha=0.3, seed 4", ["1.jsonl"])]


def test_the_baseline_of_a_comparison_comes_first(tmp_path: Path, record_run: RecordRun) -> None:
    for weighting in ("actfocus", "uniform"):
        record_run(tmp_path, weighting, 0, OUTCOMES)
    assert [label for label, _ in found(tmp_path)] == ["Uniform, seed 0", "ActFocus, seed 0"]


def test_steps_of_a_run_are_in_their_order(tmp_path: Path, record_run: RecordRun) -> None:
    run = record_run(tmp_path, "uniform", 0, OUTCOMES)
    for name in ("100.jsonl", "20.jsonl.gz"):
        write(run / "trajectories" / name, [make()])
    assert found(run)[0][1] == ["1.jsonl", "20.jsonl.gz", "100.jsonl"]


def test_an_evaluation_is_called_by_its_folder_and_shows_its_failures_too(tmp_path: Path) -> None:
    for name in ("trajectories", "failures"):
        write(tmp_path / "eval-qwen" / f"{name}.jsonl", [make()])
    (tmp_path / "eval-qwen" / "settings.json").write_text("{}")
    # A diagnosis keeps this beside them.
    (tmp_path / "eval-qwen" / "states.jsonl").write_text("[]\n")
    assert found(tmp_path / "eval-qwen") == [("eval-qwen", ["failures.jsonl", "trajectories.jsonl"])]


def test_files_of_a_folder_are_sources_of_their_own_unless_they_are_steps(tmp_path: Path) -> None:
    for name in ("b.jsonl.gz", "a.jsonl", "1.jsonl", "2.jsonl"):
        write(tmp_path / "mixed" / name, [make()])
    assert found(tmp_path / "mixed") == [("mixed", ["1.jsonl", "2.jsonl"]), ("a", ["a.jsonl"]), ("b", ["b.jsonl.gz"])]
    assert found(tmp_path / "mixed" / "a.jsonl") == [("a", ["a.jsonl"])]


def test_equal_names_are_told_apart_by_their_paths_and_a_path_twice_is_one(
    tmp_path: Path, record_run: RecordRun
) -> None:
    for place in ("first", "second"):
        record_run(tmp_path / place, "uniform", 0, OUTCOMES)
    labels = [label for label, _ in found(tmp_path / "first", tmp_path / "second", tmp_path / "first")]
    assert labels == ["Uniform, seed 0 (first/uniform-seed0)", "Uniform, seed 0 (second/uniform-seed0)"]


def test_other_files_of_lines_in_a_folder_are_passed_over_and_named(tmp_path: Path) -> None:
    write(tmp_path / "trajectories" / "1.jsonl", [make()])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "data": {}}\n')
    (tmp_path / "dump.jsonl").write_text("[1]\n")
    passed: list[Path] = []
    assert [source.label for source in find_sources([tmp_path], passed.append)] == ["trajectories"]
    assert [path.name for path in passed] == ["dump.jsonl", "metrics.jsonl"]
    # One that is named is not passed over: whoever reads it says what is wrong with it.
    assert found(tmp_path / "metrics.jsonl") == [("metrics", ["metrics.jsonl"])]


def test_a_path_without_trajectories_is_refused_with_where_they_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no trajectory")
    for path in (tmp_path, tmp_path / "note.txt"):
        with pytest.raises(ExperimentError, match=rf"{path} holds no trajectories: a run keeps them in trajectories/"):
            find_sources([path])
    with pytest.raises(ExperimentError, match="nowhere does not exist"):
        find_sources([tmp_path / "nowhere"])
