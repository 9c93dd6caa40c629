"""What the tiny models imitate: well-formed, true in its reasoning, noisy in its actions."""

from __future__ import annotations

import re

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from verl_actfocus.envs import make
from verl_actfocus.envs._sokoban_rooms import Room
from verl_actfocus.envs.experts.frozenlake import action_value, state_values
from verl_actfocus.envs.frozenlake import ACTIONS, FrozenLakeEnv
from verl_actfocus.envs.sokoban import SokobanEnv
from verl_actfocus.interaction import parse_response
from verl_actfocus.warmstart.demonstrations import FOLLOW, demonstrate_frozenlake, demonstrate_sokoban
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


def test_reasoning_tokens_outnumber_action_tokens_about_ten_to_one(
    demonstrations: list[Demonstration], tokenizer: PreTrainedTokenizerFast
) -> None:
    assert 6 <= token_ratio(demonstrations, tokenizer) <= 14


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


def test_a_demonstration_of_the_wrong_environment_is_refused() -> None:
    with pytest.raises(TypeError, match="FrozenLakeEnv"):
        demonstrate_frozenlake(SokobanEnv(), np.random.default_rng(0), 2)
    with pytest.raises(TypeError, match="SokobanEnv"):
        demonstrate_sokoban(FrozenLakeEnv(), np.random.default_rng(0), 2)


def test_an_unknown_task_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="frozenlake"):
        find_task("chess")
    assert find_task("frozenlake") is TASKS["frozenlake"]
