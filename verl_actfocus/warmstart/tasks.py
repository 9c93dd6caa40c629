"""How the miniatures of `verl_actfocus.models` are taught to a tiny model: one entry per task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from verl_actfocus.envs import TextEnv
from verl_actfocus.episodes import Episode, Message, parse_response
from verl_actfocus.models.miniatures import MINIATURES, Miniature
from verl_actfocus.warmstart.demonstrations import demonstrate_frozenlake, demonstrate_sokoban, demonstrate_sudoku


def _demonstrate_webshop(env: TextEnv, rng: np.random.Generator, max_actions: int) -> str:
    # Imported here so that whoever lists the tasks need not wait for the shop's search engine.
    from verl_actfocus.warmstart.shopping import demonstrate_webshop

    return demonstrate_webshop(env, rng, max_actions)


FIRST_TRAINING_SEED = 1_000_000
"""Demonstrations are played on environment seeds from here on; evaluation uses the seeds below."""


@dataclass(frozen=True, kw_only=True)
class Task(Miniature):
    """A miniature with what it takes to teach it to a model.

    Attributes:
        demonstrate: Writes the expert's response to the present state; takes the environment, a generator and
            the most actions of a turn.
        iterations: Optimizer steps of a full warm start.
        knows: What a model says right and does wrong, for its card: the end of "its reasoning …".
        refusals: Whether the expert's slips may be actions that the environment refuses.
        vocabulary: Entries of the tokenizer's BPE vocabulary.
    """

    demonstrate: Callable[[TextEnv, np.random.Generator, int], str]
    iterations: int
    knows: str = "states the shortest way, its actions follow that way only part of the time"
    refusals: bool = False
    vocabulary: int = 512


def _teach(name: str, **teaching: Any) -> Task:
    miniature = MINIATURES[name]
    return Task(**{part.name: getattr(miniature, part.name) for part in fields(miniature)}, **teaching)


TASKS: dict[str, Task] = {
    "frozenlake": _teach("frozenlake", demonstrate=demonstrate_frozenlake, iterations=1000),
    "sokoban": _teach("sokoban", demonstrate=demonstrate_sokoban, iterations=1000),
    "sudoku": _teach(
        "sudoku",
        demonstrate=demonstrate_sudoku,
        iterations=500,
        knows="states a number that fits, its action is another number or another cell part of the time",
        refusals=True,
    ),
    "webshop": _teach(
        "webshop",
        demonstrate=_demonstrate_webshop,
        iterations=600,
        vocabulary=2400,
        knows="says what to look for, which product is cheap enough and which option is missing;\n"
        "its searches and clicks are something else part of the time",
    ),
}


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
        raise RuntimeError(f"task {task.name}: {episode.error}")
    return Demonstration(messages, episode.success)
