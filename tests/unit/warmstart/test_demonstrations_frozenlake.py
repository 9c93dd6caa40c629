"""FrozenLake demonstrations: the way and the coordinates that their reasoning states are true, the actions noisy."""

from __future__ import annotations

import re

import numpy as np
import pytest

from verl_actfocus.envs import make
from verl_actfocus.envs.frozenlake.env import ACTIONS, FrozenLakeEnv
from verl_actfocus.envs.frozenlake.expert import action_value, state_values
from verl_actfocus.episodes import parse_response
from verl_actfocus.warmstart.demonstrations import FOLLOW, demonstrate_frozenlake

from .conftest import stated_way


@pytest.fixture(scope="module")
def frozenlake_turns() -> list[tuple[FrozenLakeEnv, str, int]]:
    """Environment, response and the player's cell, over 400 random maps."""
    rng = np.random.default_rng(0)
    turns = []
    for seed in range(400):
        env = make("frozenlake", success_rate=1.0)
        assert isinstance(env, FrozenLakeEnv)
        env.reset(seed=seed)
        turns.append((env, demonstrate_frozenlake(env, rng, 2), env.position))
    return turns


def test_the_way_that_frozenlake_reasoning_states_is_optimal(
    frozenlake_turns: list[tuple[FrozenLakeEnv, str, int]],
) -> None:
    for env, text, position in frozenlake_turns:
        way = stated_way(parse_response(text).reasoning)
        assert 1 <= len(way) <= 2
        values = state_values(env.transitions, 20)
        for direction in way:
            outcomes = env.transitions[position]
            best = max(action_value(outcome, values) for outcome in outcomes.values())
            move = ACTIONS.index(direction)
            assert action_value(outcomes[move], values) == pytest.approx(best, abs=1e-9), text
            position = next(state for probability, state, _, _ in outcomes[move] if probability == 1)


def test_the_coordinates_that_frozenlake_reasoning_states_are_true(
    frozenlake_turns: list[tuple[FrozenLakeEnv, str, int]],
) -> None:
    for env, text, position in frozenlake_turns:
        cells = re.findall(r"\((\d), (\d)\)", parse_response(text).reasoning)
        stated = [int(row) * env.size + int(column) for row, column in cells]
        row, column = divmod(position, env.size)
        near = [hole for hole in env.holes if abs(hole // env.size - row) + abs(hole % env.size - column) == 1]
        assert stated == [position, env.goal, *near]


def test_a_frozenlake_action_follows_the_stated_way_with_the_documented_probability(
    frozenlake_turns: list[tuple[FrozenLakeEnv, str, int]],
) -> None:
    followed = [
        action == direction
        for _, text, _ in frozenlake_turns
        for action, direction in zip(
            parse_response(text).actions, stated_way(parse_response(text).reasoning), strict=True
        )
    ]
    error = (FOLLOW * (1 - FOLLOW) / len(followed)) ** 0.5
    assert abs(np.mean(followed) - FOLLOW) < 4 * error


def test_frozenlake_demonstrations_refuse_slippery_ice() -> None:
    env = make("frozenlake")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="success_rate"):
        demonstrate_frozenlake(env, np.random.default_rng(0), 2)
