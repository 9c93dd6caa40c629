"""What `data.environment` of a configuration holds: which environment is played, in training and in evaluation.

Free of veRL, so that an evaluation on its own plays the tasks of a training run's evaluation.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_actfocus.envs import EpisodeLimits, spec
from verl_actfocus.episodes import Episode
from verl_actfocus.episodes.deadline import STEP_TIMEOUT, EnvironmentTimeoutError, make_within
from verl_actfocus.episodes.phrasing import BRIEF, Phrasing, prompt_style
from verl_actfocus.episodes.worked_turns import phrasing_of
from verl_actfocus.weighting.settings import settings_from

#: Where the settings live in a veRL configuration, relative to `data`.
SECTION = "environment"


@dataclass(frozen=True, kw_only=True)
class EnvironmentSettings:
    """What `data.environment` holds.

    Raises:
        ValueError: the environment is unknown or a number is out of range.
    """

    #: Name in `verl_actfocus.envs.ENVIRONMENTS`.
    name: str
    #: Arguments of the environment's constructor for training and evaluation.
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: Constructor arguments that differ in evaluation (a WebShop split).
    val_kwargs: dict[str, Any] = field(default_factory=dict)
    #: Budgets that differ from the environment's own (`EpisodeLimits`).
    limits: dict[str, Any] = field(default_factory=dict)
    #: How a prompt asks for the response format (`verl_actfocus.episodes.phrasing.PROMPT_STYLES`).
    prompt_style: str = BRIEF
    #: Reward of a turn without a valid response.
    format_penalty: float = -0.1
    #: Most seconds that the environment may take to reset, to execute an action, or to close.
    step_timeout: float = STEP_TIMEOUT
    #: Distinct training seeds; every one is a task.
    train_size: int = 100_000
    #: Evaluation tasks; always the same ones.
    val_size: int = 32
    #: First evaluation seed. Training seeds start behind the last evaluation seed of any such range.
    val_seed: int = 0
    #: First training seed.
    train_seed: int = 1_000_000

    def __post_init__(self) -> None:
        spec(self.name)
        try:
            prompt_style(self.prompt_style)
        except ValueError as error:
            raise ValueError(f"data.{SECTION}.prompt_style: {error}") from error
        for name, least in (("train_size", 1), ("val_size", 1), ("train_seed", 0), ("val_seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"data.{SECTION}.{name}={getattr(self, name)} must be at least {least}")
        if not self.format_penalty <= 0:
            raise ValueError(
                f"data.{SECTION}.format_penalty={self.format_penalty}: a penalty is zero or negative, e.g. -0.1"
            )
        if not 0 < self.step_timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"data.{SECTION}.step_timeout={self.step_timeout} must be a positive number of seconds")
        if self.val_seed < self.train_seed + self.train_size and self.train_seed < self.val_seed + self.val_size:
            raise ValueError(
                f"data.{SECTION}: evaluation seeds {self.val_seed}–{self.val_seed + self.val_size - 1} overlap "
                f"training seeds {self.train_seed}–{self.train_seed + self.train_size - 1}; move val_seed or train_seed"
            )

    @classmethod
    def from_config(cls, data_config: DictConfig) -> EnvironmentSettings:
        """Read `data.environment`.

        Raises:
            ValueError: the section is missing, has an unknown setting, or a value has the wrong type or is out of
                range.
        """
        section = data_config.get(SECTION)
        if section is None:
            raise ValueError(f"data.{SECTION} is missing; add +actfocus/env=<name> to the command line")
        plain = OmegaConf.to_container(section, resolve=True) if OmegaConf.is_config(section) else section
        return settings_from(cls, f"data.{SECTION}", plain)

    def episode_limits(self) -> EpisodeLimits:
        """Return the environment's budgets with the configured changes.

        Raises:
            ValueError: a budget is unknown, of the wrong type or out of range.
        """
        limits = {**asdict(spec(self.name).limits), **self.limits}
        return settings_from(EpisodeLimits, f"data.{SECTION}.limits", limits)

    def phrasing(self) -> Phrasing:
        """Return the style with what it shows of the environment; that of evaluation is the same as in training.

        Raises:
            ValueError: the style shows what an expert does, and there is none.
        """
        return phrasing_of(
            self.prompt_style, self.name, self.kwargs, self.episode_limits(), step_timeout=self.step_timeout
        )

    def check(self, *, begin: bool = False) -> None:
        """Make the environment of training, and that of evaluation where it is another, and throw them away.

        Args:
            begin: begin their first tasks, too, as a run that starts does.

        Raises:
            ValueError: a budget or an argument of the environment's class is unknown, of the wrong type or out of
                range, a package that the environment needs is missing, a first task cannot be begun, or the prompt
                style does not suit it.
        """
        self.episode_limits()
        self._try("kwargs", self.kwargs, self.train_seed, begin)
        self.phrasing()
        if self.val_kwargs:
            self._try("val_kwargs", {**self.kwargs, **self.val_kwargs}, self.val_seed, begin)

    def _try(self, setting: str, arguments: Mapping[str, Any], seed: int, begin: bool) -> None:
        name = self.name
        try:
            env = make_within(self.step_timeout, name, **arguments)
        except (ImportError, EnvironmentTimeoutError) as error:
            raise ValueError(f"data.{SECTION}.name={name}: {error}") from error
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"data.{SECTION}.{setting}={dict(arguments)}: {error}; correct that argument of {name}, or leave it out"
            ) from error
        episode = Episode(env, self.episode_limits(), step_timeout=self.step_timeout)
        if begin:
            episode.reset(seed)
        episode.close()
        if episode.error is not None:
            raise ValueError(
                f"data.{SECTION}.{setting}={dict(arguments)}: {name} cannot begin the task of seed {seed}: "
                f"{episode.error}; correct the arguments, or what the environment needs"
            )
