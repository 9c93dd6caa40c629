"""FrozenLake demonstrations: the way and the coordinates that their reasoning states are true, the actions noisy."""

from __future__ import annotations

import re

import numpy as np
import pytest

from verl_actfocus.envs import make
from verl_actfocus.envs.demonstrations import FOLLOW, Response
from verl_actfocus.envs.frozenlake.demonstrations import demonstrate
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


def test_frozenlake_demonstrations_refuse_slippery_ice() -> None:
    env = make("frozenlake")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="success_rate"):
        demonstrate(env, np.random.default_rng(0), 2)
