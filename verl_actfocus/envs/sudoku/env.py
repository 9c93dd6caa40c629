"""Sudoku in text: fill in the empty cells of a 4x4 or 9x9 grid, one number at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np

from verl_actfocus.envs._tiles import draw_digits
from verl_actfocus.envs.base import ANSI_AND_RGB, TextEnv, check_options, step_info
from verl_actfocus.envs.sudoku.grid import Grid, conflicts, generate_puzzle, legal_numbers, solutions

EMPTY, IN_CONFLICT = ".", "!"
CORRECT_REWARD = 1.0
LEGAL_REWARD = 0.5  # no conflict, but not the number of the reference solution
INVALID_REWARD = -0.1
SOLVED_REWARD = 10.0

# Two digits are one more than any grid needs, so that a number out of range is told from a malformed action.
_SENTENCE = re.compile(
    r"place\s+(?P<number>[0-9]{1,2})\s+at\s+row\s+(?P<row>[0-9]{1,2})\s+col\s+(?P<column>[0-9]{1,2})",
    re.IGNORECASE,
)
_TRIPLE = re.compile(r"(?P<row>[0-9]{1,2})\s*,\s*(?P<column>[0-9]{1,2})\s*,\s*(?P<number>[0-9]{1,2})")

_PAPER, _CONFLICT = (250, 250, 245), (245, 183, 177)  # grounds of the image
_GIVEN, _PLACED = (33, 37, 41), (41, 98, 200)  # inks


@dataclass(frozen=True)
class _Refusal:
    """Why an action is invalid, and the cells that it is in conflict with."""

    reason: str
    conflicts: tuple[int, ...] = ()


class SudokuEnv(TextEnv):
    """Sudoku with some cells of a random grid emptied (He et al. 2026, App. C).

    An action writes a number into a cell that is not a given clue: `place 3 at row 1 col 2` or, as
    row, column, number, `1,2,3`; everything counts from 1.

    Rewards: +1 for the number of the reference solution (the grid that the puzzle was made from), +0.5 for
    another one that conflicts with nothing, -0.1 for an invalid action (malformed, out of range, into a
    clue, or in conflict), and +10 in addition when the grid is complete. Every complete grid without a
    conflict is solved, whether it is the reference solution or not. A number that is refused for a conflict
    leaves a mark on each cell that it is in conflict with, until the next action.

    What the paper leaves open: a legal number may still lead into a dead end, so the player's own entries
    can be overwritten. Overwriting pays the worth of the new number less that of the old one, so that
    writing to and fro earns nothing; writing the number that is there already is valid, has no effect and
    pays 0. The episode has no step limit besides its budget.

    `reset(options={"puzzle": rows})` plays a given puzzle, a list of strings with a "." for every empty
    cell; the first solution that the solver finds is then the reference.

    Args:
        size: 4 or 9.
        empty_cells: How many cells are emptied.
        unique: Whether the puzzle has exactly one solution; off by default, as in the source.
        render_mode: "ansi" or "rgb_array" (given numbers dark, placed ones blue, conflicts on red ground).

    Raises:
        ValueError: `size` is neither 4 nor 9, or `empty_cells` is not between 1 and the number of cells.

    Example:
        >>> env = SudokuEnv()
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step(env.legal_actions()[0])
    """

    metadata = ANSI_AND_RGB

    def __init__(self, size: int = 4, empty_cells: int = 6, unique: bool = False, render_mode: str = "ansi") -> None:
        super().__init__(render_mode)
        if size not in (4, 9):
            raise ValueError(f"size {size}: a grid is 4 or 9 cells on a side")
        if not 1 <= empty_cells <= size**2:
            raise ValueError(f"empty_cells {empty_cells}: a {size}x{size} grid can have 1 to {size**2}")
        self.size = size
        self.empty_cells = empty_cells
        self.unique = unique
        self.puzzle: Grid = []
        self.grid: Grid = []
        self.solution: Grid = []

    @property
    def rules(self) -> str:
        n, box = self.size, isqrt(self.size)
        return (
            f"You are solving a {n}x{n} sudoku. Fill in every empty cell so that each row, each column and "
            f"each {box}x{box} box holds every number from 1 to {n} once.\n"
            f"Symbols: {EMPTY} empty cell; {IN_CONFLICT} after a number that your last action conflicts with; "
            "| and - separate the boxes. Rows and columns count from 1, from the top left corner.\n"
            "You place one number per action. You may overwrite what you placed, but not the given numbers.\n"
            "Reward: +1 for a correct number, +0.5 for a number that fits but is not the intended one, "
            "-0.1 for an invalid action, +10 for solving the sudoku.\n"
            "Actions: place NUMBER at row ROW col COLUMN, or in short ROW,COLUMN,NUMBER. "
            "Example of an action: place 3 at row 1 col 2"
        )

    def legal_actions(self) -> list[str]:
        if not self._running:
            return []
        return [
            self._action(cell, number)
            for cell, clue in enumerate(self.puzzle)
            if clue == 0
            for number in legal_numbers(self.grid, self.size, cell)
        ]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super(TextEnv, self).reset(seed=seed)
        given = check_options(self, options, known=("puzzle",)).get("puzzle")
        if given is None:
            self.puzzle, self.solution = generate_puzzle(self.np_random, self.size, self.empty_cells, self.unique)
        else:
            self.puzzle, self.solution = parse_puzzle(given, self.size)
        self.grid = list(self.puzzle)
        self._feedback, self._marked = "", frozenset[int]()
        self._running = True
        return self._observation(), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._require_running()
        move = self._read(action)
        if isinstance(move, _Refusal):
            self._feedback, self._marked = f"Last action: invalid, {move.reason}.", frozenset(move.conflicts)
            info = step_info(valid=False, effective=False, success=False, feedback=self._feedback)
            return self._observation(), INVALID_REWARD, False, False, info
        cell, number = move
        before = self.grid[cell]
        reward = self._worth(cell, number) - self._worth(cell, before)
        self.grid[cell] = number
        solved = 0 not in self.grid
        if solved:
            reward += SOLVED_REWARD
        self._running = not solved
        self._feedback, self._marked = f"Last action: placed {number} at {self._place(cell)}.", frozenset()
        info = step_info(valid=True, effective=number != before, success=solved, feedback=self._feedback)
        return self._observation(), reward, solved, False, info

    def render(self) -> str | np.ndarray:
        return self._observation() if self.render_mode == "ansi" else self._image()

    def _observation(self) -> str:
        """Return the grid, the last action's outcome, the player's entries, the progress and what fits where."""
        lines = self._grid_lines()
        if self._feedback:
            lines.append(self._feedback)
        emptied = [cell for cell, clue in enumerate(self.puzzle) if clue == 0]
        entries = [cell for cell in emptied if self.grid[cell]]
        lines.append(f"Progress: {len(entries)} of {len(emptied)} empty cells filled")
        if entries:
            lines.append("Placed by you: " + "; ".join(self._place(cell) for cell in entries))
        for cell in emptied:
            if self.grid[cell] == 0:
                numbers = legal_numbers(self.grid, self.size, cell)
                lines.append(f"{self._place(cell)}: {' '.join(map(str, numbers)) or 'no valid number'}")
        return "\n".join(lines)

    def _image(self) -> np.ndarray:
        shape = (self.size, self.size)
        is_marked = np.array([cell in self._marked for cell in range(len(self.grid))]).reshape(*shape, 1)
        is_given = np.array(self.puzzle).reshape(*shape, 1) > 0
        digits = np.array([number or -1 for number in self.grid]).reshape(shape)
        ground = np.where(is_marked, _CONFLICT, _PAPER).astype(np.uint8)
        return draw_digits(digits, ground, np.where(is_given, _GIVEN, _PLACED).astype(np.uint8), isqrt(self.size))

    def _read(self, action: str) -> tuple[int, int] | _Refusal:
        """Return the cell and the number that an action writes, or what is wrong with it."""
        text = action.strip()
        match = _SENTENCE.fullmatch(text) or _TRIPLE.fullmatch(text)
        if match is None:
            return _Refusal("not of the form 'place 3 at row 1 col 2' or '1,2,3'")
        row, column, number = int(match["row"]), int(match["column"]), int(match["number"])
        for name, value in (("row", row), ("col", column), ("number", number)):
            if not 1 <= value <= self.size:
                return _Refusal(f"{name} {value} is not between 1 and {self.size}")
        cell = (row - 1) * self.size + column - 1
        if self.puzzle[cell]:
            return _Refusal(f"{self._place(cell)} is a given number")
        in_conflict = conflicts(self.grid, self.size, cell, number)
        if in_conflict:
            cells = ", ".join(self._place(other) for other in in_conflict)
            reason = f"{number} at {self._place(cell)} conflicts with the {number} at {cells}"
            return _Refusal(reason, tuple(in_conflict))
        return cell, number

    def _worth(self, cell: int, number: int) -> float:
        """Return what a number in a cell has earned: 0 for an empty cell."""
        if number == 0:
            return 0.0
        return CORRECT_REWARD if number == self.solution[cell] else LEGAL_REWARD

    def _place(self, cell: int) -> str:
        return f"row {cell // self.size + 1} col {cell % self.size + 1}"

    def _action(self, cell: int, number: int) -> str:
        return f"place {number} at {self._place(cell)}"

    def _grid_lines(self) -> list[str]:
        n, box = self.size, isqrt(self.size)
        # A mark takes the place of the blank behind the number, so that columns stay aligned.
        symbols = [
            (str(number) if number else EMPTY) + (IN_CONFLICT if cell in self._marked else " ")
            for cell, number in enumerate(self.grid)
        ]
        lines = []
        for start in range(0, n * n, n):
            groups = ["".join(symbols[start + i : start + i + box]) for i in range(0, n, box)]
            lines.append("| ".join(groups).rstrip())
        rule = "-" * (2 * (n + box) - 3)
        return [line for i, row in enumerate(lines) for line in ([rule, row] if i and i % box == 0 else [row])]


def parse_puzzle(rows: Sequence[str], size: int) -> tuple[Grid, Grid]:
    """Read a puzzle from its drawing.

    Args:
        rows: `size` strings of `size` characters: digits, and "." for an empty cell.
        size: Rows and columns.

    Returns:
        The puzzle and a solution of it.

    Raises:
        ValueError: The shape or a character is wrong, nothing is empty, two clues conflict, or there is
            no solution.
    """
    where = f"puzzle {list(rows)}"
    text = "".join(rows)
    known = EMPTY + "".join(str(number) for number in range(1, size + 1))
    if len(rows) != size or any(len(row) != size for row in rows) or set(text) - set(known):
        raise ValueError(f"{where}: needs {size} rows of {size} characters out of {known}")
    grid = [0 if symbol == EMPTY else int(symbol) for symbol in text]
    if 0 not in grid:
        raise ValueError(f"{where}: no cell is empty")
    if any(number and conflicts(grid, size, cell, number) for cell, number in enumerate(grid)):
        raise ValueError(f"{where}: two of the given numbers conflict")
    found = solutions(grid, size, 1)
    if not found:
        raise ValueError(f"{where}: has no solution")
    return grid, found[0]
