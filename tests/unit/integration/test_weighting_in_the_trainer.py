"""What the trainer does between advantage and update, with TransferQueue in memory and no model."""

from __future__ import annotations

import logging

import pytest
import torch

from verl_actfocus.estimators import GRPO, GiGPO
from verl_actfocus.integration import fields, trainer
from verl_actfocus.integration.token_batch import fields_to_weight, token_batch, token_rows
from verl_actfocus.weighting import ActFocus, Span, TurnBalanced, compute_weights
from verl_actfocus.weighting.inputs import Model

from .queue_standin import handle

A, R = int(Span.ACTION), int(Span.REASONING)


def stored(spans, mask, **more):
    advantages = [[1.0] * len(row) for row in mask]
    rewards = [[0.0] * len(row) for row in mask]
    columns = {fields.SPANS: spans, "response_mask": mask, "loss_mask": mask, "advantages": advantages}
    return columns | {"rm_scores": rewards, **more}


def test_weights_are_stored_per_response_token_with_one_read_and_one_write(build):
    # The engine's outputs run over prompt and response: position t belongs to the logits that predict token t + 1.
    energy = [[9.0, -1.0, -3.0, 9.0, 9.0], [-2.0, 9.0, 9.0]]
    columns = stored([[A, A, R], [A, A]], [[1, 1, 1], [1, 0]], actfocus_input_ref_energy=energy)
    built, queue = build(ActFocus(eps=1e-12), **columns)
    metrics = {}
    built._weight_tokens(handle(2), metrics)
    # He et al. 2026, Eq. 16-18 over the action tokens -1, -3 and -2; the last token of row 1 is the environment's.
    std = (2 / 3) ** 0.5
    high, low = (1 + 0.5 * torch.sigmoid(torch.tensor(z / std)).item() for z in (1, -1))
    weights = queue.columns[fields.WEIGHTS]
    assert weights[0].tolist() == pytest.approx([high, low, 0.1])
    assert weights[1].tolist() == pytest.approx([1.25, 0.0])
    assert metrics["actfocus/signal_mean"] == pytest.approx(-2)
    assert metrics["actfocus/action_tokens"] == 3
    assert metrics[trainer.NO_ACTION_METRIC] == 0
    assert (queue.reads, queue.writes) == (1, 1)


def test_rows_one_behind_another_have_the_weights_and_turns_of_a_padded_batch(build):
    spans, mask = [[R, A, A], [A], [R, A]], [[1, 1, 1], [1], [1, 0]]
    columns = stored(spans, mask, actfocus_input_ref_energy=[[-1.0, -2.0, -4.0, 0.0], [-3.0, 0.0], [5.0, 6.0, 0.0]])
    built, _ = build(ActFocus(), **columns)
    data = built._get(handle(3), *fields_to_weight(ActFocus(), bypass=False))
    lengths = data["response_mask"].offsets().diff()
    found = []
    for by_rows, shape in ((True, (3, 3)), (False, (1, 6))):
        tokens = token_batch(data, ActFocus(), bypass=False, by_rows=by_rows)
        assert tokens.spans.shape == shape
        values = (compute_weights(ActFocus(), tokens), tokens.turns, tokens.inputs["ref_energy"])
        found.append([[row.tolist() for row in token_rows(one, lengths)] for one in values])
    assert found[0] == found[1]
    assert found[0][1] == [[0, 0, 0], [0], [0, -1]]


def test_a_signal_that_is_not_finite_is_found_in_its_trajectory(build):
    columns = stored(
        [[A, A], [A, A]], [[1, 1], [1, 1]], actfocus_input_ref_energy=[[-1.0] * 3, [-1.0, float("nan"), 0.0]]
    )
    built, _ = build(ActFocus(), **columns)
    with pytest.raises(ValueError, match=r"action token at sequence 1, position 1 is not finite"):
        built._weight_tokens(handle(2), {})


def test_groups_of_equal_returns_are_cleared_by_the_same_read_and_write_and_have_no_share(build):
    columns = stored([[A, R]] * 4, [[1, 1]] * 4, rm_scores=[[0.0, 10.8], [10.8, 0.0], [1.0, 0.0], [0.0, 0.0]])
    built, queue = build(ActFocus(beta=0.0), estimator=GRPO(), **columns)
    metrics = {}
    built._weight_tokens(handle(4), metrics)
    assert [row.tolist() for row in queue.columns["advantages"][:4]] == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert [row.tolist() for row in queue.columns["returns"][:4]] == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert metrics["actfocus/gradient_share/action"] == pytest.approx(1 / 1.1)
    assert (queue.reads, queue.writes) == (1, 1)


def test_the_policy_before_the_update_may_take_the_references_place(build):
    columns = stored([[A, A]], [[1, 1]], actfocus_input_old_energy=[[-1.0, -3.0, 0.0]])
    built, _ = build(ActFocus(signal_source="old"), **columns)
    with built._inputs_requested(batch := handle(1), Model.OLD_POLICY):
        assert batch.extra_info[fields.INPUTS] == "old_energy"
    with built._inputs_requested(batch, Model.REFERENCE):
        assert batch.extra_info[fields.INPUTS] == ""
    metrics = {}
    built._weight_tokens(batch, metrics)
    assert metrics["actfocus/signal_mean"] == pytest.approx(-2)


def test_in_bypass_mode_the_rollouts_log_probabilities_are_the_old_policys(build):
    columns = stored([[A, A]], [[1, 1]], old_log_probs=[[-1.0, -3.0]])
    built, _ = build(ActFocus(signal="nll"), bypass=True, **columns)
    metrics = {}
    built._weight_tokens(handle(1), metrics)
    assert metrics["actfocus/signal_mean"] == pytest.approx(2)


def test_tokens_that_rollout_correction_rejects_are_weighed_and_do_not_split_a_turn(build):
    columns = stored([[R] * 5], [[1, 0, 1, 0, 1]]) | {"loss_mask": [[1, 1, 1, 0, 1]]}
    built, queue = build(TurnBalanced(), **columns)
    metrics = {}
    built._weight_tokens(handle(1), metrics)
    # Two turns of 3 and 1 tokens share the weight of 4 equally.
    assert queue.columns[fields.WEIGHTS][0].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0, 2])
    assert metrics["actfocus/gradient_share/reasoning"] == 1


def test_no_action_token_in_the_first_step_is_an_error_with_an_excerpt_and_the_tags(build, tokenizer):
    ids = tokenizer.encode("I go Right", add_special_tokens=False)
    columns = stored([[R] * len(ids)], [[1] * len(ids)], responses=[ids])
    built, _ = build(ActFocus(beta=0.0), **columns)
    with pytest.raises(ValueError, match=r"<answer> … </answer>.*I go Right.*algorithm\.actfocus\.tags"):
        built._weight_tokens(handle(1), {})


def test_the_excerpt_is_of_a_response_that_was_played(build, tokenizer):
    ids = tokenizer.encode("I go Right", add_special_tokens=False)
    padding = [tokenizer.eos_token_id]
    columns = stored([[0], [R] * len(ids)], [[0], [1] * len(ids)], responses=[padding, ids])
    built, queue = build(ActFocus(beta=0.0), **columns)
    queue.padding = {0}
    with pytest.raises(ValueError, match=r"none of 1 responses has an action token.*begins: 'I go Right'"):
        built._weight_tokens(handle(2, queue.padding), {})


def test_no_action_token_later_is_a_counted_warning(build, caplog):
    columns = stored([[R, R]], [[1, 1]], responses=[[5, 6]])
    built, queue = build(ActFocus(beta=0.0), step=7, **columns)
    metrics = {}
    with caplog.at_level(logging.WARNING):
        built._weight_tokens(handle(1), metrics)
    assert metrics["actfocus/steps_without_action_tokens"] == 1
    assert "step 7: none of 1 responses has an action token" in caplog.text
    assert queue.columns[fields.WEIGHTS][0].tolist() == pytest.approx([0.1, 0.1])


def test_a_weighting_that_does_not_read_spans_has_no_use_for_action_tokens(build):
    built, _ = build(TurnBalanced(), **stored([[R, R]], [[1, 1]]))
    metrics = {}
    built._weight_tokens(handle(1), metrics)
    assert trainer.NO_ACTION_METRIC not in metrics


def test_gigpo_and_weights_take_one_read_and_one_write_and_leave_their_metric(build):
    states = torch.tensor([[0, 2**62], [0, 2**62]])
    rewards = [[0.0, 1.0], [0.0, 0.0]]
    columns = stored([[A, R]] * 2, [[1, 1]] * 2, rm_scores=rewards)
    columns |= {"advantages": [[0.7, 0.7], [-0.7, -0.7]], fields.TURN_REWARDS: rewards, fields.ANCHOR_STATES: states}
    built, queue = build(ActFocus(beta=0.0), estimator=GiGPO(omega=2.0), **columns)
    metrics = {}
    built._weight_tokens(handle(2), metrics)
    step = 2 * 0.5 / (0.5**0.5 + 1e-6)
    for name in ("advantages", "returns"):
        assert queue.columns[name][0].tolist() == pytest.approx([0.7 + step] * 2)
        assert queue.columns[name][1].tolist() == pytest.approx([-0.7 - step] * 2)
    assert queue.columns[fields.WEIGHTS][0].tolist() == pytest.approx([1.0, 0.1])
    assert metrics["actfocus/shared_state_share"] == 1
    assert (queue.reads, queue.writes) == (1, 1)
