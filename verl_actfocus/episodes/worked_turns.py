"""The worked turn of a prompt: what the environment's expert does in the first state of a task of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from verl_actfocus.envs import registry
from verl_actfocus.envs.base import ACTION_SEPARATOR, EpisodeLimits
from verl_actfocus.episodes.action_policy import ActionPolicy
from verl_actfocus.episodes.deadline import STEP_TIMEOUT, make_within
from verl_actfocus.episodes.episode import Episode
from verl_actfocus.episodes.grammar import write_response
from verl_actfocus.episodes.phrasing import Phrasing, WorkedTurn, prompt_style

#: Seed of the task: beyond those of evaluation (from 0), of training (from 1,000,000) and of demonstrations.
SEED = 4_000_000_000


def phrasing_of(
    name: str,
    environment: str,
    options: Mapping[str, Any],
    limits: EpisodeLimits,
    *,
    step_timeout: float = STEP_TIMEOUT,
) -> Phrasing:
    """Return a style with what it shows of an environment; the same arguments give the same words.

    Args:
        name: Name of the style.
        environment: Name of the environment.
        options: Arguments of its class in training, so that an evaluation shows no task of its own.
        limits: Budgets of an episode.
        step_timeout: Most seconds that the environment may take to be made, to reset, or to execute an action.

    Raises:
        ValueError: Style or environment are unknown, the style needs an expert and the environment has none, or what
            the expert does is no valid turn.
    """
    if not prompt_style(name).shows_expert:
        return Phrasing(name=name)
    try:
        choose = registry.expert(environment)
    except ValueError as error:
        raise ValueError(f"prompt style {name!r} shows what an expert does, and {error}") from error
    episode = Episode(make_within(step_timeout, environment, **options), limits, step_timeout=step_timeout)
    try:
        if not episode.reset(SEED):
            raise ValueError(f"prompt style {name!r}: {episode.error}")
        observation = episode.observation
        actions = ActionPolicy(choose, SEED).actions(episode)
        result = episode.respond(write_response(f" {ACTION_SEPARATOR} ".join(actions)))
    finally:
        episode.close()
    if not result.valid:
        raise ValueError(f"prompt style {name!r}: the expert of {environment} does {actions}: {result.problem}")
    turn = WorkedTurn(observation=observation, reasoning=_reasoning(actions), actions=tuple(actions))
    return Phrasing(name=name, worked_turn=turn)


def _reasoning(actions: Sequence[str]) -> str:
    """Return a thought that fits any environment."""
    if len(actions) == 1:
        return f"The best next action in this state is {actions[0]}."
    return f"The best next actions in this state are {', then '.join(actions)}."
