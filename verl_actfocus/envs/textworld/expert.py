"""Follows TextWorld's own planner, which knows the game and its quest: an upper bound, no reader of text."""

from __future__ import annotations

from verl_actfocus.envs.base import TextEnv
from verl_actfocus.envs.textworld.env import TextWorldEnv


def expert_action(env: TextEnv) -> str:
    """Return the next command of the way to completion that the planner finds.

    Args:
        env: A `TextWorldEnv` with an episode under way.

    Returns:
        One of the available commands.

    Raises:
        TypeError: `env` is not a `TextWorldEnv`.
        ValueError: The quest can no longer be completed.
    """
    if not isinstance(env, TextWorldEnv):
        raise TypeError(f"the TextWorld expert needs a TextWorldEnv, not {type(env).__name__}")
    commands = env.winning_commands()
    if not commands:
        raise ValueError("the quest of this TextWorld game can no longer be completed; reset the environment")
    return commands[0]
