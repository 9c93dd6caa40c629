"""Sudoku: rewards to the digit, both forms of an action, feedback, and uniqueness by brute force."""

from __future__ import annotations

import itertools
import random

import pytest

from verl_actfocus.envs.sudoku.env import SudokuEnv

from .sudoku_play import AMBIGUOUS, started

# The two ways of filling AMBIGUOUS.
SOLUTIONS = (["1234", "3412", "2143", "4321"], ["3214", "1432", "2143", "4321"])


def is_complete(grid: list[int], size: int) -> bool:
    """Whether every row, column and box holds 1 to size once."""
    box = {4: 2, 9: 3}[size]
    wanted = set(range(1, size + 1))
    rows = [grid[r * size : (r + 1) * size] for r in range(size)]
    boxes = [
        [rows[r + i][c + j] for i in range(box) for j in range(box)]
        for r in range(0, size, box)
        for c in range(0, size, box)
    ]
    return all(set(unit) == wanted for unit in [*rows, *zip(*rows, strict=True), *boxes])


def brute_force_solutions(puzzle: list[int]) -> int:
    """Counts the solutions of a 4x4 puzzle by trying every filling that puts no clue twice into a row."""
    empty = [cell for cell, number in enumerate(puzzle) if number == 0]
    fitting = [{1, 2, 3, 4} - set(puzzle[cell // 4 * 4 : cell // 4 * 4 + 4]) for cell in empty]
    count = 0
    for numbers in itertools.product(*fitting):
        grid = list(puzzle)
        for cell, number in zip(empty, numbers, strict=True):
            grid[cell] = number
        count += is_complete(grid, 4)
    return count


@pytest.mark.parametrize("size", [4, 9])
def test_a_puzzle_is_a_complete_grid_with_the_asked_number_of_cells_emptied(size: int) -> None:
    for seed in range(20):
        env = started(seed=seed, size=size, empty_cells=7)
        assert is_complete(env.solution, size)
        assert env.puzzle.count(0) == 7
        assert all(clue in (0, right) for clue, right in zip(env.puzzle, env.solution, strict=True))


def test_the_default_is_4x4_with_six_empty_cells() -> None:
    env = started()
    assert (env.size, env.puzzle.count(0)) == (4, 6)


def test_complete_grids_are_drawn_from_all_288() -> None:
    # 500 draws from 288 equally likely grids leave 288 * (1 - 1/288)^500 = 50 of them out on average
    assert len({tuple(started(seed=seed).solution) for seed in range(500)}) > 200


def test_a_unique_puzzle_has_one_solution_by_brute_force_and_the_default_allows_more() -> None:
    unique = [started(seed=s, empty_cells=8, unique=True).puzzle for s in range(20)]
    assert {brute_force_solutions(puzzle) for puzzle in unique} == {1}
    counts = [brute_force_solutions(started(seed=s, empty_cells=8).puzzle) for s in range(20)]
    assert min(counts) >= 1 and max(counts) > 1


def test_a_unique_9x9_puzzle_is_solved_by_one_grid_alone() -> None:
    env = started(size=9, empty_cells=45, unique=True, seed=1)

    def count(grid: list[int]) -> int:
        if 0 not in grid:
            return 1
        cell = grid.index(0)
        row, column = divmod(cell, 9)
        taken = {
            grid[r * 9 + c]
            for r in range(9)
            for c in range(9)
            if r == row or c == column or (r // 3, c // 3) == (row // 3, column // 3)
        }
        return sum(count([*grid[:cell], n, *grid[cell + 1 :]]) for n in range(1, 10) if n not in taken)

    assert count(env.puzzle) == 1


def test_more_empty_cells_than_a_unique_solution_allows_is_an_error_with_the_remedy() -> None:
    # four clues are the fewest that determine a 4x4 grid
    with pytest.raises(RuntimeError, match=r"13 empty cells.*lower empty_cells or pass unique=False"):
        started(empty_cells=13, unique=True)


def test_the_references_number_pays_one_another_legal_one_a_half() -> None:
    env = started(AMBIGUOUS)
    reference = env.solution[0]
    other = {1: 3, 3: 1}[reference]
    assert started(AMBIGUOUS).step(f"place {reference} at row 1 col 1")[1:4] == (1.0, False, False)
    assert started(AMBIGUOUS).step(f"place {other} at row 1 col 1")[1:4] == (0.5, False, False)


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_any_complete_grid_without_conflict_is_solved(solution: list[str]) -> None:
    env = started(AMBIGUOUS)
    is_reference = env.solution == [int(n) for row in solution for n in row]
    per_move = 1.0 if is_reference else 0.5
    moves = [(r + 1, c + 1, solution[r][c]) for r, c in ((0, 0), (0, 2), (1, 0), (1, 2))]
    results = [env.step(f"{row},{column},{number}") for row, column, number in moves]
    assert [result[1] for result in results] == [per_move] * 3 + [per_move + 10]
    assert [result[2] for result in results] == [result[4]["success"] for result in results] == [False] * 3 + [True]


def test_both_forms_of_an_action_mean_row_column_number_counted_from_one() -> None:
    forms = ("place 1 at row 2 col 3", "PLACE 1  at ROW 2 col 3", "2,3,1", " 2 , 3 , 1 ")
    grids = [started(AMBIGUOUS) for _ in forms]
    assert {grid.step(form)[0] for grid, form in zip(grids, forms, strict=True)} == {grids[0].render()}
    assert grids[0].grid[1 * 4 + 2] == 1


@pytest.mark.parametrize(
    ("action", "feedback"),
    [
        ("place 3 at row 1 col 2", "row 1 col 2 is a given number"),
        ("1,1,2", "2 at row 1 col 1 conflicts with the 2 at row 1 col 2, row 3 col 1"),
        (
            "place 4 at row 2 col 3",
            "4 at row 2 col 3 conflicts with the 4 at row 1 col 4, row 2 col 2, row 3 col 3",
        ),
        ("1,1,5", "number 5 is not between 1 and 4"),
        ("1,1,0", "number 0 is not between 1 and 4"),
        ("0,1,1", "row 0 is not between 1 and 4"),
        ("place 1 at row 1 col 9", "col 9 is not between 1 and 4"),
        ("1,1", "not of the form"),
        ("1,1,1,1", "not of the form"),
        ("place 1 at row 1", "not of the form"),
        ("-1,1,1", "not of the form"),
        ("", "not of the form"),
        ("1,1," + "9" * 5000, "not of the form"),
        ("\u0661,\u0661,\u0661", "not of the form"),
    ],
)
def test_an_invalid_action_costs_a_tenth_changes_nothing_and_is_told_why(action: str, feedback: str) -> None:
    env = started(AMBIGUOUS)
    observation, reward, terminated, truncated, info = env.step(action)
    assert (reward, terminated, truncated) == (-0.1, False, False)
    assert (info["valid"], info["effective"], info["success"]) == (False, False, False)
    assert feedback in info["feedback"]
    assert info["feedback"] in observation.split("\n")
    assert env.grid == [0, 2, 0, 4, 0, 4, 0, 2, 2, 1, 4, 3, 4, 3, 2, 1]


def test_own_entries_can_be_overwritten_and_writing_to_and_fro_earns_nothing() -> None:
    env = started(AMBIGUOUS)
    right = env.solution[0]
    wrong = {1: 3, 3: 1}[right]
    rewards = [env.step(f"1,1,{number}") for number in (wrong, right, wrong, wrong)]
    assert [result[1] for result in rewards] == [0.5, 0.5, -0.5, 0.0]
    assert [result[4]["effective"] for result in rewards] == [True, True, True, False]


def test_no_way_of_playing_earns_more_than_the_references_numbers_and_the_solution() -> None:
    for seed in range(40):
        env, choose, total, over = started(seed=seed), random.Random(seed), 0.0, False
        for _ in range(60):
            _, reward, over, _, _ = env.step(choose.choice(env.legal_actions()))
            total += reward
            if over:
                break
        entries = [c for c in range(16) if env.puzzle[c] == 0 and env.grid[c]]
        worth = sum(1.0 if env.grid[c] == env.solution[c] else 0.5 for c in entries)
        assert total == pytest.approx(worth + 10 * over)
        assert total <= 6 + 10


def test_there_is_a_legal_action_even_in_a_dead_end() -> None:
    dead_ends = 0
    for seed in range(30):
        env, choose = started(["1...", "....", "....", "...."]), random.Random(seed)
        over = False
        for _ in range(40):
            actions = env.legal_actions()
            assert actions
            dead_ends += "no valid number" in env.render()
            over = env.step(choose.choice(actions))[2]
            if over:
                break
    assert dead_ends > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 6}, "size 6"), ({"empty_cells": 0}, "empty_cells 0"), ({"empty_cells": 17}, "empty_cells 17")],
)
def test_bad_arguments_are_refused_by_name_and_value(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SudokuEnv(**arguments)


@pytest.mark.parametrize(
    ("puzzle", "message"),
    [
        (["1234"], "needs 4 rows"),
        (["12x4", "....", "....", "...."], "characters out of"),
        (["1234", "3412", "2143", "4321"], "no cell is empty"),
        (["11..", "....", "....", "...."], "conflict"),
        (["12..", "..34", "....", "...."], "no solution"),
    ],
)
def test_a_given_puzzle_that_cannot_be_played_is_refused_with_the_reason(puzzle: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SudokuEnv().reset(options={"puzzle": puzzle})
