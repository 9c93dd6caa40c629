"""Sudoku demonstrations: what their reasoning deduces is true by the rules alone, the actions slip in one thing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from verl_actfocus.envs.demonstrations import FOLLOW, Response
from verl_actfocus.envs.sudoku.demonstrations import demonstrate
from verl_actfocus.envs.sudoku.env import SudokuEnv
from verl_actfocus.envs.sudoku.grid import Grid

from .demonstrated import actions


@pytest.fixture(scope="module")
def sudoku_turns() -> list[tuple[SudokuEnv, Grid, Response]]:
    """Environment, its grid and the response to it, three turns of 200 random puzzles."""
    rng = np.random.default_rng(0)
    turns = []
    for seed in range(200):
        env = SudokuEnv(empty_cells=3)
        env.reset(seed=seed)
        for _ in range(3):
            grid, response = list(env.grid), demonstrate(env, rng, 1)
            turns.append((env, grid, response))
            *_, info = env.step(actions(response)[0])
            if info["success"]:
                break
    return turns


def fits(grid: Grid, place: tuple[str, str]) -> set[int]:
    """What may stand in a cell of a 4x4 grid, from the rules alone."""
    row, column = (int(response) - 1 for response in place)
    cells = np.array(grid).reshape(4, 4)
    box = cells[row // 2 * 2 : row // 2 * 2 + 2, column // 2 * 2 : column // 2 * 2 + 2]
    return {1, 2, 3, 4} - {*cells[row].tolist(), *cells[:, column].tolist(), *box.ravel().tolist()}


def sudoku_plan(response: str) -> tuple[tuple[str, str], int] | None:
    """The cell and the number that a reasoning of certainty arrives at."""
    reasoning = response.reasoning
    for pattern, (row, column, number) in (
        (r"(\d) fits row (\d) col (\d), as", (1, 2, 0)),
        (r"At row (\d) col (\d), .*: it is (\d)\.", (0, 1, 2)),
    ):
        if found := re.search(pattern, reasoning):
            groups = found.groups()
            return (groups[row], groups[column]), int(groups[number])
    return None


def test_what_sudoku_reasoning_states_is_true(sudoku_turns: list[tuple[SudokuEnv, Grid, Response]]) -> None:
    certain = 0
    for _, grid, response in sudoku_turns:
        reasoning = response.reasoning
        listed = re.search(r"(?:Empty:|need|open:) ([^.]*)\.", reasoning)
        assert listed is not None
        cells = [(int(row) - 1) * 4 + int(column) - 1 for row, column in re.findall(r"row (\d) col (\d)", listed[1])]
        assert cells == [cell for cell, number in enumerate(grid) if number == 0]
        if (plan := sudoku_plan(response)) is not None:
            place, number = plan
            assert fits(grid, place) == {number}
            taken = re.search(r"(\d), (\d) and (\d) are taken", reasoning)
            assert taken is not None and {int(one) for one in taken.groups()} == {1, 2, 3, 4} - {number}
            certain += 1
    # With three empty cells one of them is always certain, until a number was placed that fits and is wrong.
    assert certain > 0.9 * len(sudoku_turns)


def test_a_sudoku_action_follows_the_reasoning_with_the_documented_probability_and_slips_in_one_thing(
    sudoku_turns: list[tuple[SudokuEnv, Grid, Response]],
) -> None:
    followed = []
    for _, _, response in sudoku_turns:
        if (plan := sudoku_plan(response)) is not None:
            action = re.fullmatch(r"place (\d) at row (\d) col (\d)", actions(response)[0])
            assert action is not None
            number, *place = action.groups()
            right = (tuple(place) == plan[0], int(number) == plan[1])
            assert any(right)
            followed.append(all(right))
    error = (FOLLOW * (1 - FOLLOW) / len(followed)) ** 0.5
    assert abs(np.mean(followed) - FOLLOW) < 4 * error


def test_a_sudoku_demonstration_does_not_depend_on_the_solution_that_no_page_shows() -> None:
    env = SudokuEnv(empty_cells=10)
    for seed in range(20):
        env.reset(seed=seed)
        texts = set()
        for solution in (env.solution, [0] * 16):
            env.solution = solution
            texts.add(demonstrate(env, np.random.default_rng(seed), 1))
        assert len(texts) == 1


def test_where_no_number_fits_any_more_an_entry_is_changed_to_another_that_fits() -> None:
    rng = np.random.default_rng(0)
    mended = stuck = 0
    for seed in range(60):
        env = SudokuEnv(empty_cells=9)
        env.reset(seed=seed)
        while legal := [one for one in env.legal_actions() if env.grid[cell_of(one)] == 0]:
            env.step(str(rng.choice(legal)))
            if 0 not in env.grid:
                break
        else:
            reasoning = demonstrate(env, rng, 1).reasoning
            blocked = re.search(r"Nothing fits at row (\d) col (\d)\.", reasoning)
            assert blocked is not None and fits(env.grid, (blocked[1], blocked[2])) == set()
            change = re.search(r"I change row (\d) col (\d) to (\d)\.", reasoning)
            stuck += change is None and "I am stuck" in reasoning
            if change is not None:
                cell = (int(change[1]) - 1) * 4 + int(change[2]) - 1
                assert env.puzzle[cell] == 0 and env.grid[cell] not in (0, int(change[3]))
                assert int(change[3]) in fits(env.grid, (change[1], change[2]))
                mended += 1
    assert mended > 5 and stuck > 0


def cell_of(action: str) -> int:
    row, column = map(int, re.findall(r"row (\d) col (\d)", action)[0])
    return (row - 1) * 4 + column - 1
