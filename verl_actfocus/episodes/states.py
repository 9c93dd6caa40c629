"""A number for a state of the environment, as far as its observation tells it."""

from __future__ import annotations

from hashlib import blake2b


def state_id(observation: str) -> int:
    """Return the same number for the same observation, in every process; different ones for different observations.

    Args:
        observation: the environment's text of a state.

    Returns:
        From 1 to 2⁶³ - 1, so that int64 holds it and 0 stays free.

    Example:
        >>> state_id("_ P _") == state_id("_ P _"), state_id("_ P _") == state_id("P _ _")
        (True, False)
    """
    digest = blake2b(observation.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % (2**63 - 1) + 1
