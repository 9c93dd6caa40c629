"""Sudoku as mathematics: units, legal numbers, a solver, and the generation of puzzles.

A grid is a list of size * size numbers, row by row, with 0 for an empty cell; size is 4 or 9.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt

import numpy as np

Grid = list[int]

UNIQUE_ATTEMPTS = 100


@lru_cache(maxsize=4)
def peers(size: int) -> tuple[frozenset[int], ...]:
    """Return, for every cell, the other cells of its row, column and box.

    Args:
        size: Rows and columns of the grid.

    Returns:
        size * size sets of cell numbers.
    """
    box = isqrt(size)
    units = [(r, c, (r // box, c // box)) for r in range(size) for c in range(size)]
    return tuple(
        frozenset(
            other
            for other, (row, column, block) in enumerate(units)
            if other != cell and (row == r or column == c or block == b)
        )
        for cell, (r, c, b) in enumerate(units)
    )


def conflicts(grid: Grid, size: int, cell: int, number: int) -> list[int]:
    """Return the cells that keep `number` from being written into `cell`, in reading order."""
    return sorted(peer for peer in peers(size)[cell] if grid[peer] == number)


def legal_numbers(grid: Grid, size: int, cell: int) -> list[int]:
    """Return the numbers that no peer of `cell` has, whatever `cell` itself holds, in increasing order."""
    taken = {grid[peer] for peer in peers(size)[cell]}
    return [number for number in range(1, size + 1) if number not in taken]


def solutions(grid: Grid, size: int, limit: int, rng: np.random.Generator | None = None) -> list[Grid]:
    """Return solutions of a puzzle, by backtracking on the cell with the fewest legal numbers.

    Args:
        grid: The puzzle; its numbers must not conflict.
        size: Rows and columns.
        limit: Stop after that many solutions.
        rng: Draws the order in which numbers are tried; None tries them in increasing order.

    Returns:
        Up to `limit` complete grids.
    """
    found: list[Grid] = []
    working = list(grid)

    def search() -> None:
        open_cells = {c: legal_numbers(working, size, c) for c, n in enumerate(working) if n == 0}
        if not open_cells:
            found.append(list(working))
            return
        cell = min(open_cells, key=lambda c: len(open_cells[c]))
        numbers = open_cells[cell]
        if rng is not None:
            numbers = [int(number) for number in rng.permutation(numbers)]
        for number in numbers:
            working[cell] = number
            search()
            if len(found) == limit:
                break
        working[cell] = 0

    search()
    return found


def generate_puzzle(rng: np.random.Generator, size: int, empty: int, unique: bool) -> tuple[Grid, Grid]:
    """Draw a complete grid and empty cells of it.

    Args:
        rng: The environment's generator.
        size: Rows and columns.
        empty: How many cells to empty.
        unique: Whether the puzzle must have no other solution.

    Returns:
        The puzzle and the complete grid that it was made from.

    Raises:
        RuntimeError: No puzzle with a unique solution was found; with that many empty cells there are
            hardly any or none.
    """
    for _ in range(UNIQUE_ATTEMPTS):
        solution = solutions([0] * size**2, size, 1, rng)[0]
        puzzle = _remove(rng, solution, size, empty, unique)
        if puzzle is not None:
            return puzzle, solution
    raise RuntimeError(
        f"no {size} x {size} sudoku with {empty} empty cells and a unique solution in {UNIQUE_ATTEMPTS} "
        "attempts; lower empty_cells or pass unique=False"
    )


def _remove(rng: np.random.Generator, solution: Grid, size: int, empty: int, unique: bool) -> Grid | None:
    """Empty random cells; if the solution must stay unique, pass over those that would not let it."""
    puzzle = list(solution)
    removed = 0
    for cell in rng.permutation(size**2).tolist():
        if removed == empty:
            break
        puzzle[cell] = 0
        if unique and len(solutions(puzzle, size, 2)) > 1:
            puzzle[cell] = solution[cell]
        else:
            removed += 1
    return puzzle if removed == empty else None
