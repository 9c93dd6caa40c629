"""Peak memory of a function, exactly: every allocation of torch is counted, those inside its operators too."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(function: Callable[[], object]) -> int:
    """Run a function and return the most bytes that it had allocated on the CPU at a time, its result included.

    What was there before does not count. Nothing is sampled, so that the number is the same in every run.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = function()
    del result
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((one for one in events if one["name"] == "[memory]"), key=lambda one: one["ts"])
    return max(accumulate((one["args"]["Bytes"] for one in changes), initial=0))


def kept_bytes(function: Callable[..., torch.Tensor], tensor: torch.Tensor, *arguments: Any) -> int:
    """Bytes that autograd keeps between forward and backward pass of `function(tensor, …)`, beside the tensor."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no other storage gets this address
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        result = function(tensor, *arguments)
    if not result.requires_grad:
        raise ValueError("the argument has no gradient, so nothing is kept for a backward pass")
    kept.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(storage.nbytes() for storage in kept.values())
