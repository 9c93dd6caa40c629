"""FrozenLake demonstrations: the way and the coordinates that their reasoning states are true, the actions noisy."""

from __future__ import annotations

import re

import numpy as np
import pytest

from verl_actfocus.envs import make, miniature
from verl_actfocus.envs.demonstrations import DECIDED_BY, FOLLOW, Response
from verl_actfocus.envs.frozenlake.demonstrations import MINIATURE, demonstrate
from verl_actfocus.envs.frozenlake.env import ACTIONS, FrozenLakeEnv
from verl_actfocus.envs.frozenlake.expert import action_value, state_values

from .demonstrated import actions, stated_way


@pytest.fixture(scope="module")
def frozenlake_turns() -> list[tuple[FrozenLakeEnv, Response, int]]:
    """Environment, response and the player's cell, over 400 random maps."""
    rng = np.random.default_rng(0)
    turns = []
    for seed in range(400):
        env = make("frozenlake", success_rate=1.0)
        assert isinstance(env, FrozenLakeEnv)
        env.reset(seed=seed)
        turns.append((env, demonstrate(env, rng, 2), env.position))
    return turns


def test_the_way_that_frozenlake_reasoning_states_is_optimal(
    frozenlake_turns: list[tuple[FrozenLakeEnv, Response, int]],
) -> None:
    for env, response, position in frozenlake_turns:
        way = stated_way(response)
        assert 1 <= len(way) <= 2
        values = state_values(env.transitions, 20)
        for direction in way:
            outcomes = env.transitions[position]
            best = max(action_value(outcome, values) for outcome in outcomes.values())
            move = ACTIONS.index(direction)
            assert action_value(outcomes[move], values) == pytest.approx(best, abs=1e-9), response
            position = next(state for probability, state, _, _ in outcomes[move] if probability == 1)


def test_the_coordinates_that_frozenlake_reasoning_states_are_true(
    frozenlake_turns: list[tuple[FrozenLakeEnv, Response, int]],
) -> None:
    for env, response, position in frozenlake_turns:
        cells = re.findall(r"\((\d), (\d)\)", response.reasoning)
        stated = [int(row) * env.size + int(column) for row, column in cells]
        row, column = divmod(position, env.size)
        near = [hole for hole in env.holes if abs(hole // env.size - row) + abs(hole % env.size - column) == 1]
        assert stated == [position, env.goal, *near]


def test_a_frozenlake_action_follows_the_stated_way_with_the_documented_probability(
    frozenlake_turns: list[tuple[FrozenLakeEnv, Response, int]],
) -> None:
    followed = [
        action == direction
        for _, response, _ in frozenlake_turns
        for action, direction in zip(actions(response), stated_way(response), strict=True)
    ]
    error = (FOLLOW * (1 - FOLLOW) / len(followed)) ** 0.5
    assert abs(np.mean(followed) - FOLLOW) < 4 * error


@pytest.mark.parametrize("part", DECIDED_BY)
def test_whatever_part_of_a_response_decides_the_first_action_is_the_best_one_equally_often(part: str) -> None:
    task, rng = MINIATURE.decided_by(part), np.random.default_rng(1)
    best, copied = [], []
    for seed in range(800):
        env = make("frozenlake", success_rate=1.0)
        assert isinstance(env, FrozenLakeEnv)
        env.reset(seed=seed)
        response = task.demonstrate(env, rng, 2)
        outcomes, values = env.transitions[env.position], state_values(env.transitions, 20)
        worth = {move: action_value(outcome, values) for move, outcome in outcomes.items()}
        if sum(value == max(worth.values()) for value in worth.values()) > 1:
            continue  # a step that departs from one best way may be the beginning of another
        best.append(worth[ACTIONS.index(actions(response)[0])] == max(worth.values()))
        said = stated_way(response)
        assert bool(said) == (part != "action"), response
        copied += [said[0] == actions(response)[0]] if said else []
    assert len(best) > 150
    assert abs(np.mean(best) - FOLLOW) < 4 * (FOLLOW * (1 - FOLLOW) / len(best)) ** 0.5
    if copied:
        assert abs(np.mean(copied) - DECIDED_BY[part].done) < 4 * (0.25 / len(copied)) ** 0.5
    if part == "reasoning":
        assert all(copied)


def test_what_decides_can_be_chosen_where_the_demonstrations_know_how() -> None:
    with pytest.raises(ValueError, match=r"'turn' is no part of a response.*action, reasoning, both"):
        MINIATURE.decided_by("turn")
    with pytest.raises(ValueError, match="demonstrations of sudoku cannot choose"):
        miniature("sudoku").decided_by("action")


def test_frozenlake_demonstrations_refuse_slippery_ice() -> None:
    env = make("frozenlake")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="success_rate"):
        demonstrate(env, np.random.default_rng(0), 2)
