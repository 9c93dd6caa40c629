"""A small set of demonstrations and its tokenizer, made once for all tests of the warm start."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from verl_actfocus import envs
from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.warmstart.demonstrations import Demonstration, demonstrate
from verl_actfocus.warmstart.tokenizer import build_tokenizer


@pytest.fixture(scope="session", params=sorted(envs.having("miniature")))
def task(request: pytest.FixtureRequest) -> Miniature:
    return envs.miniature(request.param)


@pytest.fixture(scope="session")
def demonstrations(task: Miniature) -> list[Demonstration]:
    env = task.make_env()
    return [demonstrate(task, env, seed=0, index=index) for index in range(300)]


@pytest.fixture(scope="session")
def tokenizer(task: Miniature, demonstrations: list[Demonstration]) -> PreTrainedTokenizerFast:
    return build_tokenizer([one.messages for one in demonstrations], bpe_size=task.vocabulary)


@pytest.fixture(scope="session")
def small_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer for FrozenLake alone, for tests that need one task only."""
    task = envs.miniature("frozenlake")
    env = task.make_env()
    return build_tokenizer([demonstrate(task, env, seed=0, index=index).messages for index in range(200)])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny models gain nothing from more threads, and lose much where cores are shared."""
    torch.set_num_threads(1)
