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
from verl_actfocus.estimators.base import Place

_Group = TypeVar("_Group", bound=Hashable)


def groups_without_spread(returns: Mapping[_Group, Sequence[float]]) -> set[_Group]:
    """Return the groups whose members cannot be told apart by their returns.

    Args:
        returns: group → returns of its members, at least one each.
    """
    return {group for group, values in returns.items() if spread(values) == 0}


def group_returns(places: Sequence[Place], returns: Iterable[float]) -> dict[str, list[float]]:
    """Collect the returns of each group as veRL's GRPO compares them: those of each session's last output.

    Args:
        places: of the rows of a batch.
        returns: of the same rows.

    Returns:
        Group → returns, groups in the order of their first row.

    Example:
        >>> rows = [Place("a", "0", 0), Place("b", "0", 0), Place("a", "1", 1), Place("a", "1", 0)]
        >>> group_returns(rows, [1.0, 2.0, 3.0, 4.0])
        {'a': [1.0, 3.0], 'b': [2.0]}
    """
    last: dict[tuple[str, str], tuple[int, float]] = {}
    for (group, session, output), value in zip(places, returns, strict=True):
        if (group, session) not in last or last[group, session][0] < output:
            last[group, session] = (output, value)
    groups: dict[str, list[float]] = defaultdict(list)
    for (group, _), (_, value) in last.items():
        groups[group].append(value)
    return dict(groups)


def without_level_groups(
    places: Sequence[Place], rewards: Iterable[Tensor], advantages: Sequence[Tensor]
) -> list[Tensor] | None:
    """Set the advantages of the groups to 0 whose returns do not differ.

    Args:
        places: of the rows of a batch.
        rewards: of each row's tokens, `(T,)`.
        advantages: of each row's tokens, `(T,)`.

    Returns:
        The advantages of all rows; None if no group is level, so that nothing changes.
    """
    level = groups_without_spread(group_returns(places, (row.double().sum().item() for row in rewards)))
    if not level:
        return None
    rows = zip(places, advantages, strict=True)
    return [torch.zeros_like(row) if place.group in level else row for place, row in rows]
