"""What a prompt group must be, and how many `algorithm.actfocus.keep_groups` keeps: alike for trainer and launcher.

Free of veRL, so that a run is checked without importing it.
"""

from __future__ import annotations

import math
from fractions import Fraction


def groups_kept(groups: int, share: float) -> int:
    """Return how many of these groups a share keeps, rounded up, so that one group always stays.

    The share counts as the decimal that it is written as: in binary, 0.28 of 25 groups is a little more than 7, which
    would be rounded up to 8.

    Args:
        groups: number of groups, at least one.
        share: share to keep, in (0, 1].

    Example:
        >>> groups_kept(8, 0.3), groups_kept(25, 0.28)
        (3, 7)
    """
    return math.ceil(Fraction(str(share)) * groups)


def check_group_size(size: int, *, compared_by: str | None, share: float) -> None:
    """Check that a prompt group has something to compare where it is compared.

    Args:
        size: trajectories per prompt.
        compared_by: advantage estimator that compares the trajectories of a group; None for one that does not.
        share: share of the groups to keep.

    Raises:
        ValueError: groups of one, though advantages or the selection of groups come from how rewards differ in a group.
    """
    if size > 1:
        return
    remedy = "set actor_rollout_ref.rollout.n to 2 or more (the paper: 16, 8 for WebShop)"
    if compared_by is not None:
        raise ValueError(
            f"actor_rollout_ref.rollout.n={size}: {compared_by} compares the trajectories of a prompt with each other, "
            f"and with one alone every advantage is 0; {remedy}, or algorithm.adv_estimator=actfocus_gae"
        )
    if share < 1:
        raise ValueError(
            f"actor_rollout_ref.rollout.n={size}: algorithm.actfocus.keep_groups={share} keeps the groups whose "
            f"rewards differ most, and one trajectory alone does not differ; {remedy}, or keep_groups=1.0"
        )
