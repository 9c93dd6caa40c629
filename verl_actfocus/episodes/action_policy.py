"""Lets whoever chooses actions by the state, such as an environment's expert, play an episode."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np

from verl_actfocus.envs.base import ACTION_SEPARATOR, EpisodeLimits, TextEnv
from verl_actfocus.episodes.episode import Episode
from verl_actfocus.episodes.grammar import write_response


def wrapped(episode: Episode, actions: str) -> str:
    """The response, without its prefill, that gives these actions and no reasoning."""
    return write_response(actions, gap=" ", tags=episode.tags)


class ActionPolicy:
    """Lets a function from the environment's state to an action play, as many actions a turn as there may be.

    The actions after the first are chosen on a copy of the environment whose random generator is another one:
    a player who commits to several actions does not know what chance will bring in between.

    Args:
        choose: Returns the text of an action for an environment with an episode under way.
        seed: Seeds the copies' generators.
    """

    def __init__(self, choose: Callable[[TextEnv], str], seed: int) -> None:
        self._choose = choose
        self._rng = np.random.default_rng(seed)

    def respond(self, episode: Episode) -> str:
        """Write the response of one turn."""
        return wrapped(episode, f" {ACTION_SEPARATOR} ".join(self.actions(episode)))

    def actions(self, episode: Episode) -> list[str]:
        """Choose the actions of one turn."""
        env, actions = episode.env, [self._choose(episode.env)]
        for _ in range(actions_per_turn(episode.limits) - 1):
            if env is episode.env:
                env = copy.deepcopy(env)
                env.reseed(int(self._rng.integers(2**63)))
            terminated, truncated = env.step(actions[-1])[2:4]
            if terminated or truncated:
                break
            actions.append(self._choose(env))
        return actions


def actions_per_turn(limits: EpisodeLimits) -> int:
    """The actions to plan for a turn: the most allowed or, without a limit, an even share of the budget."""
    return limits.actions_per_turn or math.ceil(limits.actions / limits.turns)
