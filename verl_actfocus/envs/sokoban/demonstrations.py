"""The play that Sokoban's tiny model imitates, and its miniature: rooms with short solutions."""

from __future__ import annotations

import numpy as np

from verl_actfocus.envs.base import EpisodeLimits, TextEnv
from verl_actfocus.envs.demonstrations import (
    STEPS,
    Miniature,
    Response,
    offset_sentence,
    pick,
    shortened,
    walk,
    way_sentence,
)
from verl_actfocus.envs.sokoban.env import ACTIONS, SokobanEnv
from verl_actfocus.envs.sokoban.expert import solve


def demonstrate(env: TextEnv, rng: np.random.Generator, max_actions: int) -> Response:
    """Write one response to the present state of a Sokoban room with one box.

    Args:
        env: A `SokobanEnv` with one box and an episode under way.
        rng: Draws the wording and the noise of the actions.
        max_actions: Most actions of the response.

    Returns:
        The response. In a room that can no longer be solved it says so and moves at random.

    Raises:
        TypeError: `env` is not a `SokobanEnv`.
        ValueError: There is more than one box: the reasoning speaks of one.
    """
    if not isinstance(env, SokobanEnv):
        raise TypeError(f"Sokoban's demonstrations need a SokobanEnv, not {type(env).__name__}")
    if env.boxes != 1:
        raise ValueError(f"boxes is {env.boxes}: the demonstrations are for rooms with one box")
    room = env.room
    here, box, target = (divmod(cell, room.columns) for cell in (room.player, min(room.boxes), min(room.targets)))
    solution = solve(room)
    if solution is None:
        actions = tuple(f" {pick(rng, *STEPS)}" for _ in range(max_actions))
        plan = pick(rng, "It is stuck.", "It cannot get there any more.")
    else:
        way = shortened([ACTIONS[move] for move in solution[:max_actions]], rng)
        plan = f"{offset_sentence(box, target, rng)} {way_sentence(way, rng)}"
        actions = walk(way, rng)
    facts = pick(
        rng,
        f"I am at {here}, the box is at {box} and the target at {target}.",
        f"Me {here}, box {box}, target {target}.",
        f"From {here} I push the box {box} to {target}.",
    )
    return Response(f"{facts} {plan}", actions)


MINIATURE = Miniature(
    environment="sokoban",
    options={"search_depth": 6},
    limits=EpisodeLimits(turns=3, actions_per_turn=2, actions=6, words=40, response_tokens=64),
    demonstrate=demonstrate,
    iterations=1000,
)
