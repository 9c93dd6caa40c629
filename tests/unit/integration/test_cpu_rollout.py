"""The CPU rollout server alone, without Ray: what it samples, where it stops, and what it says when it cannot."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase
from verl.plugin.platform.platform_cuda import PlatformCUDA

from verl_actfocus import models
from verl_actfocus.episodes.tokens import ChatML
from verl_actfocus.evaluation.tokenizers import load_tokenizer
from verl_actfocus.integration.cpu import rollout
from verl_actfocus.integration.cpu.rollout import HFServer

TINY = models.folder("frozenlake")
PADDING = 31
MESSAGES = [{"role": "system", "content": "rules"}, {"role": "user", "content": "state"}]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(str(TINY / "tokenizer"))


@pytest.fixture
def server(tokenizer: PreTrainedTokenizerBase) -> HFServer:
    """A server of the tiny model, its embedding padded as Qwen2.5's is."""
    given = {"dtype": "float32", "max_num_seqs": 8, "max_model_len": 512, "prompt_length": 128, "seed": 0}
    config = AutoConfig.from_pretrained(TINY / "model")
    config.vocab_size += PADDING
    model = SimpleNamespace(hf_config=config, tokenizer=tokenizer, generation_config=None)
    return HFServer(OmegaConf.create({**given, "response_length": 384}), model, 0)


def weights(likely: float = 1.0) -> dict[str, torch.Tensor]:
    state = AutoModelForCausalLM.from_pretrained(TINY / "model").state_dict()
    rows = state["model.embed_tokens.weight"]
    padded = torch.cat([rows, likely * rows[:PADDING]])
    return {**state, "model.embed_tokens.weight": padded, "lm_head.weight": padded}


def generate(server: HFServer, state: dict[str, torch.Tensor], prompt: list[int], **params: object) -> list:
    async def ask() -> list:
        await server.update_weights(state, global_steps=3)
        sampling = {"max_tokens": 48, "temperature": 1.0, "logprobs": True, **params}
        asked = [server.generate(str(n), prompt, {**sampling, "seed": n}) for n in range(8)]
        return await asyncio.gather(*asked, return_exceptions=True)

    outputs = asyncio.run(ask())
    for output in outputs:
        if isinstance(output, Exception):
            raise output
    return outputs


def test_ids_beyond_the_tokenizer_are_not_sampled_and_log_probabilities_are_the_trainers(
    server: HFServer, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompt = ChatML(tokenizer, "<think>").first(MESSAGES)
    state = weights()  # every padded row as likely as a token of the tokenizer
    outputs = generate(server, state, prompt)
    assert max(token for output in outputs for token in output.token_ids) < len(tokenizer)
    config = AutoConfig.from_pretrained(TINY / "model")
    config.vocab_size += PADDING
    trainer = AutoModelForCausalLM.from_config(config).eval()
    trainer.load_state_dict(state)
    for output in outputs:
        with torch.no_grad():
            logits = trainer(torch.tensor([prompt + output.token_ids])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits, -1).gather(1, torch.tensor(output.token_ids).unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(torch.tensor(output.log_probs), expected, atol=1e-4, rtol=0)


def test_a_response_ends_at_the_tokens_that_the_request_names_too(
    server: HFServer, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompt = ChatML(tokenizer, "<think>").first(MESSAGES)
    outputs = generate(server, weights(), prompt, stop_token_ids=list(range(len(tokenizer))))
    assert {(len(output.token_ids), output.stop_reason) for output in outputs} == {(1, "completed")}


def test_weights_that_are_not_finite_end_the_generation_with_their_step_and_name(
    server: HFServer, tokenizer: PreTrainedTokenizerBase
) -> None:
    state = weights()
    state["model.norm.weight"][7] = float("nan")
    prompt = ChatML(tokenizer, "<think>").first(MESSAGES)
    message = r"weights of step 3 has ended: .*logits hold NaN .*the weight model\.norm\.weight is not finite"
    with pytest.raises(RuntimeError, match=message):
        generate(server, state, prompt)
    with pytest.raises(RuntimeError, match=message):  # whoever asks later
        asyncio.run(server.generate("late", prompt, {"max_tokens": 4}))


def test_a_server_on_a_gpu_sees_the_device_of_its_training_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rollout._device_variables(["0"]) == {}
    monkeypatch.setattr(rollout, "get_platform", PlatformCUDA)
    # Of an actor that asks Ray for no GPU, Ray would otherwise decide; some versions hide all of them.
    assert rollout._device_variables(["3"]) == {
        "CUDA_VISIBLE_DEVICES": "3",
        "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
    }
