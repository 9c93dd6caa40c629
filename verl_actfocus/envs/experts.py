"""Solvers that play the environments: upper bounds for evaluation and teachers for the warm start.

One module per environment, each with a function `expert_action(env) -> str` that reads the
environment's state and returns the text of an action.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from verl_actfocus.envs.base import TextEnv

Policy = Callable[[TextEnv], str]

EXPERTS = {
    "sokoban": "verl_actfocus.envs.sokoban.expert",
    "frozenlake": "verl_actfocus.envs.frozenlake.expert",
    "sudoku": "verl_actfocus.envs.sudoku.expert",
    "webshop": "verl_actfocus.envs.webshop.expert",
    "textworld": "verl_actfocus.envs.textworld.expert",
}


def policy(name: str) -> Policy:
    """The expert of an environment.

    Args:
        name: The environment's name in the registry.

    Returns:
        A function from an environment with an episode under way to the text of an action.

    Raises:
        ValueError: There is no expert for that environment.

    Example:
        >>> from verl_actfocus import envs
        >>> env = envs.make("frozenlake")
        >>> observation, info = env.reset(seed=0)
        >>> observation, *_ = env.step(policy("frozenlake")(env))
    """
    if name not in EXPERTS:
        raise ValueError(f"no expert for environment {name!r}: there are experts for {', '.join(EXPERTS)}")
    expert: Policy = import_module(EXPERTS[name]).expert_action
    return expert
