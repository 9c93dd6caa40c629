"""The example of a tool agent: the demonstrations are written in veRL's tokens, and only the right call pays."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerBase
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap, ToolListWrap
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop
from verl.tools.tool_registry import initialize_tools_from_config
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer.continuous_token import QwenContinuousTokenBuilder
from verl.workers.rollout.replica import TokenOutput

from verl_actfocus.episodes import TagSettings
from verl_actfocus.episodes.tokens import ChatML, conversation
from verl_actfocus.integration.response_tagger import ResponseTagger
from verl_actfocus.warmstart.tokenizer import build_tokenizer
from verl_actfocus.weighting import Span

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


class Server:
    """Answers with prepared texts, as veRL's rollout server does."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> None:
        self.tokenizer, self.texts = tokenizer, texts

    async def generate(self, request_id: str, *, prompt_ids: list[int], **kwargs: Any) -> TokenOutput:
        ids = [*self.tokenizer.encode(self.texts.pop(0), add_special_tokens=False), self.tokenizer.eos_token_id]
        return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids), stop_reason="completed")


def test_verls_own_loop_executes_the_call_and_the_tagger_finds_it(example) -> None:
    prepare, _ = example
    rng = random.Random(0)
    tokenizer = build_tokenizer([prepare.demonstration(rng) for _ in range(50)], bpe_size=320)
    tokenizer.add_tokens(list(prepare.CALL_TAGS))
    call = '\n{"name": "open_drawer", "arguments": {"colour": "green"}}\n'
    texts = [f"<think>The green one.</think>\n<tool_call>{call}</tool_call>", "<think>Seen.</think>\na map"]
    turns = {
        "max_user_turns": None,
        "max_assistant_turns": 2,
        "max_parallel_calls": 1,
        "max_tool_response_length": 256,
        "tool_response_truncate_side": "middle",
        "format": "hermes",
    }
    rollout = {"prompt_length": 64, "response_length": 128, "multi_turn": turns, "full_determinism": False}
    config = OmegaConf.create({"actor_rollout_ref": {"rollout": rollout, "model": {}}, "data": {}})
    row = prepare.row(0, rng)
    row["extra_info"]["tools_kwargs"]["open_drawer"]["create_kwargs"]["green"] = "a map"

    async def play() -> AgentLoopOutput:
        loop = ToolAgentLoop(
            trainer_config=DictConfigWrap(config),
            server_manager=Server(tokenizer, texts.copy()),
            tokenizer=tokenizer,
            processor=None,
            dataset_cls=RLHFDataset,
            data_config=DictConfigWrap(config.data),
            tools=ToolListWrap(initialize_tools_from_config(EXAMPLE / "tools.yaml")),
            hf_model_type="qwen2",
        )
        return await loop.run({}, raw_prompt=row["prompt"], tools_kwargs=row["extra_info"]["tools_kwargs"])

    output = asyncio.run(play())
    tagger = ResponseTagger(tokenizer, TagSettings(action=prepare.CALL_TAGS))
    prompt, ids, mask = (torch.tensor(x) for x in (output.prompt_ids, output.response_ids, output.response_mask))
    spans, shown = tagger.tag(prompt, ids, mask).tolist(), tagger.texts(ids)
    assert "".join(text for text, span in zip(shown, spans, strict=True) if span == Span.ACTION) == call
    said = "".join(text for text, own in zip(shown, output.response_mask, strict=True) if not own)
    assert said == "\n<|im_start|>tool\na map<|im_end|>\n<|im_start|>assistant\n"
    assert "".join(shown).endswith("a map<|im_end|>") and output.num_turns == 4


def test_a_demonstration_has_the_tokens_of_verls_own_loop(example) -> None:
    prepare, _ = example
    rng = random.Random(0)
    tokenizer = build_tokenizer([prepare.demonstration(rng) for _ in range(50)], bpe_size=320)
    tokenizer.add_tokens(list(prepare.CALL_TAGS))
    messages = prepare.demonstration(rng)
    ids, mask = conversation(ChatML(tokenizer, prefill=""), messages)
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
