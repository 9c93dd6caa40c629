"""What the tiny models imitate: well-formed, true in its reasoning, noisy in its actions."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from verl_actfocus.envs import make
from verl_actfocus.envs._sokoban_rooms import Room
from verl_actfocus.envs._sudoku_grid import Grid
from verl_actfocus.envs.base import TextEnv
from verl_actfocus.envs.experts.frozenlake import action_value, state_values
from verl_actfocus.envs.frozenlake import ACTIONS, FrozenLakeEnv
from verl_actfocus.envs.sokoban import SokobanEnv
from verl_actfocus.envs.sudoku import SudokuEnv
from verl_actfocus.interaction import parse_response
from verl_actfocus.warmstart.demonstrations import (
    FOLLOW,
    demonstrate_frozenlake,
    demonstrate_sokoban,
    demonstrate_sudoku,
    response_text,
)
from verl_actfocus.warmstart.pipeline import token_ratio
from verl_actfocus.warmstart.tasks import TASKS, Demonstration, Task, demonstrate
from verl_actfocus.warmstart.tasks import task as find_task


def responses(demonstrations: list[Demonstration]) -> list[str]:
    return [message["content"] for one in demonstrations for message in one.messages if message["role"] == "assistant"]


def test_every_demonstrated_response_is_valid_and_within_the_limits(
    task: Task, demonstrations: list[Demonstration]
) -> None:
    for text in responses(demonstrations):
        parsed = parse_response(text)
        assert parsed.valid, text
        assert 1 <= len(parsed.actions) <= (task.limits.actions_per_turn or task.limits.actions)
        assert len(parsed.reasoning.split()) <= task.limits.words
    for one in demonstrations:
        assert [message["role"] for message in one.messages[:3]] == ["system", "user", "assistant"]
        assert one.messages[-1]["role"] == "assistant"
        assert sum(message["role"] == "assistant" for message in one.messages) <= task.limits.turns


def test_seed_and_index_alone_fix_a_demonstration(task: Task, demonstrations: list[Demonstration]) -> None:
    assert demonstrate(task, task.make_env(), seed=0, index=17) == demonstrations[17]
    assert demonstrate(task, task.make_env(), seed=1, index=17) != demonstrations[17]


# He et al. 2026, Table 1, small models: 4.1% of the tokens are actions in FrozenLake, 9.5% in Sokoban, 15.3% in Sudoku.
# 10.8% in WebShop, where a product's id or an option is one or two tokens here.
def test_reasoning_tokens_outnumber_action_tokens_about_as_much_as_in_the_paper(
    task: Task, demonstrations: list[Demonstration], tokenizer: PreTrainedTokenizerFast
) -> None:
    low, high = {"frozenlake": (6, 14), "sokoban": (6, 14), "sudoku": (4, 7), "webshop": (4, 9)}[task.name]
    assert low <= token_ratio(demonstrations, tokenizer) <= high


def test_the_wording_varies(demonstrations: list[Demonstration]) -> None:
    texts = responses(demonstrations)
    wordings = {re.sub(r"\(\d, \d\)|\d|Up|Down|Left|Right|up|down|left|right", "*", text) for text in texts}
    assert len(wordings) > 20
    lengths = {len(parse_response(text).reasoning.split()) for text in texts}
    assert max(lengths) - min(lengths) >= 8


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


def stated_way(reasoning: str) -> list[str]:
    return re.findall(r"\b(Up|Down|Left|Right)\b", reasoning)


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


@pytest.fixture(scope="module")
def sokoban_turns() -> list[tuple[Room, str]]:
    """Room and response, over 200 random rooms with one box."""
    rng = np.random.default_rng(0)
    env = SokobanEnv(search_depth=6)
    turns = []
    for seed in range(200):
        env.reset(seed=seed)
        turns.append((env.room, demonstrate_sokoban(env, rng, 2)))
    return turns


def test_the_way_that_sokoban_reasoning_states_begins_a_shortest_solution(
    sokoban_turns: list[tuple[Room, str]],
) -> None:
    for room, text in sokoban_turns:
        way = stated_way(parse_response(text).reasoning)
        before = fewest_moves(room)
        for direction in way:
            room = room.after(["Up", "Down", "Left", "Right"].index(direction))
        assert 1 <= len(way) <= 2
        assert fewest_moves(room) == before - len(way)


def fewest_moves(room: Room) -> int:
    """Breadth-first search, independent of the A* that the demonstrations use."""
    seen, layer, moves = {room}, [room], 0
    while not any(state.solved for state in layer):
        layer = list({following for state in layer for following in map(state.after, range(4))} - seen)
        seen.update(layer)
        moves += 1
    return moves


def test_the_coordinates_and_the_push_that_sokoban_reasoning_states_are_true(
    sokoban_turns: list[tuple[Room, str]],
) -> None:
    signs = {"down": (1, 0), "up": (-1, 0), "right": (0, 1), "left": (0, -1)}
    for room, text in sokoban_turns:
        reasoning = parse_response(text).reasoning
        cells = [(int(row), int(column)) for row, column in re.findall(r"\((\d), (\d)\)", reasoning)]
        (box,), (target,) = room.boxes, room.targets
        assert cells == [divmod(room.player, 6), divmod(box, 6), divmod(target, 6)]
        row, column = cells[1]
        for steps, word in re.findall(r"(\d) (down|up|right|left)", reasoning):
            row, column = row + int(steps) * signs[word][0], column + int(steps) * signs[word][1]
        assert (row, column) == cells[2]


def test_a_sokoban_room_that_cannot_be_solved_is_called_so() -> None:
    env = SokobanEnv()
    env.reset(seed=0, options={"room": ["######", "#X__P#", "#____#", "#__O_#", "#____#", "######"]})
    text = demonstrate_sokoban(env, np.random.default_rng(0), 2)
    parsed = parse_response(text)
    assert "stuck" in parsed.reasoning or "cannot" in parsed.reasoning
    assert len(parsed.actions) == 2 and set(parsed.actions) <= {"Up", "Down", "Left", "Right"}


def test_sokoban_demonstrations_refuse_rooms_with_more_than_one_box() -> None:
    env = SokobanEnv(boxes=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="boxes"):
        demonstrate_sokoban(env, np.random.default_rng(0), 2)


@pytest.fixture(scope="module")
def sudoku_turns() -> list[tuple[SudokuEnv, Grid, str]]:
    """Environment, its grid and the response to it, three turns of 200 random puzzles."""
    rng = np.random.default_rng(0)
    turns = []
    for seed in range(200):
        env = SudokuEnv(empty_cells=3)
        env.reset(seed=seed)
        for _ in range(3):
            grid, text = list(env.grid), demonstrate_sudoku(env, rng, 1)
            turns.append((env, grid, text))
            *_, info = env.step(parse_response(text).actions[0])
            if info["success"]:
                break
    return turns


def fits(grid: Grid, place: tuple[str, str]) -> set[int]:
    """What may stand in a cell of a 4x4 grid, from the rules alone."""
    row, column = (int(text) - 1 for text in place)
    cells = np.array(grid).reshape(4, 4)
    box = cells[row // 2 * 2 : row // 2 * 2 + 2, column // 2 * 2 : column // 2 * 2 + 2]
    return {1, 2, 3, 4} - {*cells[row].tolist(), *cells[:, column].tolist(), *box.ravel().tolist()}


def sudoku_plan(text: str) -> tuple[tuple[str, str], int] | None:
    """The cell and the number that a reasoning of certainty arrives at."""
    reasoning = parse_response(text).reasoning
    for pattern, (row, column, number) in (
        (r"(\d) fits row (\d) col (\d), as", (1, 2, 0)),
        (r"At row (\d) col (\d), .*: it is (\d)\.", (0, 1, 2)),
    ):
        if found := re.search(pattern, reasoning):
            groups = found.groups()
            return (groups[row], groups[column]), int(groups[number])
    return None


def test_what_sudoku_reasoning_states_is_true(sudoku_turns: list[tuple[SudokuEnv, Grid, str]]) -> None:
    certain = 0
    for _, grid, text in sudoku_turns:
        reasoning = parse_response(text).reasoning
        listed = re.search(r"(?:Empty:|need|open:) ([^.]*)\.", reasoning)
        assert listed is not None
        cells = [(int(row) - 1) * 4 + int(column) - 1 for row, column in re.findall(r"row (\d) col (\d)", listed[1])]
        assert cells == [cell for cell, number in enumerate(grid) if number == 0]
        if (plan := sudoku_plan(text)) is not None:
            place, number = plan
            assert fits(grid, place) == {number}
            taken = re.search(r"(\d), (\d) and (\d) are taken", reasoning)
            assert taken is not None and {int(one) for one in taken.groups()} == {1, 2, 3, 4} - {number}
            certain += 1
    # With three empty cells one of them is always certain, until a number was placed that fits and is wrong.
    assert certain > 0.9 * len(sudoku_turns)


def test_a_sudoku_action_follows_the_reasoning_with_the_documented_probability_and_slips_in_one_thing(
    sudoku_turns: list[tuple[SudokuEnv, Grid, str]],
) -> None:
    followed = []
    for _, _, text in sudoku_turns:
        if (plan := sudoku_plan(text)) is not None:
            action = re.fullmatch(r"place (\d) at row (\d) col (\d)", parse_response(text).actions[0])
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
            texts.add(demonstrate_sudoku(env, np.random.default_rng(seed), 1))
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
            reasoning = parse_response(demonstrate_sudoku(env, rng, 1)).reasoning
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


def test_a_refused_action_is_no_demonstration_unless_the_task_says_so() -> None:
    def into_a_clue(env: TextEnv, rng: np.random.Generator, max_actions: int) -> str:
        assert isinstance(env, SudokuEnv)
        clue = next(cell for cell, number in enumerate(env.puzzle) if number)
        return response_text("I try.", [f"place 1 at row {clue // 4 + 1} col {clue % 4 + 1}"])

    sudoku = replace(TASKS["sudoku"], demonstrate=into_a_clue)
    assert not demonstrate(sudoku, sudoku.make_env(), seed=0, index=0).success
    with pytest.raises(RuntimeError, match="is refused"):
        demonstrate(replace(sudoku, refusals=False), sudoku.make_env(), seed=0, index=0)
    malformed = replace(sudoku, demonstrate=lambda env, rng, max_actions: "Nothing.")
    with pytest.raises(RuntimeError, match="is refused"):
        demonstrate(malformed, sudoku.make_env(), seed=0, index=0)


def test_a_demonstration_of_the_wrong_environment_is_refused() -> None:
    with pytest.raises(TypeError, match="FrozenLakeEnv"):
        demonstrate_frozenlake(SokobanEnv(), np.random.default_rng(0), 2)
    with pytest.raises(TypeError, match="SokobanEnv"):
        demonstrate_sokoban(FrozenLakeEnv(), np.random.default_rng(0), 2)
    with pytest.raises(TypeError, match="SudokuEnv"):
        demonstrate_sudoku(FrozenLakeEnv(), np.random.default_rng(0), 1)


def test_an_unknown_task_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="frozenlake"):
        find_task("chess")
    assert find_task("frozenlake") is TASKS["frozenlake"]
