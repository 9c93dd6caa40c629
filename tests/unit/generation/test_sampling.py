"""Tokens are drawn from the distribution that was asked for, and from nothing that is none."""

from __future__ import annotations

import random

import pytest
import torch

from verl_actfocus.generation.sampling import NonFiniteLogitsError, SamplingParams, sample_tokens

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        *({"temperature": value} for value in (-1, float("nan"), float("inf"), 1e-40)),
        *({"top_p": value} for value in (0, 1.5, float("nan"))),
        *({"top_k": value} for value in (0, -2)),
    ],
)
def test_sampling_parameters_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingParams(**{"max_tokens": 4, **wrong})


def test_sampled_frequencies_follow_the_temperature_scaled_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    draws = 4000
    rng = random.Random(0)
    params = [SamplingParams(max_tokens=1, temperature=2.0)] * draws
    tokens, _ = sample_tokens(logits.repeat(draws, 1), params, [rng.random() for _ in range(draws)])
    frequencies = torch.bincount(torch.tensor(tokens), minlength=4) / draws
    torch.testing.assert_close(frequencies, torch.softmax(logits[0] / 2, 0), atol=0.03, rtol=0)


def test_top_k_and_top_p_keep_the_most_probable_tokens_only():
    logits = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    uniforms = [n / 100 for n in range(100)]
    rows = logits.repeat(100, 1)
    by_rank, _ = sample_tokens(rows, [SamplingParams(max_tokens=1, top_k=2)] * 100, uniforms)
    by_mass, _ = sample_tokens(rows, [SamplingParams(max_tokens=1, top_p=0.65)] * 100, uniforms)
    assert set(by_rank) == set(by_mass) == {0, 1}
    # Renormalised: 0.4 / 0.7 of the draws.
    assert by_rank.count(0) == by_mass.count(0) == 58


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ([0.0, NAN, 1.0], "NaN"),
        ([NAN] * 3, "NaN"),
        ([NAN, INF, -INF], "NaN"),
        ([0.0, INF, 1.0], "inf"),
        ([-INF] * 3, "-inf for every token"),
    ],
)
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_that_are_no_distribution_are_refused_with_their_row(row, found, temperature):
    logits = torch.tensor([[0.0, 1.0, 2.0], row])
    with pytest.raises(NonFiniteLogitsError, match=f"row 1 of the logits holds {found}") as refused:
        sample_tokens(logits, [SamplingParams(max_tokens=1, temperature=temperature)] * 2, [0.5, 0.5])
    assert (refused.value.row, refused.value.found) == (1, found)


@pytest.mark.parametrize("temperature", [0, 1e-5, 1.0])
def test_forbidden_tokens_are_legal_and_never_sampled(temperature):
    logits = torch.tensor([[-INF, 1.0, -INF, 2.0, -INF]]).repeat(50, 1)
    params = [SamplingParams(max_tokens=1, temperature=temperature)] * 50
    tokens, log_probs = sample_tokens(logits, params, [n / 50 for n in range(50)])
    assert set(tokens) <= {1, 3}
    assert torch.tensor(log_probs).isfinite().all()


@pytest.mark.parametrize("params", [{}, {"temperature": 0}, {"top_k": 2}, {"top_p": 0.5}])
def test_rows_without_a_token_are_never_sampled_however_likely(params):
    logits = torch.tensor([[1.0, 0.0, 2.0, 300.0, 200.0]]).repeat(100, 1)
    without_text = torch.tensor([False, True, False, True, True])
    params = [SamplingParams(max_tokens=1, **params)] * 100
    tokens, _ = sample_tokens(logits, params, [n / 100 for n in range(100)], without_text)
    assert set(tokens) <= {0, 2} and 2 in tokens


def test_tokens_keep_their_proportions_and_the_log_probability_of_the_trainers_softmax():
    logits = torch.tensor([[1.0, 0.5, 2.0, 3.0]])
    without_text = torch.tensor([False, False, False, True])
    draws = 2000
    uniforms = [(n + 0.5) / draws for n in range(draws)]
    params = [SamplingParams(max_tokens=1)] * draws
    tokens, log_probs = sample_tokens(logits.repeat(draws, 1), params, uniforms, without_text)
    frequencies = torch.bincount(torch.tensor(tokens), minlength=4) / draws
    torch.testing.assert_close(frequencies[:3], torch.softmax(logits[0, :3], 0), atol=1e-3, rtol=0)
    over_all_rows = torch.log_softmax(logits[0], 0)  # the trainer's softmax runs over the padding too
    torch.testing.assert_close(torch.tensor(log_probs), over_all_rows[torch.tensor(tokens)])


def test_a_padded_row_does_not_hide_that_every_token_is_forbidden():
    logits = torch.tensor([[-INF, -INF, 1.0]])
    with pytest.raises(NonFiniteLogitsError, match="-inf for every token"):
        sample_tokens(logits, [SamplingParams(max_tokens=1)], [0.5], torch.tensor([False, False, True]))
