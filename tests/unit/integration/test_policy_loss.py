"""What stock veRL's loss honours is honoured by the weighted one, and its regularisers stay veRL's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
from verl.utils import tensordict_utils as tu
from verl.workers.config import ActorConfig

from verl_actfocus.integration import fields, policy_loss
from verl_actfocus.integration.policy_loss import actfocus_ppo_loss

LENGTHS = [5, 2, 7]
PROMPT = 3


def actor_config(**settings) -> ActorConfig:
    from verl.workers.config import PolicyLossConfig

    return ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        use_dynamic_bsz=True,
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        policy_loss=PolicyLossConfig(loss_mode="actfocus"),
        **settings,
    )


def nested(rows):
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


@pytest.fixture
def batch():
    """Three responses of unequal length with everything that veRL's actor loss reads."""
    generator = torch.Generator().manual_seed(3)

    def random(scale=1.0, shift=0.0):
        return [torch.randn(n, generator=generator) * scale + shift for n in LENGTHS]

    rows = SimpleNamespace(
        log_prob=random(0.4, -1.0),
        old=random(0.4, -1.0),
        ref=random(0.4, -1.0),
        entropy=[e.abs() for e in random()],
        advantages=random(),
        weights=[w.abs() for w in random()],
        importance=[w.abs() for w in random()],
        mask=[torch.ones(n, dtype=torch.long) for n in LENGTHS],
    )
    return rows


def as_data(rows, **extra):
    names = {
        "response_mask": rows.mask,
        "loss_mask": rows.mask,
        "old_log_probs": rows.old,
        "advantages": rows.advantages,
        "ref_log_prob": rows.ref,
        fields.WEIGHTS: rows.weights,
        "prompts": [torch.ones(PROMPT, dtype=torch.long)] * 3,
        "responses": [torch.ones(n, dtype=torch.long) for n in LENGTHS],
        "input_ids": [torch.ones(PROMPT + n, dtype=torch.long) for n in LENGTHS],
        **extra,
    }
    data = TensorDict({name: nested(values) for name, values in names.items()}, batch_size=3)
    total = float(sum(w.double().sum() for w in rows.weights))
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=sum(LENGTHS), global_batch_size=3)
    tu.assign_non_tensor(data, **{fields.WEIGHT_SUM: total})
    return data


def model_output(rows):
    def whole(values):  # the output for token t stands at the position that predicts it
        return nested([torch.cat([torch.zeros(PROMPT - 1), v, torch.zeros(1)]) for v in values])

    return {"log_probs": whole(rows.log_prob), "entropy": whole(rows.entropy)}


def per_token_loss(rows, n, t, low=0.2, high=0.28, dual=3.0):
    ratio = (rows.log_prob[n][t] - rows.old[n][t]).exp()
    advantage = rows.advantages[n][t]
    loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - low, 1 + high))
    return torch.minimum(loss, -advantage * dual) if advantage < 0 else loss


def brute_force(rows, importance=None):
    total, weight = 0.0, 0.0
    for n, length in enumerate(LENGTHS):
        for t in range(length):
            factor = 1.0 if importance is None else importance[n][t]
            total += float(rows.weights[n][t] * factor * per_token_loss(rows, n, t))
            weight += float(rows.weights[n][t])
    return total / weight


def test_the_policy_term_is_eq_6(batch):
    loss, metrics = actfocus_ppo_loss(actor_config(), model_output(batch), as_data(batch))
    assert float(loss) == pytest.approx(brute_force(batch), abs=1e-6)
    assert 0 < metrics["actor/pg_clipfrac"].values[0] < 1


def test_rollout_importance_weights_multiply_each_tokens_loss_and_not_the_normaliser(batch):
    data = as_data(batch, rollout_is_weights=batch.importance)
    loss, _ = actfocus_ppo_loss(actor_config(), model_output(batch), data)
    assert float(loss) == pytest.approx(brute_force(batch, batch.importance), abs=1e-6)


def test_entropy_and_kl_terms_are_verls_and_unweighted(batch):
    config = actor_config(entropy_coeff=0.3, use_kl_loss=True, kl_loss_coef=0.7, kl_loss_type="k1")
    loss, _ = actfocus_ppo_loss(config, model_output(batch), as_data(batch))
    tokens = sum(LENGTHS)
    entropy = float(sum(e.sum() for e in batch.entropy)) / tokens
    kl = float(sum((p - r).sum() for p, r in zip(batch.log_prob, batch.ref, strict=True))) / tokens
    assert float(loss) == pytest.approx(brute_force(batch) - 0.3 * entropy + 0.7 * kl, abs=1e-6)


def test_seq_mean_token_mean_is_the_mean_over_responses_of_each_weighted_mean(batch):
    loss, _ = actfocus_ppo_loss(actor_config(loss_agg_mode="seq-mean-token-mean"), model_output(batch), as_data(batch))
    means = []
    for n, length in enumerate(LENGTHS):
        weighted = sum(float(batch.weights[n][t] * per_token_loss(batch, n, t)) for t in range(length))
        means.append(weighted / float(batch.weights[n].sum()))
    assert float(loss) == pytest.approx(sum(means) / 3, abs=1e-6)


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean"])
def test_weights_of_one_give_the_stock_loss(batch, mode):
    batch.weights = [torch.ones(n) for n in LENGTHS]
    loss, _ = actfocus_ppo_loss(actor_config(loss_agg_mode=mode), model_output(batch), as_data(batch))
    padded = {name: torch.nn.utils.rnn.pad_sequence(getattr(batch, name), batch_first=True) for name in vars(batch)}
    config = actor_config(loss_agg_mode=mode)
    config.global_batch_info.update(dp_size=1, batch_num_tokens=sum(LENGTHS), global_batch_size=3)
    stock, _ = compute_policy_loss_vanilla(
        padded["old"], padded["log_prob"], padded["advantages"], padded["mask"], mode, config
    )
    assert float(loss) == pytest.approx(float(stock), abs=0 if mode == "token-mean" else 1e-6)


def test_a_batch_without_weights_is_refused(batch):
    data = as_data(batch).exclude(fields.WEIGHTS)
    with pytest.raises(RuntimeError, match="no token weights"):
        actfocus_ppo_loss(actor_config(), model_output(batch), data)


def test_the_registered_loss_alone_refuses_and_names_the_remedy():
    ones = torch.ones(1, 2)
    with pytest.raises(RuntimeError, match=r"\+actfocus=default"):
        policy_loss.policy_loss(-ones, -ones, ones, ones, config=actor_config())
