"""The metrics of this package reach TensorBoard and an offline W&B through veRL's own tracking, under their names."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from verl.utils.tracking import Tracking

from verl_actfocus.episodes.outcomes import StopReason
from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.integration.metrics import SuccessTracker, rollout_metrics, validation_metrics
from verl_actfocus.weighting import Span, TokenBatch, share_metrics


def measured(solved: int) -> dict[str, float]:
    """What this package measures of a step: four episodes on two tasks, and weights of a batch with every span."""
    records = [
        EpisodeRecord(
            task=number // 2,
            sample=number % 2,
            success=number < solved,
            stop_reason=StopReason.SUCCESS if number < solved else StopReason.TURN_LIMIT,
            outcomes={"purchase": number < solved + 1},
        ).counts()
        for number in range(4)
    ]
    infos = {name: [record[name] for record in records] for name in records[0]}
    evaluation = validation_metrics({**infos, "reward": [0.25] * 4})
    ones = torch.ones(1, 4, dtype=torch.long)
    spans = torch.tensor([[Span.REASONING, Span.REASONING, Span.NONE, Span.ACTION]])
    batch = TokenBatch(spans=spans, response_mask=ones, turns=ones - 1, advantages=ones.float(), inputs={})
    shares = share_metrics(batch, torch.tensor([[0.25, 0.25, 0.5, float(solved)]]))
    return {
        **{f"actfocus/{name}": value for name, value in shares.items()},
        **rollout_metrics([{"reward_extra_info": record} for record in records]),
        **evaluation,
        **SuccessTracker().update(solved, evaluation["val/success"]),
    }


STEPS = {1: measured(1), 2: measured(2)}


def test_what_is_tracked_below_was_measured() -> None:
    known = {
        "actfocus/token_share/action": 0.25,
        "actfocus/weight_share/action": 2 / 3,
        "actfocus/mean_weight/reasoning": 0.25,
        "rollout/success": 0.5,
        "rollout/stop/turn_limit": 0.5,
        "rollout/purchase": 0.75,
        "val/success": 0.5,
        "val/success_peak_step": 2.0,
        "val/purchase": 0.75,
    }
    assert {name: STEPS[2][name] for name in known} == pytest.approx(known)
    assert STEPS[1].keys() == STEPS[2].keys()


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
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged("wandb")
    # Offline, W&B's own process may still be writing when veRL's tracking has finished.
    wandb.teardown()
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    found = {}
    for record in map(Record.FromString, records(file)):
        if record.WhichOneof("record_type") == "history":
            values = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            found[values["_step"]] = {name: value for name, value in values.items() if not name.startswith("_")}
    assert found == {step: pytest.approx(metrics) for step, metrics in STEPS.items()}
