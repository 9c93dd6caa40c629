"""Which environments there are, where their classes live and what an episode of each may cost.

An entry point is a string, so reading this table imports no environment (and none of their data).
The budgets are those of He et al. 2026, App. C.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any

import gymnasium

from verl_actfocus.envs.base import EpisodeLimits, TextEnv


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """One environment.

    Attributes:
        id: The gymnasium id, "Namespace/Name-v0".
        entry_point: "module:Class"; the class is a `TextEnv`.
        limits: Budgets of one episode.
        summary: One line for lists of environments.
    """

    id: str
    entry_point: str
    limits: EpisodeLimits
    summary: str


ENVIRONMENTS: dict[str, EnvironmentSpec] = {
    "sokoban": EnvironmentSpec(
        id="ActFocus/Sokoban-v0",
        entry_point="verl_actfocus.envs.sokoban.env:SokobanEnv",
        limits=EpisodeLimits(turns=5, actions_per_turn=2, actions=10, words=100),
        summary="push every box onto a target; rooms are generated solvable",
    ),
    "frozenlake": EnvironmentSpec(
        id="ActFocus/FrozenLake-v0",
        entry_point="verl_actfocus.envs.frozenlake.env:FrozenLakeEnv",
        limits=EpisodeLimits(turns=5, actions_per_turn=2, actions=10, words=120),
        summary="cross slippery ice to the goal without falling into a hole",
    ),
    "sudoku": EnvironmentSpec(
        id="ActFocus/Sudoku-v0",
        entry_point="verl_actfocus.envs.sudoku.env:SudokuEnv",
        limits=EpisodeLimits(turns=8, actions_per_turn=None, actions=16, words=150),
        summary="fill in the empty cells of a 4x4 or 9x9 grid, one number at a time",
    ),
    # The paper does not state WebShop's response tokens; 400 is its figure for the other three.
    "webshop": EnvironmentSpec(
        id="ActFocus/WebShop-v0",
        entry_point="verl_actfocus.envs.webshop:WebShopEnv",
        limits=EpisodeLimits(turns=9, actions_per_turn=1, actions=9, words=200),
        summary="find and buy the product that a shopper describes",
    ),
    # Not in the paper; needs the extra `textworld`. A default game can be won with four commands.
    "textworld": EnvironmentSpec(
        id="ActFocus/TextWorld-v0",
        entry_point="verl_actfocus.envs.textworld.env:TextWorldEnv",
        limits=EpisodeLimits(turns=12, actions_per_turn=1, actions=12, words=100),
        summary="complete the quest of a generated text adventure (extra: textworld)",
    ),
}


def spec(name: str) -> EnvironmentSpec:
    """Looks an environment up.

    Args:
        name: A key of `ENVIRONMENTS`.

    Returns:
        The environment's entry.

    Raises:
        ValueError: There is no environment of that name; the message lists those there are.
    """
    if name not in ENVIRONMENTS:
        raise ValueError(
            f"unknown environment {name!r}: known are {', '.join(sorted(ENVIRONMENTS))}; "
            "add your own with verl_actfocus.envs.register_environment"
        )
    return ENVIRONMENTS[name]


def make(name: str, **kwargs: Any) -> TextEnv:
    """Constructs an environment without gymnasium's wrappers.

    Args:
        name: A key of `ENVIRONMENTS`.
        **kwargs: Passed to the environment's class.

    Returns:
        The environment, not reset yet.

    Raises:
        ValueError: There is no environment of that name.
        TypeError: The class has no argument of that name, or what it makes is not a `TextEnv`.

    Example:
        >>> env = make("frozenlake", success_rate=1.0)
        >>> observation, info = env.reset(seed=0)
    """
    entry = spec(name)
    module, class_name = entry.entry_point.split(":")
    factory = getattr(import_module(module), class_name)
    arguments = signature(factory)
    try:
        arguments.bind(**kwargs)
    except TypeError as error:
        known = ", ".join(arguments.parameters) or "none"
        raise TypeError(f"environment {name!r}: {error}; its arguments are {known}") from None
    env = factory(**kwargs)
    if not isinstance(env, TextEnv):
        raise TypeError(f"environment {name!r}: {entry.entry_point} is {type(env).__name__}, not a TextEnv")
    return env


def register_environment(name: str, entry: EnvironmentSpec) -> None:
    """Adds an environment of the user's own to `ENVIRONMENTS` and to gymnasium.

    Args:
        name: The short name for `make` and for the command line.
        entry: The environment's entry.

    Raises:
        ValueError: The name or the gymnasium id is taken, or the entry point is not "module:Class".
    """
    if name in ENVIRONMENTS:
        raise ValueError(f"environment name {name!r} is taken by {ENVIRONMENTS[name].entry_point}")
    if entry.entry_point.count(":") != 1:
        raise ValueError(f"environment {name!r}: entry point {entry.entry_point!r} is not 'module:Class'")
    if entry.id in gymnasium.registry:
        raise ValueError(f"environment {name!r}: gymnasium already has an environment {entry.id!r}")
    ENVIRONMENTS[name] = entry
    _register_with_gymnasium(entry)


def _register_with_gymnasium(entry: EnvironmentSpec) -> None:
    gymnasium.register(id=entry.id, entry_point=entry.entry_point)


for _entry in ENVIRONMENTS.values():
    _register_with_gymnasium(_entry)
