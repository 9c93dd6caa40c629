"""Metrics files are read while they grow, and what a later attempt did stands."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from verl_actfocus.experiments.results.metrics import MetricsTail, merge_attempts
from verl_actfocus.storage.errors import ExperimentError


def write(path: Path, *records: tuple[int, dict[str, float]]) -> Path:
    path.write_text("".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in records))
    return path


def test_a_growing_file_is_read_once_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    tail = MetricsTail(path)
    assert list(tail.new_records()) == []
    write(path, (0, {"a": 1.0}))
    assert list(tail.new_records()) == [(0, {"a": 1.0})]
    with path.open("a") as file:
        file.write('{"step": 1, "data": {"a"')
    assert list(tail.new_records()) == []
    with path.open("a") as file:
        file.write(": 2.0}}\n")
    assert list(tail.new_records()) == [(1, {"a": 2.0})]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", (0, {}))
    with path.open("a") as file:
        file.write("oops\n")
    with pytest.raises(ExperimentError, match=r"m\.jsonl, line 2: not a metrics record"):
        list(MetricsTail(path).new_records())


def test_a_value_that_is_no_number_is_named_and_null_is_the_nan_that_json_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "metrics-1.jsonl"
    path.write_text('{"step": 1, "data": {"a": null, "b": 2}}\n{"step": 2, "data": {"a": "high"}}\n')
    records = MetricsTail(path).new_records()
    step, metrics = next(records)
    assert step == 1 and math.isnan(metrics["a"]) and metrics["b"] == 2
    with pytest.raises(ExperimentError, match=r"line 2: .*no numbers: \{'a': 'high'\}.*delete the line"):
        next(records)


def test_a_resumed_attempt_replaces_the_steps_behind_its_checkpoint(tmp_path: Path) -> None:
    first = write(tmp_path / "1", (0, {"v": 0.1}), (10, {"t": 1.0, "v": 0.2}), (11, {"t": 2.0}), (12, {"t": 3.0}))
    # veRL evaluates when it resumes at step 10, then trains on.
    second = write(tmp_path / "2", (10, {"v": 0.25}), (11, {"t": 2.5}))
    assert merge_attempts([first, second]) == {0: {"v": 0.1}, 10: {"t": 1.0, "v": 0.25}, 11: {"t": 2.5}}


def test_an_attempt_that_died_before_its_first_metrics_changes_nothing(tmp_path: Path) -> None:
    first = write(tmp_path / "1", (0, {"v": 0.1}), (1, {"t": 1.0}))
    empty = write(tmp_path / "2")
    assert merge_attempts([first, empty]) == merge_attempts([first])


def test_an_attempt_without_a_checkpoint_starts_over(tmp_path: Path) -> None:
    first = write(tmp_path / "1", (0, {"v": 0.1}), (1, {"t": 1.0}), (2, {"t": 1.0}))
    second = write(tmp_path / "2", (0, {"v": 0.3}))
    assert merge_attempts([first, second]) == {0: {"v": 0.3}}


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "1", (0, {"v": 0.1}))
    with path.open("a") as file:
        file.write('{"step": 1, "da')
    assert merge_attempts([path]) == {0: {"v": 0.1}}
