"""Trajectories that ended in an infrastructure failure: told by the agent loop, counted by the trainer.

Such a trajectory has no data, so nothing of it reaches the training batch. Its reason travels beside the batch, as a
tag in a TransferQueue partition of its own.
"""

from __future__ import annotations

from collections import Counter

import transfer_queue as tq

from verl_actfocus.episodes import StopReason

#: TransferQueue partition per split.
_PARTITIONS = {True: "actfocus_excluded_val", False: "actfocus_excluded_train"}


async def report(key: str, reason: StopReason, *, validate: bool) -> None:
    """Record why a trajectory was left out.

    Args:
        key: unique name of the trajectory, group and session.
        reason: a reason with `StopReason.excluded_from_training`.
        validate: whether the trajectory belonged to an evaluation.
    """
    await tq.async_kv_put(key=key, partition_id=_PARTITIONS[validate], tag={"reason": reason.value})


def collect(*, validate: bool) -> Counter[str]:
    """Return how often each reason was recorded since the last call, and forget them."""
    partition = _PARTITIONS[validate]
    records = (tq.kv_list(partition) or {}).get(partition, {})
    if records:
        tq.kv_clear(keys=list(records), partition_id=partition)
    return Counter(tag["reason"] for tag in records.values())


def exclusion_metrics(prefix: str, expected: int, present: int, reasons: Counter[str]) -> dict[str, float]:
    """Return the count of excluded trajectories and the share of each reason among all that were started.

    Args:
        prefix: `rollout` or `val`.
        expected: trajectories started.
        present: trajectories with data.
        reasons: what `collect` returned. Sessions that crashed outside the episode have no record; they make up the
            rest of the count, as `crashed`.
    """
    excluded = expected - present
    known = {reason.value: reasons[reason.value] for reason in StopReason if reason.excluded_from_training}
    shares = {**known, "crashed": max(0, excluded - sum(known.values()))}
    metrics = {f"{prefix}/excluded/{name}": count / expected for name, count in shares.items()}
    return {f"{prefix}/excluded_trajectories": float(excluded), **metrics}
