"""The play that Sudoku's tiny model imitates, and its miniature: a few empty cells, one number a turn."""

from __future__ import annotations

import numpy as np

from verl_actfocus.envs.base import EpisodeLimits, TextEnv
from verl_actfocus.envs.demonstrations import FOLLOW, Miniature, Response, pick
from verl_actfocus.envs.sudoku.env import SudokuEnv
from verl_actfocus.envs.sudoku.grid import legal_numbers


def demonstrate(env: TextEnv, rng: np.random.Generator, max_actions: int) -> Response:
    """Write one response to the present state of a Sudoku: one number, wherever one is certain.

    It reads the numbers that fit an empty cell, as the page lists them, and never the reference solution. Half of its
    slips are another number in the stated cell, half the stated number in another cell; most are refused.

    Args:
        env: A `SudokuEnv` with an episode under way.
        rng: Draws the wording, the choice between equally certain cells, and the noise of the action.
        max_actions: Unused; a response has one action.

    Returns:
        The response. Where no number fits some cell any more, it changes one of the entries made before, or says that
        it is stuck and tries any number.

    Raises:
        TypeError: `env` is not a `SudokuEnv`.
    """
    if not isinstance(env, SudokuEnv):
        raise TypeError(f"Sudoku's demonstrations need a SudokuEnv, not {type(env).__name__}")
    cells = range(env.size**2)
    fitting = {cell: legal_numbers(env.grid, env.size, cell) for cell in cells if env.grid[cell] == 0}
    cell, number, plan = _move(env, fitting, rng)
    places = [_place(empty, env.size) for empty in fitting]
    listing = " and ".join([", ".join(places[:-1]), places[-1]] if len(places) > 1 else places)
    sentences = [
        pick(rng, "That was refused.", "My last one is not allowed.")
        if "\nLast action: invalid" in env.render()
        else "",
        pick(rng, f"Empty: {listing}.", f"I need {listing}.", f"Still open: {listing}."),
        plan,
    ]
    if rng.random() >= FOLLOW:
        if rng.random() < 0.5:
            number = int(rng.choice([other for other in range(1, env.size + 1) if other != number]))
        else:
            cell = int(rng.choice([other for other in cells if other != cell]))
    reasoning = " ".join(sentence for sentence in sentences if sentence)
    return Response(reasoning, (f" place {number} at {_place(cell, env.size)}",))


def _move(env: SudokuEnv, fitting: dict[int, list[int]], rng: np.random.Generator) -> tuple[int, int, str]:
    """Return a cell, a number for it, and the sentence that says why."""
    blocked = [cell for cell, numbers in fitting.items() if not numbers]
    if not blocked:
        fewest = min(len(numbers) for numbers in fitting.values())
        cell = int(rng.choice([cell for cell, numbers in fitting.items() if len(numbers) == fewest]))
        number = int(rng.choice(fitting[cell]))
        place = _place(cell, env.size)
        if fewest > 1:
            return cell, number, f"At {place} it is {' or '.join(map(str, fitting[cell]))}. I try {number}."
        others = [str(other) for other in range(1, env.size + 1) if other != number]
        taken = f"{', '.join(others[:-1])} and {others[-1]} are taken"
        return cell, number, pick(rng, f"{number} fits {place}, as {taken}.", f"At {place}, {taken}: it is {number}.")
    entries = [cell for cell, clue in enumerate(env.puzzle) if clue == 0 and env.grid[cell]]
    changes = [
        (cell, number)
        for cell in entries
        for number in legal_numbers(env.grid, env.size, cell)
        if number != env.grid[cell]
    ]
    why = f"Nothing fits at {_place(blocked[0], env.size)}."
    if changes:
        cell, number = changes[rng.integers(len(changes))]
        return cell, number, f"{why} I change {_place(cell, env.size)} to {number}."
    cell, number = blocked[0], int(rng.integers(1, env.size + 1))
    return cell, number, f"{why} I am stuck and try {number}."


def _place(cell: int, size: int) -> str:
    return f"row {cell // size + 1} col {cell % size + 1}"


MINIATURE = Miniature(
    environment="sudoku",
    options={"empty_cells": 3},
    limits=EpisodeLimits(turns=4, actions_per_turn=1, actions=4, words=40, response_tokens=64),
    demonstrate=demonstrate,
    iterations=500,
    knows="states a number that fits, its action is another number or another cell part of the time",
    refusals=True,
)
