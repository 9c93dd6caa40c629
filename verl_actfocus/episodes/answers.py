"""What an environment may answer: everything else is its failure, and never reaches a prompt or a reward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verl_actfocus.envs.base import StepInfo, TextEnv

#: Rewards are trained on in float32.
LARGEST_REWARD = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class EnvironmentStep:
    """A step that an environment took, or refused.

    Attributes:
        observation: Text of the new state.
        reward: Reward of the action.
        terminated_or_truncated: Whether the environment says that its episode is over.
        info: What it reported, with `StepInfo` and its outcomes.
    """

    observation: str
    reward: float
    terminated_or_truncated: bool
    info: Mapping[str, Any]

    @property
    def valid(self) -> bool:
        """Whether the environment accepted the action."""
        return bool(self.info["valid"])

    @property
    def effective(self) -> bool:
        """Whether the action changed the state."""
        return bool(self.info["effective"])

    @property
    def success(self) -> bool:
        """Whether the task is solved."""
        return bool(self.info["success"])

    @property
    def ends(self) -> bool:
        """Whether the task is over."""
        return self.terminated_or_truncated or self.success


def checked_reset(env: TextEnv, seed: int | None) -> tuple[str, Mapping[str, Any]]:
    """Reset an environment.

    Args:
        env: The environment.
        seed: Seed of the task.

    Returns:
        Observation and info.

    Raises:
        TypeError: One of them is of another type.
        UnicodeEncodeError: The observation holds half a character (a lone surrogate).
    """
    where = f"{type(env).__name__}.reset"
    observation, info = env.reset(seed=seed)
    return _text(where, observation), _mapping(where, info)


def checked_step(env: TextEnv, action: str) -> EnvironmentStep:
    """Step an environment.

    Args:
        env: The environment.
        action: Text of the action.

    Raises:
        KeyError: The info lacks something.
        TypeError: A value is of another type; `"no"` is not false.
        UnicodeEncodeError: The observation holds half a character (a lone surrogate).
        ValueError: The reward is not finite, or larger than float32 holds.
    """
    where = f"{type(env).__name__}.step"
    observation, reward, terminated, truncated, info = env.step(action)
    said = {**StepInfo.__annotations__, **dict.fromkeys(env.outcomes)}.keys()
    missing = said - _mapping(where, info).keys()
    if missing:
        raise KeyError(f"{where}: info lacks {sorted(missing)}")
    flags = {"terminated": terminated, "truncated": truncated, **{f"info[{name!r}]": info[name] for name in said}}
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise TypeError(f"{where}: {name} is {flag!r}: it must be True or False")
    if not abs(float(reward)) <= LARGEST_REWARD:  # false for NaN
        raise ValueError(f"{where}: reward {reward} is not a finite float32")
    return EnvironmentStep(
        observation=_text(where, observation),
        reward=float(reward),
        terminated_or_truncated=bool(terminated or truncated),
        info=info,
    )


def checked_sum(env: TextEnv, rewards: Sequence[float]) -> None:
    """Make sure that the rewards of an episode have a sum.

    Raises:
        ValueError: It is larger than float32 holds.
    """
    if not abs(math.fsum(rewards)) <= LARGEST_REWARD:
        raise ValueError(f"{type(env).__name__}.step: with {rewards[-1]:g} the rewards' sum is not a finite float32")


def _text(where: str, observation: Any) -> str:
    if not isinstance(observation, str):
        raise TypeError(f"{where}: the observation is {type(observation).__name__}, it must be text")
    observation.encode()
    return observation


def _mapping(where: str, info: Any) -> Mapping[str, Any]:
    if not isinstance(info, Mapping):
        raise TypeError(f"{where}: info is {type(info).__name__}, it must be a mapping")
    return info
