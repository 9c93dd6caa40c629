"""Turns gymnasium environments with numbered actions and a text rendering into text environments.

gymnasium's own CliffWalking, Taxi and FrozenLake are of that kind, and so are many grid worlds of other
packages. What has to be added is what a language model needs and a number does not say: the names of the
actions, the rules, and when the task counts as solved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.utils.env_checker import data_equivalence

from verl_actfocus.envs.base import (
    ACTION_SEPARATOR,
    MAX_OBSERVATION_CHARS,
    TEXT_CHARSET,
    TextEnv,
    match_action,
    step_info,
    text_space,
)

_COLOURS = ("gray", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_COLOURED = re.compile(r"\x1b\[(?!0?m)(?P<codes>[0-9;]+)m(?P<text>[^\x1b]*)\x1b\[0?m")  # innermost
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class DiscreteTextAdapter(TextEnv):
    """A text environment around a gymnasium environment with `Discrete` actions and "ansi" rendering.

    The observation is the rendering. Its colours often carry the state (Taxi marks its taxi by nothing
    else), so coloured text is not just stripped of its codes: it is written as `[colour text]`, or as
    `marks` says. An action is the name of one of the wrapped environment's actions; it is effective when it
    changes the observation that the wrapped environment returns.

    Args:
        env: The environment, made with `render_mode="ansi"`; its own time limit is kept.
        action_names: One name per action, in the order of the action numbers.
        rules: The goal and the symbols; the actions and an example are added.
        solved: Whether a step solved the task, from its reward and from whether the episode terminated.
        marks: A format string with one `{}` per colour name (gray, red, green, yellow, blue, magenta, cyan,
            white), for the text of that colour; "{}" drops the colour.
        extra_symbols: Characters outside of printable ASCII that the rendering contains.

    Raises:
        TypeError: The environment's actions are not `Discrete`.
        ValueError: It does not render as "ansi", the names do not fit the actions, or a colour is unknown.

    Example:
        >>> cliff = gymnasium.make("CliffWalking-v1", render_mode="ansi")
        >>> env = DiscreteTextAdapter(
        ...     cliff,
        ...     action_names=("Up", "Right", "Down", "Left"),
        ...     rules="Walk to T without stepping on the cliff. Symbols: x you, o ground, C cliff, T goal.",
        ...     solved=lambda reward, terminated: terminated,
        ... )
        >>> observation, info = env.reset(seed=0)
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        *,
        action_names: Sequence[str],
        rules: str,
        solved: Callable[[float, bool], bool],
        marks: Mapping[str, str] | None = None,
        extra_symbols: str = "",
    ) -> None:
        super().__init__("ansi")
        if not isinstance(env.action_space, Discrete):
            raise TypeError(f"{env}: DiscreteTextAdapter needs Discrete actions, not {env.action_space}")
        if env.render_mode != "ansi":
            raise ValueError(f"{env}: render_mode is {env.render_mode!r}; make it with render_mode='ansi'")
        names = list(action_names)
        if len(names) != env.action_space.n or len({name.casefold() for name in names}) != len(names):
            raise ValueError(f"{env}: action_names {names} must be {env.action_space.n} different names")
        if any(ACTION_SEPARATOR in name or not name.strip() for name in names):
            raise ValueError(f"{env}: action_names {names}: a name is not empty and has no {ACTION_SEPARATOR!r} in it")
        unknown = set(marks or {}) - set(_COLOURS)
        if unknown:
            raise ValueError(f"marks: unknown colours {sorted(unknown)}; known are {', '.join(_COLOURS)}")
        self.env = env
        self.action_names = names
        self.marks = {colour: f"[{colour} {{}}]" for colour in _COLOURS} | dict(marks or {})
        self.observation_space = text_space(MAX_OBSERVATION_CHARS, extra_symbols)
        self._charset = TEXT_CHARSET | set(extra_symbols)
        self._first_action = int(env.action_space.start)
        self._rules = rules
        self._solved = solved
        self._inner: Any = None  # the wrapped environment's own observation
        self._text = ""

    @property
    def rules(self) -> str:
        return f"{self._rules}\nActions: {', '.join(self.action_names)}. Example of an action: {self.action_names[0]}"

    def legal_actions(self) -> list[str]:
        return list(self.action_names) if self._running else []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super(TextEnv, self).reset(seed=seed)
        self._inner, _ = self.env.reset(seed=seed, options=options)
        self._running = True
        self._text = self._rendering()
        return self._text, {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._require_running()
        index = match_action(action, self.action_names)
        if index is None:
            return self._text, 0.0, False, False, step_info(valid=False, effective=False, success=False)
        before = deepcopy(self._inner)  # an environment may reuse its observation
        self._inner, reward, terminated, truncated, _ = self.env.step(self._first_action + index)
        self._text = self._rendering()
        self._running = not (terminated or truncated)
        success = self._solved(float(reward), terminated)
        effective = not data_equivalence(self._inner, before, exact=True)
        info = step_info(valid=True, effective=effective, success=success)
        return self._text, float(reward), terminated, truncated, info

    def reseed(self, seed: int) -> None:
        self.env.unwrapped.np_random = np.random.default_rng(seed)

    def render(self) -> str:
        return self._text

    def close(self) -> None:
        self.env.close()

    def _rendering(self) -> str:
        """Return the wrapped environment's rendering, its colours written out.

        Raises:
            ValueError: It is not text, or it holds characters outside of the observation space.
        """
        drawn = self.env.render()
        if not isinstance(drawn, str):
            raise ValueError(f"{self.env}: render() gave {type(drawn).__name__}, not text")
        text = write_out_colours(drawn, self.marks).strip("\n")
        foreign = set(text) - self._charset
        if foreign:
            raise ValueError(
                f"{self.env}: the rendering holds {sorted(foreign)}, which the observation space does not; "
                "pass them as extra_symbols"
            )
        return text


def write_out_colours(text: str, marks: Mapping[str, str]) -> str:
    """Replace terminal colours by text and drop every other escape sequence.

    Args:
        text: Text with ANSI escape sequences.
        marks: A format string with one `{}` for each colour name.

    Returns:
        Text without escape sequences.

    Example:
        >>> write_out_colours("S\\x1b[41mF\\x1b[0mF", {"red": "[{}]"})
        'S[F]F'
    """

    def replacement(match: re.Match[str]) -> str:
        # 30-37 colour the letters, 40-47 the ground behind them; the last one given is the one seen
        codes = [int(code) for code in match["codes"].split(";") if code]
        colours = [_COLOURS[code % 10] for code in codes if code // 10 in (3, 4) and code % 10 < 8]
        return marks[colours[-1]].format(match["text"]) if colours else match["text"]

    found = 1
    while found:
        text, found = _COLOURED.subn(replacement, text)
    return _ESCAPE.sub("", text)
