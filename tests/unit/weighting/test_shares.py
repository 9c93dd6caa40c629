"""Where tokens, weight and gradient lie."""

import pytest
import torch

from verl_actfocus import Span, TokenBatch
from verl_actfocus.weighting import share_metrics, turn_indices

N, R, A = int(Span.NONE), int(Span.REASONING), int(Span.ACTION)


def test_shares_and_mean_weights_are_those_of_a_hand_computed_batch():
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    batch = TokenBatch(
        spans=torch.tensor([[R, R, N, A], [R, A, A, 0]]),
        response_mask=mask,
        turns=turn_indices(mask),
        advantages=torch.tensor([[1.0, 1.0, 1.0, 1.0], [-2.0, -2.0, -2.0, 5.0]]),
    )
    metrics = share_metrics(batch, torch.tensor([[0.5, 0.5, 0.0, 1.0], [0.5, 1.0, 1.0, 0.0]]))
    # 3 reasoning tokens × 0.5, 1 other × 0, 3 action × 1; Σ w = 4.5; Σ w|A| = (0.5+0.5+1) + (1+2+2) = 7
    assert metrics["token_share/action"] == pytest.approx(3 / 7)
    assert metrics["weight_share/action"] == pytest.approx(3 / 4.5)
    assert metrics["weight_share/none"] == 0
    assert metrics["gradient_share/action"] == pytest.approx(5 / 7)
    assert metrics["gradient_share/reasoning"] == pytest.approx(2 / 7)
    assert metrics["mean_weight/reasoning"] == pytest.approx(0.5)
    assert metrics["action_tokens"] == 3


def test_shares_of_nothing_are_left_out_and_not_called_zero():
    none = torch.zeros(1, 2, dtype=torch.long)
    batch = TokenBatch(spans=none, response_mask=none, turns=turn_indices(none), advantages=torch.ones(1, 2))
    assert share_metrics(batch, torch.zeros(1, 2)) == {"action_tokens": 0}


def test_a_step_without_advantages_has_no_gradient_to_share():
    # As in a step in which no prompt group has two different rewards.
    mask = torch.ones(1, 2, dtype=torch.long)
    batch = TokenBatch(
        spans=torch.tensor([[R, A]]), response_mask=mask, turns=turn_indices(mask), advantages=torch.zeros(1, 2)
    )
    metrics = share_metrics(batch, torch.tensor([[0.1, 1.4]]))
    assert not [name for name in metrics if name.startswith("gradient_share")]
    assert metrics["weight_share/action"] == pytest.approx(1.4 / 1.5)
    assert "mean_weight/none" not in metrics and metrics["token_share/none"] == 0
