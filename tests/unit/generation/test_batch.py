"""Continuous batching generates what the model alone would, whatever else is in the batch."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from verl_actfocus.generation.batch import ContinuousBatch
from verl_actfocus.generation.passes import ROWS, WIDTH
from verl_actfocus.generation.sampling import SamplingParams

EOS = 1


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.5,  # far from uniform, so that wrong positions or masks change the tokens
    )
    return Qwen2ForCausalLM(config).eval()


def engine(model, slots=4, max_model_len=96, turn_ends=(EOS,), token_ids=range(50)):
    return ContinuousBatch(model, slots=slots, max_model_len=max_model_len, turn_ends=turn_ends, token_ids=token_ids)


def run(batch: ContinuousBatch) -> dict:
    finished = {}
    while batch.busy:
        finished.update(batch.step())
    return finished


@contextmanager
def tokens_fed(model) -> Iterator[list[int]]:
    """Number of tokens of every forward pass, padding included."""
    counts: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: counts.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        yield counts
    finally:
        hook.remove()


def full_forward_log_probs(model, prompt, tokens, temperature):
    with torch.no_grad():
        logits = model(torch.tensor([prompt + tokens])).logits[0] / temperature
    rows = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
    return rows[torch.arange(len(tokens)), tokens]


def greedy_alone(model, prompt, steps):
    tokens = []
    with torch.no_grad():
        while len(tokens) < steps:
            tokens.append(int(model(torch.tensor([prompt + tokens])).logits[0, -1].argmax()))
            if tokens[-1] == EOS:
                break
    return tokens


def random_prompts(count, seed=0):
    rng = random.Random(seed)
    return [[rng.randrange(2, 50) for _ in range(rng.randrange(1, 20))] for _ in range(count)]


def test_greedy_tokens_are_those_of_the_model_alone_with_more_requests_than_slots(model):
    prompts = random_prompts(11)
    batch = engine(model, slots=3)
    for n, prompt in enumerate(prompts):
        batch.add(str(n), prompt, SamplingParams(max_tokens=5 + n, temperature=0))
    finished = run(batch)
    assert len(finished) == 11
    for n, prompt in enumerate(prompts):
        assert finished[str(n)].token_ids == greedy_alone(model, prompt, 5 + n)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.7])
def test_sampling_log_probabilities_equal_a_full_forward_pass(model, temperature):
    prompts = random_prompts(8, seed=1)
    batch = engine(model)
    for n, prompt in enumerate(prompts):
        batch.add(str(n), prompt, SamplingParams(max_tokens=12, temperature=temperature, seed=n))
    for n, generated in ((int(k), g) for k, g in run(batch).items()):
        expected = full_forward_log_probs(model, prompts[n], generated.token_ids, temperature)
        torch.testing.assert_close(torch.tensor(generated.log_probs), expected, atol=1e-4, rtol=0)


def test_a_later_turn_reuses_what_the_slot_holds_and_changes_nothing(model):
    batch = engine(model, slots=2)
    prompt = random_prompts(1, seed=2)[0]
    new = len(prompt)
    for turn in range(4):
        batch.add(f"turn {turn}", prompt, SamplingParams(max_tokens=6, temperature=0))
        with tokens_fed(model) as fed:
            tokens = run(batch)[f"turn {turn}"].token_ids
        assert tokens == greedy_alone(model, prompt, 6)
        # What is new in the prompt, in whole widths, and what was sampled but for the last token, in whole rows.
        assert sum(fed) == ROWS * (len(tokens) - 1) + math.ceil(new / WIDTH) * WIDTH
        prompt = prompt + tokens + [7, 8, 9 + turn]
        new = 1 + 3  # that last token, and the message


def test_identical_prompts_share_a_prefill_and_keep_their_own_samples(model):
    prompt = random_prompts(1, seed=3)[0] + [4, 5, 6]
    batch = engine(model, slots=6)
    for n in range(6):
        batch.add(str(n), prompt, SamplingParams(max_tokens=10, seed=n))
    with tokens_fed(model) as fed:
        assert batch.step() == {}
    assert sum(fed) == math.ceil(len(prompt) / WIDTH) * WIDTH
    finished = run(batch)
    for generated in finished.values():
        expected = full_forward_log_probs(model, prompt, generated.token_ids, 1.0)
        torch.testing.assert_close(torch.tensor(generated.log_probs), expected, atol=1e-4, rtol=0)
    assert len({tuple(generated.token_ids) for generated in finished.values()}) > 1


def test_groups_of_identical_prompts_do_not_mix_with_each_other(model):
    prompts = [[*prompt, 4, 5, 6] for prompt in random_prompts(4, seed=7)]
    batch = engine(model, slots=16)
    for n in range(16):
        batch.add(str(n), prompts[n // 4], SamplingParams(max_tokens=8, seed=n))
    for n, generated in ((int(k), g) for k, g in run(batch).items()):
        expected = full_forward_log_probs(model, prompts[n // 4], generated.token_ids, 1.0)
        torch.testing.assert_close(torch.tensor(generated.log_probs), expected, atol=1e-4, rtol=0)


def test_a_seeded_response_does_not_depend_on_its_company(model):
    prompts = random_prompts(5, seed=4)
    alone = engine(model)
    alone.add("x", prompts[0], SamplingParams(max_tokens=15, seed=42))
    crowded = engine(model)
    for n, prompt in enumerate(prompts[1:]):
        crowded.add(str(n), prompt, SamplingParams(max_tokens=15, seed=n))
    crowded.add("x", prompts[0], SamplingParams(max_tokens=15, seed=42))
    assert run(alone)["x"].token_ids == run(crowded)["x"].token_ids


def test_stop_reasons_tell_the_end_token_from_the_limits(model):
    batch = engine(model, slots=2, max_model_len=12, turn_ends=range(50))
    batch.add("ends", [3, 4], SamplingParams(max_tokens=5))
    assert run(batch)["ends"].stop_reason == "completed"
    batch = engine(model, slots=2, max_model_len=12, turn_ends=[999])
    batch.add("tokens", [3, 4], SamplingParams(max_tokens=5))
    batch.add("length", [3, 4, 5], SamplingParams(max_tokens=50))
    finished = run(batch)
    assert (finished["tokens"].stop_reason, len(finished["tokens"].token_ids)) == ("length", 5)
    assert (finished["length"].stop_reason, len(finished["length"].token_ids)) == ("length", 9)


def test_aborted_requests_return_what_they_have(model):
    batch = engine(model, slots=1)
    batch.add("running", [3, 4], SamplingParams(max_tokens=50, temperature=0))
    batch.add("waiting", [3, 5], SamplingParams(max_tokens=50))
    for _ in range(3):
        batch.step()
    aborted = batch.abort()
    assert not batch.busy
    assert aborted["running"].stop_reason == aborted["waiting"].stop_reason == "aborted"
    assert aborted["running"].token_ids == greedy_alone(model, [3, 4], 3)
    assert aborted["waiting"].token_ids == []


def test_kept_keys_are_forgotten_when_the_weights_change(model):
    other = Qwen2ForCausalLM(model.config).eval()
    batch = engine(model)
    batch.add("a", [3, 4, 5, 6], SamplingParams(max_tokens=3, temperature=0))
    first = run(batch)["a"].token_ids
    batch.model = other
    batch.forget_cache()
    prompt = [3, 4, 5, 6, *first, 7]
    batch.add("b", prompt, SamplingParams(max_tokens=6, temperature=0))
    assert run(batch)["b"].token_ids == greedy_alone(other, prompt, 6)


def test_weights_cannot_change_under_a_running_request(model):
    batch = engine(model)
    batch.add("a", [3, 4], SamplingParams(max_tokens=5))
    with pytest.raises(RuntimeError, match="running"):
        batch.forget_cache()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "empty"),
        ([2] * 96, r"96 tokens.*model length of 96.*max_model_len"),
        ([2, 50], r"holds token 50, and the model's embedding has 50 rows"),
        ([2, -1], r"holds token -1"),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_refused(model, prompt, message):
    with pytest.raises(ValueError, match=message):
        engine(model).add("a", prompt, SamplingParams(max_tokens=1))


# ---- logits that are no distribution ------------------------------------------------------------------------------


def damaged_copy(model):
    damaged = Qwen2ForCausalLM(model.config).eval()
    damaged.load_state_dict(model.state_dict())
    with torch.no_grad():
        damaged.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    return damaged


def test_a_model_with_one_nan_weight_is_named_with_request_position_and_weight(model):
    batch = engine(damaged_copy(model))
    batch.add("3-1", [4, 5, 6], SamplingParams(max_tokens=4))
    message = (
        r"logits hold NaN for token 0 of the response to request 3-1 \(position 3\); "
        r"the weight model\.layers\.1\.mlp\.up_proj\.weight is not finite"
    )
    with pytest.raises(ValueError, match=message):
        run(batch)


def test_an_overflow_in_a_model_of_finite_weights_is_told_from_a_damaged_one(model):
    huge = Qwen2ForCausalLM(model.config).eval()
    with torch.no_grad():
        huge.lm_head.weight.fill_(3e38)
    batch = engine(huge)
    batch.add("a", [4, 5, 6], SamplingParams(max_tokens=4))
    with pytest.raises(ValueError, match=r"weights are all finite, so that torch\.float32 overflowed"):
        run(batch)


# ---- an embedding with more rows than the tokenizer has tokens ----------------------------------------------------


def test_a_batch_samples_ids_of_the_tokenizer_alone_and_agrees_with_a_full_forward_pass(model):
    known = [token for token in range(2, 41) if token != 17]  # a gap, and ten rows of padding
    batch = engine(model, token_ids=known)
    prompts = random_prompts(12, seed=5)
    for n, prompt in enumerate(prompts):
        batch.add(str(n), prompt, SamplingParams(max_tokens=16, temperature=1.5, seed=n))
    finished = run(batch)
    assert {token for one in finished.values() for token in one.token_ids} <= set(known)
    for n, generated in ((int(k), g) for k, g in finished.items()):
        expected = full_forward_log_probs(model, prompts[n], generated.token_ids, 1.5)
        torch.testing.assert_close(torch.tensor(generated.log_probs), expected, atol=1e-4, rtol=0)


# ---- ends of turn -------------------------------------------------------------------------------------------------


def test_a_request_may_bring_ends_of_its_own(model):
    batch = engine(model, turn_ends=[999])
    batch.add("own", [3, 4], SamplingParams(max_tokens=5, stop_token_ids=tuple(range(50))))
    batch.add("none", [3, 4], SamplingParams(max_tokens=5))
    finished = run(batch)
    assert (finished["own"].stop_reason, len(finished["own"].token_ids)) == ("completed", 1)
    assert (finished["none"].stop_reason, len(finished["none"].token_ids)) == ("length", 5)


def test_an_end_of_turn_at_the_limit_is_an_end(model):
    first = greedy_alone(model, [3, 4], 3)
    batch = engine(model, turn_ends=[first[-1]])
    limit = first.index(first[-1]) + 1
    batch.add("a", [3, 4], SamplingParams(max_tokens=limit, temperature=0))
    assert run(batch)["a"].stop_reason == "completed"
