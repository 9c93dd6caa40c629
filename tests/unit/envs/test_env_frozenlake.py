"""FrozenLake: dynamics against gymnasium and a formula, maps, symbols and rewards."""

from __future__ import annotations

import random
import re
from collections import Counter

import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv as GymnasiumFrozenLake
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import chisquare

from verl_actfocus.envs.frozenlake.env import ACTIONS, FrozenLakeEnv

OFFSET = {"Left": (0, -1), "Down": (1, 0), "Right": (0, 1), "Up": (-1, 0)}
SIDES = {"Left": ("Up", "Down"), "Right": ("Up", "Down"), "Up": ("Left", "Right"), "Down": ("Left", "Right")}


def coordinates(observation: str, name: str) -> list[tuple[int, int]]:
    line = next(line for line in observation.split("\n") if line.startswith(f"{name}:"))
    return [(int(r), int(c)) for r, c in re.findall(r"\((\d+), (\d+)\)", line)]


def moved(cell: int, action: str, size: int) -> int:
    row, column = np.clip(np.add(divmod(cell, size), OFFSET[action]), 0, size - 1)
    return int(row * size + column)


@pytest.mark.parametrize("success_rate", [1 / 3, 0.8, 1.0])
def test_transitions_are_the_intended_move_or_a_slide_to_either_side(success_rate: float) -> None:
    env = FrozenLakeEnv(success_rate=success_rate)
    for seed in range(20):
        env.reset(seed=seed)
        for cell in set(range(16)) - set(env.holes) - {env.goal}:
            for number, action in enumerate(ACTIONS):
                expected: Counter[int] = Counter()
                expected[moved(cell, action, 4)] += success_rate
                for side in SIDES[action]:
                    expected[moved(cell, side, 4)] += (1 - success_rate) / 2
                table: Counter[int] = Counter()
                for probability, state, _, _ in env.transitions[cell][number]:
                    table[state] += probability
                assert {s: pytest.approx(p) for s, p in expected.items()} == dict(table)


def test_the_default_transition_table_is_gymnasiums_slippery_one_on_the_same_map() -> None:
    env = FrozenLakeEnv()
    for seed in range(10):
        env.reset(seed=seed)
        symbols = ["F"] * 16
        symbols[env.start], symbols[env.goal] = "S", "G"
        for hole in env.holes:
            symbols[hole] = "H"
        board = ["".join(symbols[i : i + 4]) for i in range(0, 16, 4)]
        assert env.transitions == GymnasiumFrozenLake(desc=board, is_slippery=True).P


@pytest.mark.parametrize("success_rate", [1 / 3, 0.7])
def test_steps_are_drawn_with_the_frequencies_of_gymnasiums_table(success_rate: float) -> None:
    env = FrozenLakeEnv(size=5, frozen_probability=1.0, success_rate=success_rate)
    env.reset(seed=0)
    start = next(c for c in (6, 7, 8, 11, 12) if env.goal not in (c, c - 1, c + 1, c - 5, c + 5))
    for number, action in enumerate(ACTIONS):
        counts: Counter[int] = Counter()
        for _ in range(3000):
            env.position = start
            env.step(action)
            counts[env.position] += 1
        table = {state: p for p, state, _, _ in env.transitions[start][number]}
        assert set(counts) == set(table)
        states = sorted(table)
        assert chisquare([counts[s] for s in states], [3000 * table[s] for s in states]).pvalue > 1e-4


def test_ice_that_is_not_slippery_always_takes_the_player_where_the_action_says() -> None:
    env = FrozenLakeEnv(success_rate=1.0)
    for seed in range(30):
        env.reset(seed=seed)
        for action in ("Down", "Right", "Up", "Left"):
            before = env.position
            _, _, terminated, _, info = env.step(action)
            assert env.position == moved(before, action, 4)
            assert info["effective"] == (env.position != before)
            if terminated:
                break


def test_a_path_always_joins_start_and_goal() -> None:
    env = FrozenLakeEnv(frozen_probability=0.6)
    for seed in range(200):
        env.reset(seed=seed)
        free = [cell not in env.holes for cell in range(16)]
        links = np.zeros((16, 16))
        for cell in range(16):
            for action in ACTIONS:
                links[cell, moved(cell, action, 4)] = free[cell] and free[moved(cell, action, 4)]
        _, component = connected_components(csr_matrix(links), directed=False)
        assert env.start != env.goal
        assert component[env.start] == component[env.goal]


def test_start_and_goal_are_anywhere_and_nine_tiles_in_ten_are_ice() -> None:
    env = FrozenLakeEnv()
    starts, goals, holes = set(), set(), 0
    for seed in range(600):
        env.reset(seed=seed)
        starts.add(env.start)
        goals.add(env.goal)
        holes += len(env.holes)
    assert starts == goals == set(range(16))
    # 14 tiles are drawn per map; discarding maps without a path takes away a few holes
    assert holes / (600 * 14) == pytest.approx(0.1, abs=0.015)


def test_grid_and_coordinates_say_the_same() -> None:
    env = FrozenLakeEnv()
    for seed in range(50):
        observation, _ = env.reset(seed=seed)
        rows = observation.split("\n")[:4]
        drawn = {(r, c): symbol for r, row in enumerate(rows) for c, symbol in enumerate(row)}
        assert "Board: 4x4" in observation.split("\n")
        assert coordinates(observation, "Player") == coordinates(observation, "Start")
        assert [cell for cell, symbol in drawn.items() if symbol == "P"] == coordinates(observation, "Player")
        assert [cell for cell, symbol in drawn.items() if symbol == "G"] == coordinates(observation, "Goal")
        assert [cell for cell, symbol in drawn.items() if symbol == "O"] == coordinates(observation, "Holes")
        assert set(drawn.values()) <= set("P_OG")


def test_a_map_without_holes_says_so() -> None:
    assert "Holes: none" in FrozenLakeEnv(frozen_probability=1.0).reset(seed=0)[0]


def test_the_goal_pays_one_and_a_hole_nothing_and_both_end_the_episode_with_their_symbol() -> None:
    env, seen, choose = FrozenLakeEnv(), set(), random.Random(0)
    for seed in range(60):
        env.reset(seed=seed)
        terminated = False
        rewards = []
        while not terminated:
            observation, reward, terminated, truncated, info = env.step(choose.choice(ACTIONS))
            rewards.append(reward)
            assert not truncated
        assert set(rewards[:-1]) <= {0.0}
        symbol = "√" if info["success"] else "X"
        seen.add(symbol)
        assert reward == (1.0 if info["success"] else 0.0)
        row, column = coordinates(observation, "Player")[0]
        assert observation.split("\n")[row][column] == symbol
        assert "P" not in "".join(observation.split("\n")[:4])
        place = coordinates(observation, "Goal" if info["success"] else "Holes")
        assert (row, column) in place
    assert seen == {"√", "X"}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("size", 1),
        ("frozen_probability", 0.0),
        ("frozen_probability", 1.1),
        ("success_rate", -0.1),
        ("success_rate", 2),
    ],
)
def test_a_bad_argument_is_refused_by_name_and_value(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{argument} {value}"):
        FrozenLakeEnv(**{argument: value})


def test_the_rules_state_the_slip_probability_that_is_in_force() -> None:
    assert "probability 0.80" in FrozenLakeEnv(success_rate=0.8).rules
    assert "not slippery" in FrozenLakeEnv(success_rate=1.0).rules
