"""What an environment is here: a gymnasium environment that is read and acted upon in text.

A language model sees the string an environment returns and answers with a string, so observations
and actions are both `str`. Everything else is plain gymnasium, which is why any of these
environments also runs under gymnasium's wrappers, checkers and vector environments.
"""

from __future__ import annotations

import string
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Text

# Printable ASCII (with newline and tab) and the one symbol outside of it that the grids draw.
TEXT_CHARSET = frozenset(string.printable) | {"√"}
MAX_ACTION_CHARS = 512
#: Stands between the actions of a response, and so in no action.
ACTION_SEPARATOR = "||"
MAX_OBSERVATION_CHARS = 20_000

# `metadata` of an environment that renders as text, and of one that also draws itself.
ANSI_ONLY: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}
ANSI_AND_RGB: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}


@dataclass(frozen=True, kw_only=True)
class EpisodeLimits:
    """Budgets of one episode (He et al. 2026, App. C).

    Attributes:
        turns: Most turns, that is model responses, per episode.
        actions_per_turn: Most actions executed per turn; None leaves only the episode's budget.
        actions: Most environment actions per episode.
        words: Length of a response, in words, that the prompt asks for.
        response_tokens: Most generated tokens per turn.

    Raises:
        ValueError: A budget is not a positive integer.

    Example:
        >>> EpisodeLimits(turns=5, actions_per_turn=2, actions=10, words=100).response_tokens
        400
    """

    turns: int
    actions_per_turn: int | None
    actions: int
    words: int
    response_tokens: int = 400

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "actions_per_turn" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"EpisodeLimits.{field.name} = {value!r}: every budget is a positive integer "
                    "(actions_per_turn may also be None, for no limit per turn)"
                )


class StepInfo(TypedDict):
    """What every `step` reports in its info; an environment may add keys of its own.

    Attributes:
        valid: The text was a well-formed action that the environment accepts in this state.
        effective: The action changed the state.
        success: The task is solved at this step.
    """

    valid: bool
    effective: bool
    success: bool


def text_space(max_length: int, extra_symbols: str = "") -> Text:
    """Return a `Text` space of 0 to `max_length` characters of `TEXT_CHARSET` and `extra_symbols`."""
    return Text(max_length, min_length=0, charset=TEXT_CHARSET | set(extra_symbols))


class TextEnv(gymnasium.Env[str, str]):
    """A text environment: `reset(seed=) -> (text, info)`, `step(text) -> (text, reward, …, info)`.

    What a subclass promises, beyond gymnasium's own contract:

    - an invalid action never raises and never changes the state: its reward is 0.0 (or the penalty
      that the environment documents), `info["valid"]` and `info["effective"]` are False, and it
      counts towards no step limit of the environment;
    - stepping after the end of an episode raises `gymnasium.error.ResetNeeded`;
    - the trajectory depends on the seed and the actions alone, in whatever process and beside
      whatever other environments it is produced;
    - no action holds `ACTION_SEPARATOR` or a tag of a response, so that whatever is offered can be written; an episode
      ends with an error otherwise;
    - chance comes from `np_random`, or from what `reseed` seeds;
    - the observation is the state and nothing else: rewards, budgets and instructions are added by
      `verl_actfocus.episodes`.

    Args:
        render_mode: "ansi" (the observation's text) or another mode of `metadata["render_modes"]`.

    Raises:
        ValueError: The environment does not know `render_mode`.
    """

    metadata = ANSI_ONLY
    #: Keys beyond `StepInfo` that every `step` adds to its info as true or false, and whose last value says something
    #: about the whole episode, as WebShop's `purchase`. Training and evaluation average them under these names.
    outcomes: tuple[str, ...] = ()

    def __init__(self, render_mode: str = "ansi") -> None:
        modes = self.metadata["render_modes"]
        if render_mode not in modes:
            raise ValueError(f"render_mode {render_mode!r}: {type(self).__name__} knows {', '.join(modes)}")
        self.render_mode = render_mode
        self.observation_space = text_space(MAX_OBSERVATION_CHARS)
        self.action_space = text_space(MAX_ACTION_CHARS)
        self._running = False

    @property
    @abstractmethod
    def rules(self) -> str:
        """The system message: goal, symbols, actions, one example of a well-formed action."""

    @abstractmethod
    def legal_actions(self) -> list[str]:
        """Return the actions that are valid in the present state, in the exact text that `step` accepts."""

    @abstractmethod
    def render(self) -> str | np.ndarray:
        """Return the present state as text ("ansi") or as an (height, width, 3) array of uint8 ("rgb_array")."""

    @abstractmethod
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the environment's own generator; None carries on with the present one.
            options: Unused unless the environment documents otherwise.

        Returns:
            The first observation and an info dictionary.
        """

    @abstractmethod
    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Execute one action.

        Args:
            action: The action's text; surrounding space and letter case do not matter.

        Returns:
            Observation, reward, terminated, truncated, and an info with the keys of `StepInfo`.

        Raises:
            gymnasium.error.ResetNeeded: There is no episode under way.
        """

    def reseed(self, seed: int) -> None:
        """Give what chance will bring from here on another seed; the present state stays as it is.

        An environment that draws from another generator than `np_random` seeds that one instead.

        Args:
            seed: Seed of the new generator.
        """
        self.np_random = np.random.default_rng(seed)

    def _require_running(self) -> None:
        """Raise `ResetNeeded` unless an episode is under way."""
        if not self._running:
            raise ResetNeeded(
                f"{type(self).__name__}: no episode is under way (not reset yet, or the last one is over); "
                "call reset() before step()"
            )


def step_info(*, valid: bool, effective: bool, success: bool, **extra: Any) -> dict[str, Any]:
    """Return the info of one step: the keys of `StepInfo` and what the environment adds."""
    return {**StepInfo(valid=valid, effective=effective, success=success), **extra}


def match_action(text: str, names: Sequence[str]) -> int | None:
    """Return the index in `names` of the action that `text` writes, or None.

    Args:
        text: What the model wrote; surrounding space and letter case are ignored.
        names: The environment's action names.

    Example:
        >>> match_action(" right ", ["Left", "Right"])
        1
    """
    wanted = text.strip().casefold()
    for index, name in enumerate(names):
        if name.casefold() == wanted:
            return index
    return None


def check_options(env: TextEnv, options: dict[str, Any] | None, known: Sequence[str] = ()) -> dict[str, Any]:
    """Return the options of a `reset`, refusing those that the environment would ignore.

    Args:
        env: The environment that is being reset.
        options: What was passed to `reset`.
        known: The options that the environment has.

    Returns:
        The options, an empty dictionary for None.

    Raises:
        ValueError: There is an option that the environment does not have.
    """
    given = options or {}
    unknown = set(given) - set(known)
    if unknown:
        raise ValueError(
            f"{type(env).__name__}.reset: unknown options {sorted(unknown)}; it has {list(known) or 'none'}"
        )
    return given
