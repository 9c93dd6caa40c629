"""The returns of a prompt group, and whether they differ at all.

GRPO compares the trajectories of a group with each other. Where all returns are equal, or one trajectory is left of a
group, none is better than another, and the advantage is 0. veRL's estimator (`compute_grpo_outcome_advantage` in
`verl/trainer/ppo/core_algos.py`) gets there only where float32 happens to be exact: its mean of 16 times 10.8 is off by
one unit in the last place, which its division by a standard deviation of 0 + 1e-6 makes an advantage of -0.48, and the
advantage of a single trajectory is its return.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from verl_actfocus.episodes.spread import spread

_Group = TypeVar("_Group", bound=Hashable)


def groups_without_spread(returns: Mapping[_Group, Sequence[float]]) -> set[_Group]:
    """Return the groups whose trajectories cannot be told apart by their returns.

    Args:
        returns: group → returns of its trajectories, at least one each.
    """
    return {group for group, values in returns.items() if spread(values) == 0}


def group_of(key: str) -> str:
    """Return the group of a trajectory in TransferQueue.

    Args:
        key: `{group}_{session}_{index}`; a session has several outputs where the agent loop splits its episode.
    """
    return key.rsplit("_", 2)[0]


def group_returns(keys: Sequence[str], returns: Iterable[float]) -> dict[str, list[float]]:
    """Collect the returns of each group as veRL's GRPO compares them: those of each session's last output.

    Args:
        keys: of the rows of a batch, see `group_of`.
        returns: of the same rows.

    Returns:
        Group → returns, groups in the order of their first row.

    Example:
        >>> group_returns(["a_0_0", "b_0_0", "a_1_1", "a_1_0"], [1.0, 2.0, 3.0, 4.0])
        {'a': [1.0, 3.0], 'b': [2.0]}
    """
    last: dict[str, tuple[int, float]] = {}
    for key, value in zip(keys, returns, strict=True):
        session, index = key.rsplit("_", 1)
        if session not in last or last[session][0] < int(index):
            last[session] = (int(index), value)
    groups: dict[str, list[float]] = defaultdict(list)
    for session, (_, value) in last.items():
        groups[session.rsplit("_", 1)[0]].append(value)
    return dict(groups)


def without_level_groups(
    keys: Sequence[str], rewards: Iterable[Tensor], advantages: Iterable[Tensor]
) -> list[Tensor] | None:
    """Set the advantages of the groups to 0 whose returns do not differ.

    Args:
        keys: of the rows of a batch, see `group_of`.
        rewards: of each row's tokens, `(T,)`.
        advantages: of each row's tokens, `(T,)`.

    Returns:
        The advantages of all rows; None if no group is level, so that nothing changes.
    """
    level = groups_without_spread(group_returns(keys, (row.double().sum().item() for row in rewards)))
    if not level:
        return None
    rows = zip(keys, advantages, strict=True)
    return [torch.zeros_like(row) if group_of(key) in level else row for key, row in rows]
