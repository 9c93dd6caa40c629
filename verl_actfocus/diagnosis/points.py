"""Decision points: states of episodes that the policy played."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from verl_actfocus.trajectories import Trajectory

#: In place of a turn: one of the episode's, at random.
ANY_TURN = 0


@dataclass(frozen=True, kw_only=True)
class Point:
    """The state that the response of a turn answers.

    Attributes:
        asked: The turn that was asked for, from 1, or `ANY_TURN`.
        turn: The turn, from 1.
        task: Seed of the environment.
        responses: Tokens of the responses before.
        observation: The environment's text of the state.
    """

    asked: int
    turn: int
    task: int
    responses: list[list[int]]
    observation: str

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from the others of a diagnosis."""
        return self.asked, self.task

    def named(self) -> dict[str, Any]:
        """Return what names it, as plain values."""
        return {"asked": self.asked, "turn": self.turn, "task": self.task, "observation": self.observation}


def point(trajectory: Trajectory, asked: int, seed: int) -> Point | None:
    """Return the decision point of an episode at a turn; None if the episode was over before.

    Args:
        trajectory: an episode of this package's player.
        asked: the turn, from 1; `ANY_TURN` draws one, every turn of the episode with equal probability.
        seed: of that draw.

    Raises:
        ValueError: the trajectory holds no episode.
    """
    episode = trajectory.episode
    if episode is None:
        raise ValueError("a decision point needs an episode of an environment of this package")
    count = len(episode.turns)
    turn = asked or random.Random(f"{seed}/{episode.task}").randint(1, count)
    if turn > count:
        return None
    responses: list[list[int]] = [[] for _ in range(turn - 1)]
    for token, place in zip(trajectory.ids, trajectory.turns, strict=True):
        if 0 <= place < turn - 1:
            responses[place].append(token)
    return Point(
        asked=asked,
        turn=turn,
        task=episode.task,
        responses=responses,
        observation=episode.turns[turn - 1].observation,
    )


def points(trajectories: Iterable[Trajectory], asked: int, states: int, seed: int) -> list[Point]:
    """Return the first decision points at a turn, at most `states`, one of each episode, tasks ascending."""
    ordered = sorted(trajectories, key=lambda one: one.task or 0)
    found = (point(one, asked, seed) for one in ordered)
    return [one for one in found if one is not None][:states]
