"""The metrics of this package reach TensorBoard and an offline W&B through veRL's own tracking, under their names."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from verl.utils.tracking import Tracking

#: Names with every kind of character that this package's metrics have.
STEPS = {
    1: {"actfocus/token_share/action": 0.08, "rollout/stop/turn_limit": 0.25, "val/success": 0.5},
    2: {"actfocus/token_share/action": 0.07, "actfocus/gradient_norm/reasoning": 1.5, "rollout/stop/turn_limit": 0.0},
}


def logged(backend: str) -> None:
    tracking = Tracking("project", "experiment", backend, config={"trainer": {"logger": backend}})
    for step, metrics in STEPS.items():
        tracking.log(metrics, step=step)
    tracking.finish()


def test_tensorboard_holds_every_metric_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path))
    logged("tensorboard")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    found = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    expected = {name: [] for metrics in STEPS.values() for name in metrics}
    for step, metrics in STEPS.items():
        for name, value in metrics.items():
            expected[name].append((step, pytest.approx(value)))
    assert found == expected


def records(file: Path) -> list[bytes]:
    """The records of a W&B run's file: seven bytes, then LevelDB's log format, records in parts in blocks of 32 KiB."""
    data, position, found, whole = file.read_bytes(), 7, [], b""
    while position + 7 <= len(data):
        if 2**15 - position % 2**15 < 7:  # too little room in the block for the head of a part
            position += 2**15 - position % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        whole += data[position + 7 : position + 7 + length]
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(whole)
            whole = b""
        position += 7 + length
    return found


def test_an_offline_wandb_run_holds_every_metric_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged("wandb")
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    found = {}
    for record in map(Record.FromString, records(file)):
        if record.WhichOneof("record_type") == "history":
            values = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            found[values["_step"]] = {name: value for name, value in values.items() if not name.startswith("_")}
    assert found == STEPS
