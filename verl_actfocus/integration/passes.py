"""The passes without a gradient, as the trainer asks for them: old and reference log-probabilities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, open_dict
from transfer_queue import KVBatchMeta

from verl_actfocus.integration.groups import group_of


def complete_reference_settings(config: DictConfig) -> None:
    """Give a reference pass that the user did not configure the micro-batch of the policy's own log-prob pass."""
    reference, rollout = config.actor_rollout_ref.ref, config.actor_rollout_ref.rollout
    names = ("log_prob_micro_batch_size", "log_prob_micro_batch_size_per_gpu")
    if reference.log_prob_use_dynamic_bsz or any(reference.get(name) is not None for name in names):
        return
    with open_dict(config):
        for name in names:
            reference[name] = rollout.get(name)


def run_by_groups(
    run: Callable[[KVBatchMeta, dict[str, Any]], KVBatchMeta], batch: KVBatchMeta, metrics: dict[str, Any], ranks: int
) -> KVBatchMeta:
    """Run a pass with the trajectories of a group on one rank; afterwards they are in the order that they had before.

    Args:
        run: a step of veRL's trainer, which keeps the order.
        batch: its argument.
        metrics: its argument.
        ranks: data-parallel ranks that the pass runs on.
    """
    order = dealt_to_ranks(batch.keys, [tag["seq_len"] for tag in batch.tags], ranks)
    batch.reorder(order)
    batch = run(batch, metrics)
    batch.reorder(sorted(range(len(order)), key=order.__getitem__))
    return batch


def dealt_to_ranks(keys: Sequence[str], tokens: Sequence[int], ranks: int) -> list[int]:
    """Order trajectories so that those of a group follow one another and ranks get about as many tokens.

    The largest groups are dealt first, to and fro. veRL gives every rank equally many trajectories of what comes out:
    where groups are of unequal size, or cannot be dealt out evenly, some are cut at the edge of a share.

    Args:
        keys: of the trajectories, see `group_of`.
        tokens: of each trajectory.
        ranks: that the batch goes to.

    Returns:
        The places of the trajectories, in their new order.

    Example:
        >>> dealt_to_ranks(["a_0_0", "b_0_0", "a_1_0", "b_1_0"], [1, 2, 1, 2], ranks=2)
        [1, 3, 0, 2]
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        members[group_of(key)].append(row)
    largest_first = sorted(members.values(), key=lambda rows: -sum(tokens[row] for row in rows))
    hands: list[list[int]] = [[] for _ in range(ranks)]
    for number, rows in enumerate(largest_first):
        lap, seat = divmod(number, ranks)
        hands[seat if lap % 2 == 0 else ranks - 1 - seat] += rows
    return [row for hand in hands for row in hand]
