"""Puzzles that several test modules of Sudoku start from."""

from __future__ import annotations

from verl_actfocus.envs.sudoku.env import SudokuEnv

# Emptying the four corners of the rectangle rows 1-2, columns 1 and 3 leaves two solutions: 1 and 3 may swap.
AMBIGUOUS = [".2.4", ".4.2", "2143", "4321"]


def started(puzzle: list[str] | None = None, seed: int = 0, **arguments: object) -> SudokuEnv:
    env = SudokuEnv(**arguments)
    env.reset(seed=seed, options=None if puzzle is None else {"puzzle": puzzle})
    return env
