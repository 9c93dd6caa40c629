"""Play the episodes that a model imitates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verl_actfocus.envs import TextEnv
from verl_actfocus.envs.demonstrations import Miniature, Response
from verl_actfocus.episodes import Episode, Message, parse_response, write_response
from verl_actfocus.episodes.phrasing import STANDARD_PHRASING, Phrasing
from verl_actfocus.episodes.prompts import ACTION_SEPARATOR

FIRST_TRAINING_SEED = 1_000_000
"""Demonstrations are played on environment seeds from here on; evaluation uses the seeds below."""


@dataclass(frozen=True)
class Demonstration:
    """A played episode.

    Attributes:
        messages: The whole conversation, assistant texts without the prefill.
        success: Whether the task was solved.
        opening: Messages before the first response that was demonstrated.
    """

    messages: list[Message]
    success: bool
    opening: int = 2


def demonstrate(
    task: Miniature, env: TextEnv, *, seed: int, index: int, phrasing: Phrasing = STANDARD_PHRASING
) -> Demonstration:
    """Play one episode as the task demonstrates it.

    Args:
        task: The task.
        env: Its environment, from `task.make_env()`; reused between episodes.
        seed: Seed of the whole set of demonstrations.
        index: Number of the episode in the set; seed and index alone fix the episode.
        phrasing: How the prompts ask for the response format.

    Returns:
        The conversation, whether the task was solved, and where the demonstration begins.

    Raises:
        RuntimeError: The environment failed, a response broke the format, or an action was refused and the task has no
            `refusals`.
    """
    rng = np.random.default_rng([seed, index])
    episode = Episode(env, task.limits, phrasing=phrasing)
    messages = episode.reset(FIRST_TRAINING_SEED + int(rng.integers(2**31)))
    opening = len(messages)
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
    return Demonstration(messages, episode.success, opening)


def response_text(response: Response) -> str:
    """Write a response as a model would, without the prefill."""
    return write_response(f" {ACTION_SEPARATOR}".join(response.actions), f" {response.reasoning}")
