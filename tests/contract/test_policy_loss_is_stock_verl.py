"""With weights of 1 the weighted policy loss is veRL's own, bit for bit."""

import pytest
import torch
from verl.trainer.ppo import core_algos
from verl.workers.config import ActorConfig

from verl_actfocus import Span, TokenBatch, token_weights, weighted_policy_loss
from verl_actfocus.weighting import Uniform, compute_weights, turn_indices

SHAPE = (6, 37)


def random_batch(seed, dtype, mask_dtype, scale):
    generator = torch.Generator().manual_seed(seed)
    old_log_prob = -torch.rand(SHAPE, generator=generator) * 3
    log_prob = (old_log_prob + scale * torch.randn(SHAPE, generator=generator)).to(dtype)
    log_prob[:, 0] = old_log_prob[:, 0].to(dtype)  # ratio exactly 1: both branches of the maximum tie
    lengths = torch.randint(1, SHAPE[1] + 1, (SHAPE[0], 1), generator=generator)
    advantages = torch.randn(SHAPE, generator=generator).to(dtype)
    advantages[0] = 0.0
    return {
        "log_prob": log_prob,
        "old_log_prob": old_log_prob.to(dtype),
        "advantages": advantages,
        "response_mask": (torch.arange(SHAPE[1]) < lengths).to(mask_dtype),
    }


def value_and_gradient(loss_of, batch):
    log_prob = batch["log_prob"].clone().requires_grad_()
    loss, metrics = loss_of(**{**batch, "log_prob": log_prob})
    loss.backward()
    return loss.detach(), log_prob.grad, metrics


def actor_config(**batch_info):
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        use_dynamic_bsz=True,
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        clip_ratio_c=3.0,
    )
    config.global_batch_info.update(batch_info)
    return config


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scale", [0.05, 0.5, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("mask_dtype", [torch.int64, torch.float32, torch.bool])
@pytest.mark.parametrize("global_tokens", [None, 1000])
@pytest.mark.parametrize("rollout_correction", [False, True])
def test_uniform_weights_give_the_stock_value_gradient_and_metrics_bit_for_bit(
    seed, scale, dtype, mask_dtype, global_tokens, rollout_correction
):
    batch = random_batch(seed, dtype, mask_dtype, scale)
    generator = torch.Generator().manual_seed(seed)
    spans = torch.randint(0, len(Span), SHAPE, generator=generator)
    mask = batch["response_mask"]
    tokens = TokenBatch(spans=spans, response_mask=mask, turns=turn_indices(mask), advantages=batch["advantages"])
    weights = compute_weights(Uniform(), tokens)
    # The paper's way to write it.
    assert weights.equal(token_weights(spans, None, alpha=1.0, beta=0.0, response_mask=mask))
    importance = torch.rand(SHAPE, generator=generator) * 2 if rollout_correction else None

    def stock(**tensors):
        return core_algos.compute_policy_loss_vanilla(
            **tensors,
            loss_agg_mode="token-mean",
            config=actor_config(batch_num_tokens=global_tokens),
            rollout_is_weights=importance,
        )

    def ours(**tensors):
        return weighted_policy_loss(
            **tensors,
            weights=weights,
            clip_low=0.2,
            clip_high=0.28,
            clip_c=3.0,
            normalizer=global_tokens,
            importance_weights=importance,
        )

    stock_loss, stock_gradient, stock_metrics = value_and_gradient(stock, batch)
    loss, gradient, metrics = value_and_gradient(ours, batch)
    assert loss.dtype == stock_loss.dtype
    assert loss.equal(stock_loss)
    assert gradient.equal(stock_gradient)
    assert gradient.ne(0).any()
    assert metrics.clip_fraction == stock_metrics["actor/pg_clipfrac"]
    assert metrics.clip_fraction_lower == stock_metrics["actor/pg_clipfrac_lower"]
    assert metrics.approx_kl == stock_metrics["actor/ppo_kl"]


def test_other_weights_do_not_give_the_stock_loss():
    batch = random_batch(0, torch.float32, torch.int64, 0.5)
    spans = torch.randint(0, len(Span), SHAPE, generator=torch.Generator().manual_seed(0))
    weights = token_weights(spans, None, alpha=0.1, beta=0.0, response_mask=batch["response_mask"])
    stock_loss, _ = core_algos.compute_policy_loss_vanilla(**batch, config=actor_config())
    loss, _ = weighted_policy_loss(**batch, weights=weights, clip_low=0.2, clip_high=0.28, clip_c=3.0)
    assert not torch.isclose(loss, stock_loss)
