"""The miniature tasks that have an embedded tiny model: one entry per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verl_actfocus.envs import registry
from verl_actfocus.envs.base import EpisodeLimits, TextEnv
from verl_actfocus.interaction import Episode, Message, parse_response
from verl_actfocus.warmstart.demonstrations import demonstrate_frozenlake, demonstrate_sokoban, demonstrate_sudoku


def _demonstrate_webshop(env: TextEnv, rng: np.random.Generator, max_actions: int) -> str:
    # Imported here so that whoever lists the tasks need not wait for the shop's search engine.
    from verl_actfocus.warmstart.shopping import demonstrate_webshop

    return demonstrate_webshop(env, rng, max_actions)


FIRST_TRAINING_SEED = 1_000_000
"""Demonstrations are played on environment seeds from here on; evaluation uses the seeds below."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A miniature of one environment, small enough for a tiny model.

    Attributes:
        name: Name of the task, of its model folder and in commands.
        environment: Name in the environment registry.
        env_options: Keyword arguments of the environment.
        limits: Budgets of an episode.
        demonstrate: Writes the expert's response to the present state; takes the environment, a generator and
            the most actions of a turn.
        iterations: Optimizer steps of a full warm start.
        knows: What a model says right and does wrong, for its card: the end of "its reasoning …".
        refusals: Whether the expert's slips may be actions that the environment refuses.
        evaluation_options: Keyword arguments that differ in evaluation, where other seeds alone do not keep the tasks
            apart.
        vocabulary: Entries of the tokenizer's BPE vocabulary.
    """

    name: str
    environment: str
    limits: EpisodeLimits
    demonstrate: Callable[[TextEnv, np.random.Generator, int], str]
    iterations: int
    env_options: Mapping[str, Any] = field(default_factory=dict)
    knows: str = "states the shortest way, its actions follow that way only part of the time"
    refusals: bool = False
    evaluation_options: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: int = 512

    def make_env(self) -> TextEnv:
        """Construct the task's environment."""
        return registry.make(self.environment, **self.env_options)

    @property
    def options_in_evaluation(self) -> dict[str, Any]:
        """Keyword arguments of the environment that a model is measured in."""
        return {**self.env_options, **self.evaluation_options}


TASKS: dict[str, Task] = {
    "frozenlake": Task(
        name="frozenlake",
        environment="frozenlake",
        env_options={"success_rate": 1.0},
        limits=EpisodeLimits(turns=3, actions_per_turn=2, actions=6, words=40, response_tokens=64),
        demonstrate=demonstrate_frozenlake,
        iterations=1000,
    ),
    "sokoban": Task(
        name="sokoban",
        environment="sokoban",
        env_options={"search_depth": 6},
        limits=EpisodeLimits(turns=3, actions_per_turn=2, actions=6, words=40, response_tokens=64),
        demonstrate=demonstrate_sokoban,
        iterations=1000,
    ),
    "sudoku": Task(
        name="sudoku",
        environment="sudoku",
        env_options={"empty_cells": 3},
        limits=EpisodeLimits(turns=4, actions_per_turn=1, actions=4, words=40, response_tokens=64),
        demonstrate=demonstrate_sudoku,
        iterations=500,
        knows="states a number that fits, its action is another number or another cell part of the time",
        refusals=True,
    ),
    "webshop": Task(
        name="webshop",
        environment="webshop",
        env_options={"split": "train", "hits_per_page": 4},
        evaluation_options={"split": "validation"},
        limits=EpisodeLimits(turns=5, actions_per_turn=1, actions=5, words=40, response_tokens=64),
        demonstrate=_demonstrate_webshop,
        iterations=600,
        vocabulary=2400,
        knows="says what to look for, which product is cheap enough and which option is missing;\n"
        "its searches and clicks are something else part of the time",
    ),
}


def task(name: str) -> Task:
    """Look a task up by name.

    Raises:
        ValueError: If there is none of that name; the message lists the names.
    """
    if name not in TASKS:
        raise ValueError(f"unknown warm-start task {name!r}; there are {', '.join(sorted(TASKS))}")
    return TASKS[name]


@dataclass(frozen=True)
class Demonstration:
    """A played episode: the whole conversation, and how it ended."""

    messages: list[Message]
    success: bool


def demonstrate(task: Task, env: TextEnv, *, seed: int, index: int) -> Demonstration:
    """Let the noisy expert play one episode.

    Args:
        task: The task.
        env: Its environment, from ``task.make_env()``; reused between episodes.
        seed: Seed of the whole set of demonstrations.
        index: Number of the episode in the set; seed and index alone fix the episode.

    Returns:
        The conversation, assistant texts without the prefill, and whether the expert succeeded.

    Raises:
        RuntimeError: If the environment failed, the expert broke the response format, or its action was refused and
            the task has no ``refusals``.
    """
    rng = np.random.default_rng([seed, index])
    episode = Episode(env, task.limits)
    messages = episode.reset(FIRST_TRAINING_SEED + int(rng.integers(2**31)))
    max_actions = task.limits.actions_per_turn or task.limits.actions
    while not episode.done:
        text = task.demonstrate(env, rng, max_actions)
        result = episode.respond(text)
        if not (result.valid or (task.refusals and parse_response(text).valid)):
            raise RuntimeError(f"task {task.name}: {text!r} is refused: {result.problem or episode.error}")
        messages.append({"role": "assistant", "content": text})
        if result.next_message is not None:
            messages.append(result.next_message)
    if episode.error is not None:
        raise RuntimeError(f"task {task.name}: the environment failed: {episode.error}")
    return Demonstration(messages, episode.success)
