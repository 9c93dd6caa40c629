"""How many prompt groups `algorithm.actfocus.keep_groups` keeps: counted alike by trainer and launcher.

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
