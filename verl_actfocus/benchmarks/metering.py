"""Counts what the processes of a run move through TransferQueue, and their all-reduces.

Importing this module starts the counting; `actfocus bench transport` names it in `VERL_USE_EXTERNAL_MODULES`, so that
every process of veRL imports it. Each process appends one JSON object per call to its own file in the folder that
`FOLDER_VARIABLE` names.
"""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed
from tensordict import TensorDict
from transfer_queue.client import AsyncTransferQueueClient

#: Environment variable: folder of the records.
FOLDER_VARIABLE = "ACTFOCUS_METERING_FOLDER"


def sizes(data: TensorDict) -> dict[str, list[float]]:
    """Return field → values, bytes per value, rows. A field that is no tensor counts a pickled object per row.

    Example:
        >>> sizes(TensorDict({"reward": torch.zeros(3, 2)}, batch_size=3))
        {'reward': [6, 4, 3]}
    """
    found: dict[str, list[float]] = {}
    rows = data.batch_size[0]
    for name, value in data.items():
        if isinstance(value, torch.Tensor):
            flat = value.values() if value.is_nested and value.layout == torch.jagged else value
            elements = sum(part.numel() for part in flat.unbind()) if flat.is_nested else flat.numel()
            found[name] = [elements, value.element_size(), rows]
        else:
            found[name] = [rows, len(pickle.dumps(list(value))) / max(1, rows), rows]
    return found


def _record(**values: Any) -> None:
    words = psutil.Process().cmdline()
    role = words[0].removeprefix("ray::").split(".")[0] if words and words[0].startswith("ray::") else "command"
    line = json.dumps({"time": time.time(), "role": role, "pid": os.getpid(), **values})
    with (Path(os.environ[FOLDER_VARIABLE]) / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(line + "\n")


def _metered_put(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def put(self: Any, data: TensorDict, *args: Any, **kwargs: Any) -> Any:
        _record(kind="put", fields=sizes(data))
        return await original(self, data, *args, **kwargs)

    return put


def _metered_get(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def get(self: Any, metadata: Any) -> TensorDict:
        data: TensorDict = await original(self, metadata)
        _record(kind="get", fields=sizes(data))
        return data

    return get


def _metered_all_reduce(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def all_reduce(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        _record(kind="all_reduce", values=tensor.numel())
        return original(tensor, *args, **kwargs)

    return all_reduce


def install() -> None:
    """Put the counters in the place of what they count."""
    AsyncTransferQueueClient.async_put = _metered_put(AsyncTransferQueueClient.async_put)
    AsyncTransferQueueClient.async_get_data = _metered_get(AsyncTransferQueueClient.async_get_data)
    torch.distributed.all_reduce = _metered_all_reduce(torch.distributed.all_reduce)


if FOLDER_VARIABLE in os.environ:
    install()
