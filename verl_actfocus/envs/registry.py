"""Which environments there are, where their parts live and what an episode of each may cost.

An entry point is a string, so reading this table imports no environment (and none of their data).
The budgets are those of He et al. 2026, App. C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import gymnasium

from verl_actfocus.envs.base import EpisodeLimits, TextEnv

if TYPE_CHECKING:
    from verl_actfocus.envs.demonstrations import Miniature

#: Reads the state of an environment with an episode under way and returns the text of an action.
Expert: TypeAlias = Callable[[TextEnv], str]


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """One environment. An entry point is a string "module:name".

    Attributes:
        id: The gymnasium id, "Namespace/Name-v0".
        entry_point: Entry point of the class, a `TextEnv`.
        limits: Budgets of one episode.
        summary: One line for lists of environments.
        expert: Entry point of the `Expert` that solves the environment; None without one.
        miniature: Entry point of the `Miniature` that a tiny model is made for; None without one.

    Raises:
        ValueError: An entry point is not "module:name".
    """

    id: str
    entry_point: str
    limits: EpisodeLimits
    summary: str
    expert: str | None = None
    miniature: str | None = None

    def __post_init__(self) -> None:
        for entry_point in (self.entry_point, self.expert, self.miniature):
            if entry_point is not None and entry_point.count(":") != 1:
                raise ValueError(f"environment {self.id!r}: entry point {entry_point!r} is not 'module:name'")


def _packaged(folder: str, class_name: str, miniature: bool = True, **entry: Any) -> EnvironmentSpec:
    """Return the entry of an environment of this package, a folder with `env`, `expert` and `demonstrations`."""
    place = f"{__package__}.{folder}"
    return EnvironmentSpec(
        id=f"ActFocus/{class_name.removesuffix('Env')}-v0",
        entry_point=f"{place}.env:{class_name}",
        expert=f"{place}.expert:expert_action",
        miniature=f"{place}.demonstrations:MINIATURE" if miniature else None,
        **entry,
    )


ENVIRONMENTS: dict[str, EnvironmentSpec] = {
    "sokoban": _packaged(
        "sokoban",
        "SokobanEnv",
        limits=EpisodeLimits(turns=5, actions_per_turn=2, actions=10, words=100),
        summary="push every box onto a target; rooms are generated solvable",
    ),
    "frozenlake": _packaged(
        "frozenlake",
        "FrozenLakeEnv",
        limits=EpisodeLimits(turns=5, actions_per_turn=2, actions=10, words=120),
        summary="cross slippery ice to the goal without falling into a hole",
    ),
    "sudoku": _packaged(
        "sudoku",
        "SudokuEnv",
        limits=EpisodeLimits(turns=8, actions_per_turn=None, actions=16, words=150),
        summary="fill in the empty cells of a 4x4 or 9x9 grid, one number at a time",
    ),
    # The paper does not state WebShop's response tokens; 400 is its figure for the other three.
    "webshop": _packaged(
        "webshop",
        "WebShopEnv",
        limits=EpisodeLimits(turns=9, actions_per_turn=1, actions=9, words=200),
        summary="find and buy the product that a shopper describes",
    ),
    # Not in the paper; needs the extra `textworld`. A default game can be won with four commands.
    "textworld": _packaged(
        "textworld",
        "TextWorldEnv",
        miniature=False,
        limits=EpisodeLimits(turns=12, actions_per_turn=1, actions=12, words=100),
        summary="complete the quest of a generated text adventure (extra: textworld)",
    ),
}


def spec(name: str) -> EnvironmentSpec:
    """Look an environment up.

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
    """Construct an environment without gymnasium's wrappers.

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
    factory = _load(entry.entry_point)
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


def outcomes(name: str) -> tuple[str, ...] | None:
    """Return what is said about a whole episode: `success`, and the outcomes that the environment's class declares.

    Args:
        name: A key of `ENVIRONMENTS`.

    Returns:
        The outcomes; None where only an environment that has been made knows them, since a function makes it or its
        class computes them.

    Raises:
        ValueError: There is no environment of that name.
        ImportError: The module of its class, or one that it needs, is missing.
        AttributeError: The module has no such class.

    Example:
        >>> outcomes("webshop")
        ('success', 'purchase')
    """
    declared = getattr(_load(spec(name).entry_point), "outcomes", None)
    return ("success", *declared) if isinstance(declared, tuple) else None


def expert(name: str) -> Expert:
    """Return the expert of an environment: an upper bound for evaluation and a teacher for the warm start.

    Raises:
        ValueError: There is no environment of that name, or it has no expert; the message lists those with one.

    Example:
        >>> env = make("frozenlake")
        >>> observation, info = env.reset(seed=0)
        >>> observation, *_ = env.step(expert("frozenlake")(env))
    """
    found: Expert = _load(_part(name, "expert"))
    return found


def miniature(name: str) -> Miniature:
    """Return the miniature of an environment: the small task that its tiny model is made for.

    Raises:
        ValueError: There is no environment of that name, or it has no miniature; the message lists those with one.

    Example:
        >>> miniature("frozenlake").options
        {'success_rate': 1.0}
    """
    found: Miniature = _load(_part(name, "miniature"))
    return found


def having(part: Literal["expert", "miniature"]) -> list[str]:
    """Return the names of the environments that have an expert, or a miniature."""
    return [name for name, entry in ENVIRONMENTS.items() if vars(entry)[part] is not None]


def _part(name: str, part: Literal["expert", "miniature"]) -> str:
    entry_point: str | None = vars(spec(name))[part]
    if entry_point is None:
        raise ValueError(
            f"environment {name!r} has no {part} (its entry may name one): those with one are {', '.join(having(part))}"
        )
    return entry_point


def _load(entry_point: str) -> Any:
    module, name = entry_point.split(":")
    return getattr(import_module(module), name)


def register_environment(name: str, entry: EnvironmentSpec) -> None:
    """Add an environment of the user's own to `ENVIRONMENTS` and to gymnasium.

    Args:
        name: The short name for `make` and for the command line.
        entry: The environment's entry.

    Raises:
        ValueError: The name or the gymnasium id is taken.
    """
    if name in ENVIRONMENTS:
        raise ValueError(f"environment name {name!r} is taken by {ENVIRONMENTS[name].entry_point}")
    if entry.id in gymnasium.registry:
        raise ValueError(f"environment {name!r}: gymnasium already has an environment {entry.id!r}")
    ENVIRONMENTS[name] = entry
    _register_with_gymnasium(entry)


def _register_with_gymnasium(entry: EnvironmentSpec) -> None:
    gymnasium.register(id=entry.id, entry_point=entry.entry_point)


for _entry in ENVIRONMENTS.values():
    _register_with_gymnasium(_entry)
