"""What an evaluation plays and how it samples: the paper's settings, a training run's, or changed ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from verl_actfocus.config.environment import EnvironmentSettings
from verl_actfocus.config.groups import packaged_groups
from verl_actfocus.config.settings import ActFocusSettings
from verl_actfocus.envs import EpisodeLimits
from verl_actfocus.episodes import STANDARD_TAGS, TagSettings
from verl_actfocus.episodes.deadline import STEP_TIMEOUT
from verl_actfocus.episodes.phrasing import BRIEF, Phrasing
from verl_actfocus.episodes.tokens import Lengths
from verl_actfocus.episodes.worked_turns import phrasing_of
from verl_actfocus.experiments.runs.composition import compose, compose_profile, configuration
from verl_actfocus.experiments.runs.run import Run
from verl_actfocus.weighting.settings import check_types

#: Evaluation of the paper where no packaged recipe says it (He et al. 2026, App. C): 16 episodes of a task at 0.5.
_PAPER_SAMPLING = tuple(f"actor_rollout_ref.rollout.val_kwargs.{word}" for word in ("n=16", "temperature=0.5"))


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Everything but the model that decides what an evaluation finds.

    Raises:
        ValueError: the environment is unknown, or a value has the wrong type or is out of range.

    Example:
        >>> settings = profile_settings("cpu_frozenlake")
        >>> settings.tasks, settings.samples, settings.temperature
        (64, 4, 1.0)
    """

    #: Name in `verl_actfocus.envs.ENVIRONMENTS`.
    environment: str
    #: Arguments of the environment's class in evaluation.
    options: Mapping[str, Any]
    #: Budgets of an episode.
    limits: EpisodeLimits
    #: Most tokens of an episode.
    lengths: Lengths
    #: Distinct tasks: environment seeds from `first_task` on.
    tasks: int
    #: Episodes of each task.
    samples: int
    #: Sampling temperature; 0 takes the most likely token.
    temperature: float
    #: First environment seed.
    first_task: int = 0
    #: Nucleus of the sampling; 1 keeps all tokens.
    top_p: float = 1.0
    #: Most probable tokens kept; -1 keeps all.
    top_k: int = -1
    #: Seed of the sampling. The tasks do not depend on it.
    seed: int = 0
    #: What a response looks like.
    tags: TagSettings = STANDARD_TAGS
    #: How a prompt asks for that (`verl_actfocus.episodes.phrasing.PROMPT_STYLES`).
    prompt_style: str = BRIEF
    #: Arguments of the environment's class in training, where a worked turn of the prompt comes from; None if they are
    #: the same.
    training_options: Mapping[str, Any] | None = None
    #: Arguments of the chat template (`data.apply_chat_template_kwargs`).
    template: Mapping[str, Any] = field(default_factory=dict)
    #: Reward of a turn without a valid response.
    format_penalty: float = -0.1
    #: Most seconds that the environment may take to reset, to execute an action, or to close.
    step_timeout: float = STEP_TIMEOUT

    def __post_init__(self) -> None:
        check_types(type(self), "evaluation", vars(self))
        for name in ("tasks", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: there must be at least 1")
        if self.temperature < 0:
            raise ValueError(f"the temperature is {self.temperature}: it must be 0 (greedy) or positive")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: it must lie in (0, 1]")
        self.tags.left_to_write()  # refuses a prefill that no valid response can continue
        # Refuses an unknown environment, and tasks that training would draw.
        EnvironmentSettings(
            name=self.environment, prompt_style=self.prompt_style, val_seed=self.first_task, val_size=self.tasks
        )

    @property
    def episodes(self) -> int:
        """Episodes of the whole evaluation."""
        return self.tasks * self.samples

    def phrasing(self) -> Phrasing:
        """Return the prompt style with what it shows of the environment, the same as in training.

        Raises:
            ValueError: the style shows what an expert does, and there is none.
        """
        options = self.options if self.training_options is None else self.training_options
        return phrasing_of(self.prompt_style, self.environment, options, self.limits, step_timeout=self.step_timeout)

    def with_prompt_style(self, name: str) -> EvaluationSettings:
        """Return the settings with another prompt style.

        An episode keeps its tokens altogether; the first prompt may be as long as it needs.

        Raises:
            ValueError: there is no such style.
        """
        if name == self.prompt_style:
            return self
        most = self.lengths.most
        lengths = dataclasses.replace(self.lengths, prompt=most, total=most)
        return dataclasses.replace(self, prompt_style=name, lengths=lengths)

    def with_limits(self, given: Mapping[str, int]) -> EvaluationSettings:
        """Return the settings with other budgets, and room for what they let a model write.

        What follows the first prompt may have as many tokens more as there are more turns, or as responses may be
        longer. Fewer turns are set off against longer responses; the room never shrinks.

        Args:
            given: Budgets by their names in `EpisodeLimits`.

        Raises:
            ValueError: a budget is no positive integer.
        """
        limits = dataclasses.replace(self.limits, **given)
        turns = Fraction(limits.turns, self.limits.turns)
        response = max(Fraction(limits.response_tokens, self.limits.response_tokens), Fraction(1))
        more = math.ceil(max(turns * response - 1, Fraction(0)) * self.lengths.response)
        total = None if self.lengths.total is None else self.lengths.total + more
        lengths = dataclasses.replace(self.lengths, response=self.lengths.response + more, total=total)
        return dataclasses.replace(self, limits=limits, lengths=lengths)

    def schedule(self) -> list[tuple[int, int]]:
        """Return (task, sample) of every episode; the episodes of a task stand together."""
        tasks = range(self.first_task, self.first_task + self.tasks)
        return [(task, sample) for task in tasks for sample in range(self.samples)]

    def with_episodes(self, episodes: int | None, samples: int | None) -> EvaluationSettings:
        """Return the settings for another number of episodes in all, or of each task.

        Args:
            episodes: episodes in all; None keeps the number of tasks.
            samples: episodes of each task; None keeps it.

        Raises:
            ValueError: the episodes are no multiple of the samples.
        """
        samples = self.samples if samples is None else samples
        tasks = self.tasks
        if episodes is not None:
            tasks, rest = divmod(episodes, samples)
            if rest or not tasks:
                raise ValueError(
                    f"{episodes} episodes cannot be {samples} of each task: take a multiple of {samples}, or another "
                    "number of samples per task"
                )
        return dataclasses.replace(self, tasks=tasks, samples=samples)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


def profile_settings(profile: str) -> EvaluationSettings:
    """Return the evaluation of a packaged training run.

    Args:
        profile: name of a configuration group under `+actfocus/run` or `+actfocus/recipe`.

    Raises:
        ValueError: there is no such profile.
    """
    return _settings(compose_profile(profile))


def run_settings(run: Run) -> EvaluationSettings:
    """Return the evaluation of a training run, sampled with the run's seed.

    Raises:
        ExperimentError: the run cannot be composed.
    """
    return dataclasses.replace(_settings(configuration(run)), seed=run.seed)


def paper_settings(environment: str) -> EvaluationSettings:
    """Return the paper's evaluation of an environment (He et al. 2026, App. C).

    Args:
        environment: name in `verl_actfocus.envs.ENVIRONMENTS`. One that the paper does not have takes its own budgets,
            and the paper's numbers of tasks and samples and temperature.

    Raises:
        ValueError: the environment is unknown.
    """
    if f"{environment}_grpo" in packaged_groups("recipe"):  # PPO's recipe evaluates alike
        return profile_settings(f"{environment}_grpo")
    own = environment in packaged_groups("env")
    group = (
        [f"+actfocus/env={environment}"] if own else ["+actfocus/env=_episodes", f"data.environment.name={environment}"]
    )
    return _settings(compose("+actfocus=default", *group, *_PAPER_SAMPLING))


def _settings(config: DictConfig) -> EvaluationSettings:
    environment = EnvironmentSettings.from_config(config.data)
    rollout = config.actor_rollout_ref.rollout
    sampling = rollout.val_kwargs
    return EvaluationSettings(
        environment=environment.name,
        options={**environment.kwargs, **environment.val_kwargs},
        limits=environment.episode_limits(),
        lengths=Lengths(
            prompt=config.data.max_prompt_length,
            response=config.data.max_response_length,
            total=rollout.max_model_len,
        ),
        tasks=environment.val_size,
        first_task=environment.val_seed,
        samples=sampling.n,
        temperature=float(sampling.temperature),
        top_p=float(sampling.top_p),
        top_k=sampling.top_k,
        tags=ActFocusSettings.tags_from_config(config),
        template=cast("dict[str, Any]", OmegaConf.to_container(config.data.apply_chat_template_kwargs, resolve=True)),
        prompt_style=environment.prompt_style,
        training_options=environment.kwargs if environment.val_kwargs else None,
        format_penalty=environment.format_penalty,
        step_timeout=environment.step_timeout,
    )
