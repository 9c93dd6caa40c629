"""StarPO-S trajectory selection: train on the prompt groups whose rewards differ most.

A group of equal rewards has advantage zero everywhere and teaches nothing. The paper keeps the quarter of the groups
with the largest reward spread for Sokoban and Sudoku (He et al. 2026, App. C, "rollout filter").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import transfer_queue as tq
from torch import Tensor
from transfer_queue import KVBatchMeta

from verl_actfocus.config.selection import groups_kept
from verl_actfocus.episodes.spread import spread
from verl_actfocus.estimators.groups import group_returns
from verl_actfocus.integration.groups import group_of, place_of


def groups_to_keep(rewards: dict[str, list[float]], share: float) -> list[str]:
    """Choose the groups with the largest reward spread.

    Args:
        rewards: group id → rewards of its trajectories, at least one each.
        share: share of the groups to keep, in (0, 1]; see `verl_actfocus.config.selection.groups_kept`.

    Returns:
        Ids of the kept groups in the order of `rewards`. Groups of equal spread are kept in that order too, also when
        no group has any spread.
    """
    count = groups_kept(len(rewards), share)
    spreads = {group: spread(values) for group, values in rewards.items()}
    kept = set(sorted(rewards, key=lambda group: -spreads[group])[:count])
    return [group for group in rewards if group in kept]


def select_groups(batch: KVBatchMeta, scores: Iterable[Tensor], share: float, metrics: dict[str, Any]) -> KVBatchMeta:
    """Drop the groups with the least reward spread from a training batch and from TransferQueue.

    Args:
        batch: keys of the form `{group}_{session}_{index}`.
        scores: the rewards of each row's tokens, `(T,)` each.
        share: share of the groups to keep.
        metrics: receives `selection/kept_share`, `selection/groups_without_spread` (share of all groups),
            `selection/groups_of_one` (number of groups of which a single trajectory is left), `selection/spread_all`
            and `selection/spread_kept` (mean spread of all and of the kept groups).

    Returns:
        The batch of the kept groups.
    """
    rewards = group_returns([place_of(key) for key in batch.keys], (row.double().sum().item() for row in scores))
    kept = groups_to_keep(rewards, share)
    spreads = {group: spread(values) for group, values in rewards.items()}
    metrics["selection/kept_share"] = len(kept) / len(rewards)
    metrics["selection/groups_without_spread"] = float(np.mean([spread == 0 for spread in spreads.values()]))
    metrics["selection/groups_of_one"] = float(sum(len(values) == 1 for values in rewards.values()))
    metrics["selection/spread_all"] = float(np.mean(list(spreads.values())))
    metrics["selection/spread_kept"] = float(np.mean([spreads[group] for group in kept]))
    if len(kept) == len(rewards):
        return batch
    chosen = set(kept)
    stays = [group_of(key) in chosen for key in batch.keys]
    dropped = [key for key, stay in zip(batch.keys, stays, strict=True) if not stay]
    tq.kv_clear(keys=dropped, partition_id=batch.partition_id)
    return KVBatchMeta(
        keys=[key for key, stay in zip(batch.keys, stays, strict=True) if stay],
        tags=[tag for tag, stay in zip(batch.tags, stays, strict=True) if stay],
        partition_id=batch.partition_id,
        fields=batch.fields,
        extra_info=batch.extra_info,
    )
