"""Where a row of TransferQueue belongs."""

from __future__ import annotations

from verl_actfocus.estimators import Place


def place_of(key: str) -> Place:
    """Return whose output a row is.

    Args:
        key: `{group}_{session}_{index}`; a session has several outputs where the agent loop splits its episode.

    Example:
        >>> place_of("a_b_0_1")
        Place(group='a_b', session='0', output=1)
    """
    group, session, output = key.rsplit("_", 2)
    return Place(group, session, int(output))


def group_of(key: str) -> str:
    """Return the prompt group of a row, see `place_of`."""
    return place_of(key).group
