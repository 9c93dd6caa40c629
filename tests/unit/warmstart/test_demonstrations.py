"""What the tiny models imitate, in every environment: well-formed, within the limits, varied, reproducible."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from verl_actfocus.envs.base import TextEnv
from verl_actfocus.envs.frozenlake.env import FrozenLakeEnv
from verl_actfocus.envs.sokoban.env import SokobanEnv
from verl_actfocus.envs.sudoku.env import SudokuEnv
from verl_actfocus.episodes import parse_response
from verl_actfocus.models.miniatures import miniature
from verl_actfocus.warmstart.demonstrations import (
    demonstrate_frozenlake,
    demonstrate_sokoban,
    demonstrate_sudoku,
    response_text,
)
from verl_actfocus.warmstart.pipeline import token_ratio
from verl_actfocus.warmstart.tasks import TASKS, Demonstration, Task, demonstrate


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
        miniature("chess")
    found = miniature("frozenlake")
    assert all(getattr(TASKS["frozenlake"], part.name) == getattr(found, part.name) for part in fields(found))
