"""TransferQueue in memory: the columns of one batch, and the handle of its rows."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from transfer_queue import KVBatchMeta


class Queue:
    """TransferQueue's columns of one batch; counts what is read and written."""

    def __init__(self, **columns):
        self.columns, self.reads, self.writes = columns, 0, 0
        #: Rows that are tagged as padding.
        self.padding = ()

    def kv_batch_get(self, keys, partition_id, select_fields):
        self.reads += 1
        rows = [row_of(key) for key in keys]
        found = {name: [self.columns[name][row] for row in rows] for name in select_fields if name in self.columns}
        return TensorDict({name: nested(values) for name, values in found.items()}, batch_size=len(keys))

    def kv_batch_put(self, keys, partition_id, fields):
        self.writes += 1
        for name, values in fields.items():
            column = self.columns.setdefault(name, [None] * 9)
            for key, value in zip(keys, values.unbind(), strict=True):
                column[row_of(key)] = value
        return handle(len(keys), self.padding)


def row_of(key):
    """Keys are `group_session_0`; every session has a row of its own."""
    return int(key.split("_")[1])


def nested(values):
    return torch.nested.as_nested_tensor([torch.as_tensor(value) for value in values], layout=torch.jagged)


def handle(rows, padding=()):
    tags = [{"is_padding": row in padding} for row in range(rows)]
    return KVBatchMeta(
        keys=[f"g{row // 2}_{row}_0" for row in range(rows)], tags=tags, partition_id="train", extra_info={}
    )
