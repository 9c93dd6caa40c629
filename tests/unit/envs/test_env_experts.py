"""The solvers: success within the paper's budgets, and optimality where it can be computed otherwise."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from functools import cache

import pytest

from verl_actfocus import envs
from verl_actfocus.envs.frozenlake.env import FrozenLakeEnv
from verl_actfocus.envs.frozenlake.expert import expert_action as frozenlake_expert
from verl_actfocus.envs.sokoban.env import SokobanEnv
from verl_actfocus.envs.sokoban.expert import solve
from verl_actfocus.envs.sudoku.env import SudokuEnv


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sokoban", {}),
        ("frozenlake", {"success_rate": 1.0}),
        ("sudoku", {}),
        ("sudoku", {"empty_cells": 12}),
        ("sudoku", {"size": 9, "empty_cells": 16}),
    ],
)
def test_the_expert_wins_every_episode_within_the_budget(name: str, arguments: dict[str, object]) -> None:
    env, expert = envs.make(name, **arguments), envs.expert(name)
    for seed in range(60):
        env.reset(seed=seed)
        for _ in range(envs.spec(name).limits.actions):
            action = expert(env)
            assert action in env.legal_actions()
            _, _, over, _, info = env.step(action)
            if over:
                break
        assert info["success"]


def best_chance(env: FrozenLakeEnv, cell: int, actions_left: int) -> Fraction:
    """The largest probability of reaching the goal, in exact arithmetic on the rules of the ice."""
    slip = Fraction(1, 3)

    def neighbour(cell: int, down: int, right: int) -> int:
        row, column = divmod(cell, 4)
        return min(max(row + down, 0), 3) * 4 + min(max(column + right, 0), 3)

    @cache
    def chance(cell: int, left: int) -> Fraction:
        if cell == env.goal:
            return Fraction(1)
        if cell in env.holes or left == 0:
            return Fraction(0)
        ahead = {d: chance(neighbour(cell, *d), left - 1) for d in ((0, -1), (1, 0), (0, 1), (-1, 0))}
        return max(slip * (ahead[d] + ahead[d[1], d[0]] + ahead[-d[1], -d[0]]) for d in ahead)

    return chance(cell, actions_left)


def test_the_frozenlake_expert_has_the_best_chance_there_is_within_the_budget() -> None:
    env = FrozenLakeEnv()
    for seed in range(15):
        env.reset(seed=seed)
        start = env.start

        @cache
        def experts_chance(cell: int, steps: int, env: FrozenLakeEnv = env) -> float:
            if steps == 10:
                return 0.0
            env.position, env.steps = cell, steps
            move = ("Left", "Down", "Right", "Up").index(frozenlake_expert(env))
            return sum(
                p * (reward if over else experts_chance(state, steps + 1))
                for p, state, reward, over in env.transitions[cell][move]
            )

        assert experts_chance(start, 0) == pytest.approx(float(best_chance(env, start, 10)), abs=2e-3)


def test_the_sokoban_expert_takes_the_fewest_actions() -> None:
    env = SokobanEnv(size=(7, 7), boxes=2, search_depth=12)
    for seed in range(60):
        env.reset(seed=seed)
        solution = solve(env.room)
        assert solution is not None
        layer, length = {env.room}, 0
        while not any(room.solved for room in layer):
            layer, length = {room.after(move) for room in layer for move in range(4)} | layer, length + 1
        assert len(solution) == length


def test_the_sokoban_expert_says_when_a_room_is_lost() -> None:
    env = SokobanEnv()
    env.reset(seed=0, options={"room": ["######", "#P_X_#", "#__O_#", "######"]})
    env.step("Right")
    env.step("Right")
    with pytest.raises(ValueError, match="cannot be solved"):
        envs.expert("sokoban")(env)


def test_the_sudoku_expert_recovers_from_a_legal_number_that_leads_nowhere() -> None:
    env = SudokuEnv()
    env.reset(seed=0, options={"puzzle": ["12..", "....", "....", "...."]})
    env.step("1,3,3")
    env.step("2,4,4")
    assert "no valid number" in env.render()
    for _ in range(20):
        over, info = env.step(envs.expert("sudoku")(env))[2::2]
        if over:
            break
    assert info["success"]


def test_an_expert_refuses_another_environment() -> None:
    for name, other in (("sokoban", "sudoku"), ("frozenlake", "sokoban"), ("sudoku", "frozenlake")):
        with pytest.raises(TypeError, match="expert needs"):
            envs.expert(name)(envs.make(other))


def test_an_environment_without_an_expert_is_refused_with_the_names_of_those_with_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lonely = dataclasses.replace(envs.spec("sokoban"), expert=None)
    monkeypatch.setitem(envs.ENVIRONMENTS, "lonely", lonely)
    with pytest.raises(
        ValueError, match=r"'lonely' has no expert .*: those with one are sokoban, frozenlake, sudoku, webs"
    ):
        envs.expert("lonely")
    with pytest.raises(ValueError, match="unknown environment 'chess'"):
        envs.expert("chess")
