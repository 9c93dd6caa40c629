"""Attention without copies of the keys is transformers' attention with them."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from verl_actfocus.generation import attention as shared
from verl_actfocus.generation.batch import ContinuousBatch
from verl_actfocus.generation.sampling import SamplingParams


def layer(groups: int) -> torch.nn.Module:
    module = torch.nn.Module()
    module.num_key_value_groups = groups
    return module


@pytest.mark.parametrize("groups", [1, 3, 7])
@pytest.mark.parametrize("places", [1, 5, 16])
@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_it_is_attention_to_repeated_keys(groups: int, places: int, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 2 * groups, places, 8)
    key, value = torch.randn(2, 3, 2, 20, 8)
    seen = torch.rand(3, 1, places, 20) < 0.5
    seen[..., 0] = True  # a row that sees nothing has no attention
    mask = seen if kind is torch.bool else torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
    for scaling in (None, 0.3):
        expected, _ = sdpa_attention_forward(layer(groups), query, key, value, mask, scaling=scaling)
        found, _ = shared.attention(layer(groups), query, key, value, mask, scaling=scaling)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
        assert found.shape == (3, places, 2 * groups, 8) and found.is_contiguous()


def test_no_key_is_copied_while_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = torch.randn(2, 6, 1, 8), torch.randn(2, 2, 20, 8)
    seen: list[torch.Tensor] = []
    stock = torch.nn.functional.scaled_dot_product_attention

    def spy(*args: torch.Tensor, **kwargs: object) -> torch.Tensor:
        seen.extend(args)
        return stock(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    shared.attention(layer(3), query, key, key, torch.ones(2, 1, 1, 20, dtype=torch.bool))
    assert [one.data_ptr() for one in seen] == [query.data_ptr(), key.data_ptr(), key.data_ptr()]


def model(heads: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=heads, attn_implementation="sdpa")
    return LlamaForCausalLM(config).eval()


def generated(generating: LlamaForCausalLM) -> list[float]:
    batch = ContinuousBatch(generating, slots=1, max_model_len=40, turn_ends=[0], token_ids=range(50))
    batch.add("only", list(range(1, 20)), SamplingParams(max_tokens=10, seed=1))
    while not (done := batch.step()):
        pass
    return done["only"].log_probs


def test_only_models_that_share_keys_attend_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for heads, name in {4: "sdpa", 2: shared.NAME}.items():
        generating = model(heads)
        found[heads] = generated(generating)
        assert generating.config._attn_implementation == name
    monkeypatch.setattr("verl_actfocus.generation.batch.share_keys", lambda _: None)
    assert generated(model(2)) == pytest.approx(found[2], abs=1e-5)


def test_a_model_that_has_generated_still_trains_as_before() -> None:
    ids, mask = torch.arange(1, 25).view(2, 12), torch.ones(2, 12, dtype=torch.long)
    mask[1, 8:] = 0
    gradients = []
    for generates in (False, True):
        training = model(2)
        if generates:
            generated(training)
        for padding in (None, mask):
            training(input_ids=ids, attention_mask=padding).logits[0].logsumexp(-1).sum().backward()
        gradients.append({name: weight.grad for name, weight in training.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_a_model_whose_layers_see_less_than_all_is_refused() -> None:
    config = Qwen2Config(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1,
        num_key_value_heads=1, sliding_window=4, use_sliding_window=True, max_window_layers=1,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    with pytest.raises(ValueError, match="kinds full_attention, sliding_attention are not generated with here"):
        ContinuousBatch(model, slots=1, max_model_len=8, turn_ends=[0], token_ids=range(8))


def test_a_window_that_the_configuration_gives_for_all_layers_is_refused_where_it_is_too_short() -> None:
    config = MistralConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, sliding_window=6,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    words = {"slots": 1, "turn_ends": [0], "token_ids": range(8)}
    with pytest.raises(ValueError, match="sliding_attention of 6 tokens are not generated with here"):
        ContinuousBatch(model, max_model_len=7, **words)
    ContinuousBatch(model, max_model_len=6, **words)
