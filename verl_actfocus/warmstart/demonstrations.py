"""The noisy experts of the grids, whose play the tiny models imitate: one function per environment.

What a demonstration says and what it does differ on purpose. The reasoning states facts of the map and a shortest
way, or a number that fits, all true; each action then follows that only with probability ``FOLLOW`` and is otherwise
another direction, number or cell. A model that imitates this knows the map better than it acts: the best action is
its clear mode, and reinforcement learning, which sharpens actions, has room to improve. An expert knows nothing that
is not on the page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from verl_actfocus.envs.base import TextEnv
from verl_actfocus.envs.frozenlake.env import FrozenLakeEnv
from verl_actfocus.envs.sokoban.env import ACTIONS as SOKOBAN_ACTIONS
from verl_actfocus.envs.sokoban.env import SokobanEnv
from verl_actfocus.envs.sokoban.expert import solve
from verl_actfocus.envs.sudoku.env import SudokuEnv
from verl_actfocus.envs.sudoku.grid import legal_numbers
from verl_actfocus.episodes import write_response
from verl_actfocus.episodes.prompts import ACTION_SEPARATOR

FOLLOW = 0.6
"""Probability that an action follows what the reasoning states."""

SINGLE = 0.1
"""Probability that a turn plans one action although two are allowed and needed."""

STEPS = {"Left": (0, -1), "Down": (1, 0), "Right": (0, 1), "Up": (-1, 0)}

Cell = tuple[int, int]


def demonstrate_frozenlake(env: TextEnv, rng: np.random.Generator, max_actions: int) -> str:
    """Write one response to the present state of a FrozenLake without slip.

    Args:
        env: A ``FrozenLakeEnv`` with ``success_rate=1`` and an episode under way.
        rng: Draws the wording, the choice between equally short ways, and the noise of the actions.
        max_actions: Most actions of the response.

    Returns:
        The response without the prefill ``<think>``.

    Raises:
        TypeError: If ``env`` is not a ``FrozenLakeEnv``.
        ValueError: If the ice is slippery: the stated way would not be the true one.
    """
    if not isinstance(env, FrozenLakeEnv):
        raise TypeError(f"demonstrate_frozenlake needs a FrozenLakeEnv, not {type(env).__name__}")
    if env.success_rate != 1:
        raise ValueError(f"success_rate is {env.success_rate}: the demonstrations are for safe ice, success_rate=1")
    here, goal = divmod(env.position, env.size), divmod(env.goal, env.size)
    holes = [divmod(hole, env.size) for hole in env.holes]
    way = _shortest_way(here, goal, holes, env.size, rng)[:max_actions]
    if len(way) > 1 and rng.random() < SINGLE:
        way = way[:1]
    near = [hole for hole in holes if abs(hole[0] - here[0]) + abs(hole[1] - here[1]) == 1]
    sentences = [
        pick(rng, f"I am at {here}, the goal is at {goal}.", f"From {here} to {goal}.", f"Me {here}, goal {goal}."),
        _offset_sentence(here, goal, rng),
        _holes_sentence(near, rng),
        _way_sentence(way, rng),
    ]
    reasoning = " ".join(sentence for sentence in sentences if sentence)
    return response_text(reasoning, [_noisy(action, rng) for action in way])


def demonstrate_sokoban(env: TextEnv, rng: np.random.Generator, max_actions: int) -> str:
    """Write one response to the present state of a Sokoban room with one box.

    Args:
        env: A ``SokobanEnv`` with one box and an episode under way.
        rng: Draws the wording and the noise of the actions.
        max_actions: Most actions of the response.

    Returns:
        The response without the prefill ``<think>``. In a room that can no longer be solved it says so and moves at
        random.

    Raises:
        TypeError: If ``env`` is not a ``SokobanEnv``.
        ValueError: If there is more than one box: the reasoning speaks of one.
    """
    if not isinstance(env, SokobanEnv):
        raise TypeError(f"demonstrate_sokoban needs a SokobanEnv, not {type(env).__name__}")
    if env.boxes != 1:
        raise ValueError(f"boxes is {env.boxes}: the demonstrations are for rooms with one box")
    room = env.room
    here, box, target = (divmod(cell, room.columns) for cell in (room.player, min(room.boxes), min(room.targets)))
    solution = solve(room)
    if solution is None:
        way = [pick(rng, *STEPS) for _ in range(max_actions)]
        plan = pick(rng, "It is stuck.", "It cannot get there any more.")
        actions = way
    else:
        way = [SOKOBAN_ACTIONS[move] for move in solution[:max_actions]]
        if len(way) > 1 and rng.random() < SINGLE:
            way = way[:1]
        plan = f"{_offset_sentence(box, target, rng)} {_way_sentence(way, rng)}"
        actions = [_noisy(action, rng) for action in way]
    facts = pick(
        rng,
        f"I am at {here}, the box is at {box} and the target at {target}.",
        f"Me {here}, box {box}, target {target}.",
        f"From {here} I push the box {box} to {target}.",
    )
    return response_text(f"{facts} {plan}", actions)


def demonstrate_sudoku(env: TextEnv, rng: np.random.Generator, max_actions: int) -> str:
    """Write one response to the present state of a Sudoku: one number, wherever one is certain.

    It reads the numbers that fit an empty cell, as the page lists them, and never the reference solution. Half of its
    slips are another number in the stated cell, half the stated number in another cell; most are refused.

    Args:
        env: A ``SudokuEnv`` with an episode under way.
        rng: Draws the wording, the choice between equally certain cells, and the noise of the action.
        max_actions: Unused; a response has one action.

    Returns:
        The response without the prefill ``<think>``. Where no number fits some cell any more, it changes one of the
        entries made before, or says that it is stuck and tries any number.

    Raises:
        TypeError: If ``env`` is not a ``SudokuEnv``.
    """
    if not isinstance(env, SudokuEnv):
        raise TypeError(f"demonstrate_sudoku needs a SudokuEnv, not {type(env).__name__}")
    cells = range(env.size**2)
    fitting = {cell: legal_numbers(env.grid, env.size, cell) for cell in cells if env.grid[cell] == 0}
    cell, number, plan = _sudoku_move(env, fitting, rng)
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
    return response_text(reasoning, [f"place {number} at {_place(cell, env.size)}"])


def _sudoku_move(env: SudokuEnv, fitting: dict[int, list[int]], rng: np.random.Generator) -> tuple[int, int, str]:
    """A cell, a number for it, and the sentence that says why."""
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


def response_text(reasoning: str, actions: Sequence[str]) -> str:
    """Put a response together, without the prefill; every action has a space before it, as in the reasoning, so
    that the tokenizer has one token for both places."""
    answer = f" {ACTION_SEPARATOR}".join(f" {action}" for action in actions)
    return write_response(answer, f" {reasoning}")


def _noisy(action: str, rng: np.random.Generator) -> str:
    return action if rng.random() < FOLLOW else pick(rng, *(other for other in STEPS if other != action))


def pick(rng: np.random.Generator, *texts: str) -> str:
    """Draw one of the texts."""
    return texts[rng.integers(len(texts))]


def _place(cell: int, size: int) -> str:
    return f"row {cell // size + 1} col {cell % size + 1}"


def _move(cell: Cell, action: str) -> Cell:
    row, column = STEPS[action]
    return cell[0] + row, cell[1] + column


def _shortest_way(here: Cell, goal: Cell, holes: list[Cell], size: int, rng: np.random.Generator) -> list[str]:
    """A shortest way around the holes, drawn at random where several directions are equally good."""
    distance = {goal: 0}
    frontier = deque([goal])
    while here not in distance:
        cell = frontier.popleft()
        for action in STEPS:
            row, column = following = _move(cell, action)
            if 0 <= row < size and 0 <= column < size and following not in holes and following not in distance:
                distance[following] = distance[cell] + 1
                frontier.append(following)
    way = []
    while here != goal:
        best = [action for action in STEPS if distance.get(_move(here, action)) == distance[here] - 1]
        way.append(pick(rng, *best))
        here = _move(here, way[-1])
    return way


def _offset_sentence(here: Cell, goal: Cell, rng: np.random.Generator) -> str:
    rows, columns = goal[0] - here[0], goal[1] - here[1]
    parts = [f"{abs(rows)} {'down' if rows > 0 else 'up'}"] if rows else []
    parts += [f"{abs(columns)} {'right' if columns > 0 else 'left'}"] if columns else []
    offset = " and ".join(parts)
    return pick(rng, f"That is {offset}.", f"So the way is {offset}.", f"It lies {offset} from there.")


def _holes_sentence(near: list[Cell], rng: np.random.Generator) -> str:
    """A remark on the holes beside the player; always made if there are any, else about half of the time."""
    if near:
        cells = " ".join(str(hole) for hole in near)
        return pick(rng, f"Next to me is a hole: {cells}.", f"I avoid {cells}.")
    return pick(rng, "No hole is next to me.", "All safe here.", "", "")


def _way_sentence(way: list[str], rng: np.random.Generator) -> str:
    if len(way) == 1:
        return pick(rng, f"The best step is {way[0]}.", f"I go {way[0]} now.")
    first, second = way
    return pick(rng, f"The best way is {first} and then {second}.", f"I go {first} and {second}.")
