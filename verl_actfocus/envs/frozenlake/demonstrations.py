"""The play that FrozenLake's tiny model imitates, and its miniature: safe ice."""

from __future__ import annotations

from collections import deque

import numpy as np

from verl_actfocus.envs.base import EpisodeLimits, TextEnv
from verl_actfocus.envs.demonstrations import (
    PACKAGED,
    STEPS,
    Cell,
    Miniature,
    Noise,
    Response,
    offset_sentence,
    pick,
    shortened,
    strayed,
    walk,
    way_sentence,
    wayless_sentence,
)
from verl_actfocus.envs.frozenlake.env import FrozenLakeEnv


def demonstrate(env: TextEnv, rng: np.random.Generator, max_actions: int, *, noise: Noise = PACKAGED) -> Response:
    """Write one response to the present state of a FrozenLake without slip.

    Args:
        env: A `FrozenLakeEnv` with `success_rate=1` and an episode under way.
        rng: Draws the wording, the choice between equally short ways, and the noise of the actions.
        max_actions: Most actions of the response.
        noise: Where it leaves the shortest way.

    Returns:
        The response.

    Raises:
        TypeError: `env` is not a `FrozenLakeEnv`.
        ValueError: The ice is slippery: the stated way would not be the true one.
    """
    if not isinstance(env, FrozenLakeEnv):
        raise TypeError(f"FrozenLake's demonstrations need a FrozenLakeEnv, not {type(env).__name__}")
    if env.success_rate != 1:
        raise ValueError(f"success_rate is {env.success_rate}: the demonstrations are for safe ice, success_rate=1")
    here, goal = divmod(env.position, env.size), divmod(env.goal, env.size)
    holes = [divmod(hole, env.size) for hole in env.holes]
    way = shortened(_shortest_way(here, goal, holes, env.size, rng)[:max_actions], rng)
    planned = way if noise.said is None else strayed(way, noise.said, rng)
    near = [hole for hole in holes if abs(hole[0] - here[0]) + abs(hole[1] - here[1]) == 1]
    sentences = [
        pick(rng, f"I am at {here}, the goal is at {goal}.", f"From {here} to {goal}.", f"Me {here}, goal {goal}."),
        offset_sentence(here, goal, rng),
        _holes_sentence(near, rng),
        wayless_sentence(rng) if noise.said is None else way_sentence(planned, rng),
    ]
    return Response(" ".join(sentence for sentence in sentences if sentence), walk(planned, rng, noise.done))


def _shortest_way(here: Cell, goal: Cell, holes: list[Cell], size: int, rng: np.random.Generator) -> list[str]:
    """Return a shortest way around the holes, drawn at random where several directions are equally good."""
    distance = {goal: 0}
    frontier = deque([goal])
    while here not in distance:
        cell = frontier.popleft()
        for action in STEPS:
            row, column = following = _move(cell, action)
            if 0 <= row < size and 0 <= column < size and following not in holes and following not in distance:
                distance[following] = distance[cell] + 1
                frontier.append(following)
    way = []
    while here != goal:
        best = [action for action in STEPS if distance.get(_move(here, action)) == distance[here] - 1]
        way.append(pick(rng, *best))
        here = _move(here, way[-1])
    return way


def _move(cell: Cell, action: str) -> Cell:
    row, column = STEPS[action]
    return cell[0] + row, cell[1] + column


def _holes_sentence(near: list[Cell], rng: np.random.Generator) -> str:
    """Remark on the holes beside the player: always if there are any, else about half of the time."""
    if near:
        cells = " ".join(str(hole) for hole in near)
        return pick(rng, f"Next to me is a hole: {cells}.", f"I avoid {cells}.")
    return pick(rng, "No hole is next to me.", "All safe here.", "", "")


MINIATURE = Miniature(
    environment="frozenlake",
    options={"success_rate": 1.0},
    limits=EpisodeLimits(turns=3, actions_per_turn=2, actions=6, words=40, response_tokens=64),
    demonstrate=demonstrate,
    with_noise=demonstrate,
    iterations=1000,
)
