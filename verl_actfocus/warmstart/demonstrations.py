"""Play the episodes that a tiny model imitates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verl_actfocus.envs import TextEnv
from verl_actfocus.envs.demonstrations import Miniature, Response
from verl_actfocus.episodes import Episode, Message, parse_response
from verl_actfocus.episodes.prompts import ACTION_SEPARATOR, ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE

FIRST_TRAINING_SEED = 1_000_000
"""Demonstrations are played on environment seeds from here on; evaluation uses the seeds below."""


@dataclass(frozen=True)
class Demonstration:
    """A played episode: the whole conversation, and how it ended."""

    messages: list[Message]
    success: bool


def demonstrate(task: Miniature, env: TextEnv, *, seed: int, index: int) -> Demonstration:
    """Play one episode as the task demonstrates it.

    Args:
        task: The task.
        env: Its environment, from `task.make_env()`; reused between episodes.
        seed: Seed of the whole set of demonstrations.
        index: Number of the episode in the set; seed and index alone fix the episode.

    Returns:
        The conversation, assistant texts without the prefill, and whether the task was solved.

    Raises:
        RuntimeError: The environment failed, a response broke the format, or an action was refused and the task has no
            `refusals`.
    """
    rng = np.random.default_rng([seed, index])
    episode = Episode(env, task.limits)
    messages = episode.reset(FIRST_TRAINING_SEED + int(rng.integers(2**31)))
    max_actions = task.limits.actions_per_turn or task.limits.actions
    while not episode.done:
        text = response_text(task.demonstrate(env, rng, max_actions))
        result = episode.respond(text)
        if not (result.valid or (task.refusals and parse_response(text).valid)):
            raise RuntimeError(f"task {task.environment}: {text!r} is refused: {result.problem or episode.error}")
        messages.append({"role": "assistant", "content": text})
        if result.next_message is not None:
            messages.append(result.next_message)
    if episode.error is not None:
        raise RuntimeError(f"task {task.environment}: the environment failed: {episode.error}")
    return Demonstration(messages, episode.success)


def response_text(response: Response) -> str:
    """Write a response as a model would, without the prefill."""
    answer = f" {ACTION_SEPARATOR}".join(response.actions)
    return f" {response.reasoning}{THINK_CLOSE}{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"
