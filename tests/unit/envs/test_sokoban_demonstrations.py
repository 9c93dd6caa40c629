"""Sokoban demonstrations: the way, the coordinates and the push that their reasoning states are true."""

from __future__ import annotations

import re

import numpy as np
import pytest

from verl_actfocus.envs.demonstrations import Response
from verl_actfocus.envs.sokoban.demonstrations import demonstrate
from verl_actfocus.envs.sokoban.env import SokobanEnv
from verl_actfocus.envs.sokoban.rooms import Room

from .demonstrated import actions, stated_way


@pytest.fixture(scope="module")
def sokoban_turns() -> list[tuple[Room, Response]]:
    """Room and response, over 200 random rooms with one box."""
    rng = np.random.default_rng(0)
    env = SokobanEnv(search_depth=6)
    turns = []
    for seed in range(200):
        env.reset(seed=seed)
        turns.append((env.room, demonstrate(env, rng, 2)))
    return turns


def test_the_way_that_sokoban_reasoning_states_begins_a_shortest_solution(
    sokoban_turns: list[tuple[Room, Response]],
) -> None:
    for room, response in sokoban_turns:
        way = stated_way(response)
        before = fewest_moves(room)
        for direction in way:
            room = room.after(["Up", "Down", "Left", "Right"].index(direction))
        assert 1 <= len(way) <= 2
        assert fewest_moves(room) == before - len(way)


def fewest_moves(room: Room) -> int:
    """Breadth-first search, independent of the A* that the demonstrations use."""
    seen, layer, moves = {room}, [room], 0
    while not any(state.solved for state in layer):
        layer = list({following for state in layer for following in map(state.after, range(4))} - seen)
        seen.update(layer)
        moves += 1
    return moves


def test_the_coordinates_and_the_push_that_sokoban_reasoning_states_are_true(
    sokoban_turns: list[tuple[Room, Response]],
) -> None:
    signs = {"down": (1, 0), "up": (-1, 0), "right": (0, 1), "left": (0, -1)}
    for room, response in sokoban_turns:
        reasoning = response.reasoning
        cells = [(int(row), int(column)) for row, column in re.findall(r"\((\d), (\d)\)", reasoning)]
        (box,), (target,) = room.boxes, room.targets
        assert cells == [divmod(room.player, 6), divmod(box, 6), divmod(target, 6)]
        row, column = cells[1]
        for steps, word in re.findall(r"(\d) (down|up|right|left)", reasoning):
            row, column = row + int(steps) * signs[word][0], column + int(steps) * signs[word][1]
        assert (row, column) == cells[2]


def test_a_sokoban_room_that_cannot_be_solved_is_called_so() -> None:
    env = SokobanEnv()
    env.reset(seed=0, options={"room": ["######", "#X__P#", "#____#", "#__O_#", "#____#", "######"]})
    response = demonstrate(env, np.random.default_rng(0), 2)
    assert "stuck" in response.reasoning or "cannot" in response.reasoning
    assert len(actions(response)) == 2 and set(actions(response)) <= {"Up", "Down", "Left", "Right"}


def test_sokoban_demonstrations_refuse_rooms_with_more_than_one_box() -> None:
    env = SokobanEnv(boxes=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="boxes"):
        demonstrate(env, np.random.default_rng(0), 2)
