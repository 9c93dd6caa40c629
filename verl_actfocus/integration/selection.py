"""StarPO-S trajectory selection: train on the prompt groups whose rewards differ most.

A group of equal rewards has advantage zero everywhere and teaches nothing. The paper keeps the quarter of the groups
with the largest reward spread for Sokoban and Sudoku (He et al. 2026, App. C, "rollout filter").
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import transfer_queue as tq
from transfer_queue import KVBatchMeta


def groups_to_keep(rewards: dict[str, list[float]], share: float) -> list[str]:
    """Choose the groups with the largest reward spread.

    Args:
        rewards: group id → rewards of its trajectories, at least one each.
        share: share of the groups to keep, in (0, 1]; rounded up, so that one group always stays.

    Returns:
        Ids of the kept groups in the order of `rewards`. Groups of equal spread are kept in that order too, also when
        no group has any spread.
    """
    count = math.ceil(share * len(rewards))
    spread = {group: float(np.std(values)) for group, values in rewards.items()}
    kept = set(sorted(rewards, key=lambda group: -spread[group])[:count])
    return [group for group in rewards if group in kept]


def select_groups(batch: KVBatchMeta, share: float, metrics: dict[str, Any]) -> KVBatchMeta:
    """Drop the groups with the least reward spread from a training batch and from TransferQueue.

    Args:
        batch: keys of the form ``{group}_{session}_{index}``. share: share of the groups to keep. metrics: receives
        ``selection/kept_share``, ``selection/groups_without_spread`` (share of all groups), and the mean
            spread of all and of the kept groups.

    Returns:
        The batch of the kept groups.
    """
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["rm_scores"])
    rewards: dict[str, list[float]] = defaultdict(list)
    for key, scores in zip(batch.keys, data["rm_scores"], strict=True):
        rewards[key.rsplit("_", 2)[0]].append(float(scores.sum()))
    kept = set(groups_to_keep(rewards, share))
    spreads = {group: float(np.std(values)) for group, values in rewards.items()}
    metrics["selection/kept_share"] = len(kept) / len(rewards)
    metrics["selection/groups_without_spread"] = float(np.mean([spread == 0 for spread in spreads.values()]))
    metrics["selection/spread_all"] = float(np.mean(list(spreads.values())))
    metrics["selection/spread_kept"] = float(np.mean([spreads[group] for group in kept]))
    if len(kept) == len(rewards):
        return batch
    chosen = [i for i, key in enumerate(batch.keys) if key.rsplit("_", 2)[0] in kept]
    dropped = [key for i, key in enumerate(batch.keys) if i not in set(chosen)]
    tq.kv_clear(keys=dropped, partition_id=batch.partition_id)
    return KVBatchMeta(
        keys=[batch.keys[i] for i in chosen],
        tags=[batch.tags[i] for i in chosen],
        partition_id=batch.partition_id,
        fields=batch.fields,
        extra_info=batch.extra_info,
    )
