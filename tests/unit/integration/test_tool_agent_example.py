"""The example of a tool agent: the demonstrations are written in veRL's tokens, and only the right call pays."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import OmegaConf
from verl.tools.tool_registry import initialize_tools_from_config
from verl.utils.tokenizer.continuous_token import QwenContinuousTokenBuilder

from verl_actfocus.episodes.tokens import ChatML
from verl_actfocus.warmstart.tokenizer import build_tokenizer

EXAMPLE = Path(__file__).parents[3] / "examples/tool_agent"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import drawers
    import prepare

    yield prepare, drawers
    for name in ("drawers", "prepare"):
        del sys.modules[name]


def test_verl_builds_the_tool_and_it_opens_the_drawer_that_the_call_names(example) -> None:
    (tool,) = initialize_tools_from_config(EXAMPLE / "tools.yaml")
    assert OmegaConf.load(EXAMPLE / "tools.yaml").tools[0].tool_schema.function.name == tool.name == "open_drawer"

    async def opened(colour: str) -> str:
        key, _ = await tool.create(create_kwargs={"red": "a key", "green": "a map", "blue": "a map"})
        response, reward, _ = await tool.execute(key, {"colour": colour})
        await tool.release(key)
        assert reward == 0
        return response.text

    assert asyncio.run(opened("red")) == "a key"
    assert asyncio.run(opened("pink")) == "There is no pink drawer."


def test_the_last_words_alone_are_paid(example) -> None:
    _, drawers = example
    call = "<think>x</think>\n<tool_call>{}</tool_call><|im_end|>\n<|im_start|>tool\na key<|im_end|>\n"
    for said, reward in (("a key", 1.0), ("a map", 0.0), ("a key or a map", 0.0)):
        answer = f"{call}<|im_start|>assistant\n<think>Seen.</think>\n{said}<|im_end|>"
        assert drawers.compute_score("drawers", answer, "a key") == reward
    assert drawers.compute_score("drawers", f"{call}<|im_start|>assistant\n", "a key") == 0.0


def test_a_demonstration_has_the_tokens_of_verls_own_loop(example) -> None:
    prepare, _ = example
    rng = random.Random(0)
    tokenizer = build_tokenizer([prepare.demonstration(rng) for _ in range(50)], bpe_size=320)
    tokenizer.add_tokens(list(prepare.CALL_TAGS))
    messages = prepare.demonstration(rng)
    ids, mask = ChatML(tokenizer, prefill="").conversation(messages)
    builder = QwenContinuousTokenBuilder(tokenizer)
    schema = [OmegaConf.to_container(OmegaConf.load(EXAMPLE / "tools.yaml").tools[0].tool_schema)]
    runtime = builder.build_initial_tokens(messages[:2], tools=schema)
    for place in (2, 4):
        said = [*tokenizer.encode(messages[place]["content"], add_special_tokens=False), tokenizer.eos_token_id]
        runtime = builder.merge_assistant_tokens(runtime, said).token_ids
        if place == 2:
            runtime = builder.merge_context_tokens(messages[:3], messages[:4], runtime, tools=schema).token_ids
    assert ids == runtime
    # What is imitated is the call and the answer, and the call is one that veRL's parser reads.
    imitated = tokenizer.decode([token for token, own in zip(ids, mask, strict=True) if own])
    call = imitated.split("<tool_call>")[1].split("</tool_call>")[0]
    assert json.loads(call)["arguments"]["colour"] in prepare.COLOURS
