"""The schemes beside ActFocus, against their definitions by loop."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_actfocus import TokenBatch
from verl_actfocus.weighting import EntropyTop, TurnBalanced, Uniform, compute_weights, turn_indices

masks = st.lists(st.lists(st.integers(0, 1), min_size=9, max_size=9), min_size=1, max_size=4)


def batch_of(mask, model_mask=None, **inputs):
    mask = torch.as_tensor(mask)
    turns = turn_indices(mask if model_mask is None else torch.as_tensor(model_mask))
    return TokenBatch(
        spans=torch.zeros_like(mask), response_mask=mask, turns=turns, advantages=mask.float(), inputs=inputs
    )


@given(mask=masks)
def test_uniform_weighs_every_response_token_one(mask):
    assert compute_weights(Uniform(), batch_of(mask)).tolist() == [[float(value) for value in row] for row in mask]
    assert Uniform().needs == ()


@settings(deadline=None)
@given(
    mask=masks,
    share=st.sampled_from([0.01, 0.2, 0.28, 0.5, 1.0]),
    values=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5]), min_size=36, max_size=36),
)
def test_entropy_top_chooses_exactly_its_share_and_the_earlier_token_among_equals(mask, share, values):
    rows = [values[9 * n : 9 * n + 9] for n in range(len(mask))]
    batch = batch_of(mask, old_entropy=torch.tensor(rows))
    weights = compute_weights(EntropyTop(share=share), batch)
    places = [(b, t) for b, row in enumerate(mask) for t, inside in enumerate(row) if inside]
    count = math.ceil(Fraction(str(share)) * len(places))
    chosen = set(sorted(places, key=lambda place: (-rows[place[0]][place[1]], place))[:count])
    expected = [[float((b, t) in chosen) for t in range(9)] for b in range(len(mask))]
    assert weights.tolist() == expected


def test_entropy_top_logs_the_lowest_entropy_that_is_trained_on():
    batch = batch_of([[1, 1, 1, 1, 1, 0]], old_entropy=torch.tensor([[0.1, 2.0, 0.3, 0.7, 0.2, 9.0]]))
    scheme = EntropyTop(share=0.4)
    weights = scheme.weights(batch)
    assert weights.tolist() == [[0, 1, 0, 1, 0, 0]]
    assert scheme.metrics(batch, weights) == {"entropy_threshold": pytest.approx(0.7)}
    assert scheme.needs == ("old_entropy",)


def test_entropy_top_of_nothing_is_nothing():
    batch = batch_of([[0, 0]], old_entropy=torch.ones(1, 2))
    weights = EntropyTop().weights(batch)
    assert weights.tolist() == [[0, 0]] and EntropyTop().metrics(batch, weights) == {}


def test_an_entropy_that_is_not_finite_is_named_unless_it_is_masked():
    entropy = torch.tensor([[1.0, float("nan")]])
    assert EntropyTop(share=1.0).weights(batch_of([[1, 0]], old_entropy=entropy)).tolist() == [[1.0, 0.0]]
    with pytest.raises(ValueError, match="entropy of the token at sequence 0, position 1 is not finite"):
        EntropyTop().weights(batch_of([[1, 1]], old_entropy=entropy))


@settings(deadline=None)
@given(mask=masks)
def test_turns_of_a_trajectory_weigh_the_same_and_a_trajectory_its_token_count(mask):
    batch = batch_of(mask)
    weights = compute_weights(TurnBalanced(), batch).double()
    for row, turns, inside in zip(weights, batch.turns, batch.response_mask, strict=True):
        tokens, count = int(inside.sum()), int(turns.max()) + 1
        for turn in range(count):
            assert row[turns == turn].sum().item() == pytest.approx(tokens / count, rel=1e-6)
            assert row[turns == turn].unique().numel() == 1
        assert row.sum().item() == pytest.approx(tokens, rel=1e-6)


def test_a_trajectory_of_one_turn_has_stock_weights():
    assert TurnBalanced().weights(batch_of([[1, 1, 1, 0, 0]])).tolist() == [[1.0, 1.0, 1.0, 0.0, 0.0]]


def test_a_turn_that_lost_tokens_to_rejection_is_still_one_turn_and_one_that_lost_all_is_none():
    # The model wrote turns of 3, 2 and 1 tokens; the middle of the first and all of the second are not trained on.
    model = [[1, 1, 1, 0, 1, 1, 0, 1]]
    trained = [[1, 0, 1, 0, 0, 0, 0, 1]]
    # 3 tokens in 2 turns: each weighs 1.5.
    assert TurnBalanced().weights(batch_of(trained, model)).tolist() == [[0.75, 0, 0.75, 0, 0, 0, 0, 1.5]]
