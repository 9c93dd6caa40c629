"""The weighted policy loss: He et al. 2026, Eq. 6."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_actfocus import weighted_policy_loss

NAN, INF = float("nan"), float("inf")
CLIP = {"clip_low": 0.2, "clip_high": 0.28}


def random_batch(seed=0, shape=(4, 9), scale=0.5, dtype=torch.float64):
    """Ratios on every side of the clip range, both signs of advantage, and padding at the ends."""
    generator = torch.Generator().manual_seed(seed)
    old_log_prob = -torch.rand(shape, generator=generator) * 3
    log_prob = old_log_prob + scale * torch.randn(shape, generator=generator)
    lengths = torch.randint(1, shape[1] + 1, (shape[0], 1), generator=generator)
    return {
        "log_prob": log_prob.to(dtype).requires_grad_(),
        "old_log_prob": old_log_prob.to(dtype),
        "advantages": torch.randn(shape, generator=generator).to(dtype),
        "response_mask": (torch.arange(shape[1]) < lengths).long(),
        "weights": (torch.rand(shape, generator=generator) * 1.5).to(dtype),
    }


def tokens_by_loop(batch, clip_low, clip_high, clip_c=None, importance_weights=None):
    """For every response token: its weight and the negated objective of Eq. 6, in plain Python."""
    rows = []
    mask = batch["response_mask"].tolist()
    for b, row in enumerate(mask):
        for t, inside in enumerate(row):
            if not inside:
                continue
            advantage = batch["advantages"][b, t].item()
            ratio = math.exp(batch["log_prob"][b, t].item() - batch["old_log_prob"][b, t].item())
            clipped = min(max(ratio, 1 - clip_low), 1 + clip_high)
            objective = min(ratio * advantage, clipped * advantage)
            if clip_c is not None and advantage < 0:
                objective = max(objective, clip_c * advantage)
            if importance_weights is not None:
                objective *= importance_weights[b, t].item()
            rows.append((batch["weights"][b, t].item(), -objective))
    return rows


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), clip_c=st.sampled_from([None, 1.3, 3.0]), scale=st.sampled_from([0.3, 2.0]))
def test_loss_is_the_weighted_mean_of_the_clipped_objective(seed, clip_c, scale):
    batch = random_batch(seed, scale=scale)
    tokens = tokens_by_loop(batch, 0.2, 0.28, clip_c)
    expected = sum(w * loss for w, loss in tokens) / sum(w for w, _ in tokens)
    loss, _ = weighted_policy_loss(**batch, **CLIP, clip_c=clip_c)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_importance_weights_multiply_the_loss_and_not_the_normaliser():
    batch = random_batch(3)
    importance = torch.rand(4, 9, dtype=torch.float64) * 2
    tokens = tokens_by_loop(batch, 0.2, 0.28, importance_weights=importance)
    expected = sum(w * loss for w, loss in tokens) / sum(w for w, _ in tokens)
    loss, _ = weighted_policy_loss(**batch, **CLIP, importance_weights=importance)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_gradient_agrees_with_finite_differences():
    batch = random_batch(5, shape=(2, 4))
    rest = {key: value for key, value in batch.items() if key != "log_prob"}

    def loss_of(log_prob):
        return weighted_policy_loss(log_prob, **rest, **CLIP, clip_c=3.0).loss

    assert torch.autograd.gradcheck(loss_of, (batch["log_prob"],))


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), clip_c=st.sampled_from([None, 3.0]), zero_share=st.sampled_from([0.0, 0.5]))
def test_weights_may_be_folded_into_the_advantages(seed, clip_c, zero_share):
    """min and clip are positively homogeneous in the advantage: one value and one gradient."""
    batch = random_batch(seed, scale=1.5)
    weights = batch["weights"] * (torch.rand(4, 9, generator=torch.Generator().manual_seed(seed)) >= zero_share)
    total = (weights * batch["response_mask"]).sum()
    if total == 0:
        return
    loss, _ = weighted_policy_loss(**{**batch, "weights": weights}, **CLIP, clip_c=clip_c)
    (gradient,) = torch.autograd.grad(loss, batch["log_prob"])

    folded = {**batch, "advantages": weights * batch["advantages"], "weights": torch.ones_like(weights)}
    folded_loss, _ = weighted_policy_loss(**folded, **CLIP, clip_c=clip_c, normalizer=total)
    (folded_gradient,) = torch.autograd.grad(folded_loss, batch["log_prob"])
    torch.testing.assert_close(folded_loss, loss)
    torch.testing.assert_close(folded_gradient, gradient)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_micro_batches_with_the_global_normalizer_add_up_to_the_whole_batch(as_tensor):
    batch = random_batch(7)
    whole, _ = weighted_policy_loss(**batch, **CLIP)
    (whole_gradient,) = torch.autograd.grad(whole, batch["log_prob"])
    total = (batch["weights"] * batch["response_mask"]).sum()
    normalizer = total if as_tensor else total.item()
    parts = [
        weighted_policy_loss(**{key: value[rows] for key, value in batch.items()}, **CLIP, normalizer=normalizer).loss
        for rows in (slice(0, 1), slice(1, 4))
    ]
    (gradient,) = torch.autograd.grad(parts[0] + parts[1], batch["log_prob"])
    torch.testing.assert_close(parts[0] + parts[1], whole)
    torch.testing.assert_close(gradient, whole_gradient)


def test_scaling_all_weights_changes_nothing():
    batch = random_batch(8)
    scaled = {**batch, "weights": batch["weights"] * 7}
    torch.testing.assert_close(weighted_policy_loss(**scaled, **CLIP).loss, weighted_policy_loss(**batch, **CLIP).loss)


def test_a_token_without_weight_has_no_gradient():
    batch = random_batch(9)
    batch["weights"][:, 0] = 0.0
    loss, _ = weighted_policy_loss(**batch, **CLIP)
    loss.backward()
    assert batch["log_prob"].grad[:, 0].eq(0).all()
    assert batch["log_prob"].grad[:, 1:].ne(0).any()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dirty_name", ["log_prob", "old_log_prob", "advantages", "weights", "importance_weights"])
def test_what_stands_outside_the_response_is_never_read(dirty_name, value):
    batch = {**random_batch(10), "importance_weights": torch.rand(4, 9, dtype=torch.float64)}
    clean, _ = weighted_policy_loss(**batch, **CLIP, clip_c=3.0)
    (clean_gradient,) = torch.autograd.grad(clean, batch["log_prob"])
    padding = batch["response_mask"] == 0
    assert padding.any()
    dirty = {**batch, dirty_name: batch[dirty_name].detach().masked_fill(padding, value)}
    dirty["log_prob"] = dirty["log_prob"].detach().requires_grad_()
    loss, metrics = weighted_policy_loss(**dirty, **CLIP, clip_c=3.0)
    (gradient,) = torch.autograd.grad(loss, dirty["log_prob"])
    assert loss.equal(clean)
    assert gradient.equal(clean_gradient)
    assert all(math.isfinite(value) for value in metrics)


@pytest.mark.parametrize("normalizer", [None, 0.0, 0, torch.tensor(0.0)])
def test_no_weight_at_all_is_a_zero_with_a_zero_gradient_and_never_nan(normalizer):
    batch = random_batch(11)
    batch["weights"] = torch.zeros_like(batch["weights"])
    batch["advantages"][0, 0] = INF  # 0 * inf must not come through
    loss, _ = weighted_policy_loss(**batch, **CLIP, clip_c=3.0, normalizer=normalizer)
    loss.backward()
    assert loss.item() == 0.0
    assert batch["log_prob"].grad.eq(0).all()


def test_a_batch_without_response_tokens_is_a_zero_too():
    batch = random_batch(12)
    batch["response_mask"] = torch.zeros_like(batch["response_mask"])
    loss, metrics = weighted_policy_loss(**batch, **CLIP)
    loss.backward()
    assert loss.item() == 0.0
    assert batch["log_prob"].grad.eq(0).all()
    assert metrics == (0.0, 0.0, 0.0)


def test_a_part_without_weight_of_a_batch_with_weight_contributes_nothing():
    batch = random_batch(13)
    batch["weights"] = torch.zeros_like(batch["weights"])
    loss, _ = weighted_policy_loss(**batch, **CLIP, normalizer=12.5)
    loss.backward()
    assert loss.item() == 0.0
    assert batch["log_prob"].grad.eq(0).all()


def test_metrics_count_tokens_without_their_weights():
    ratios = [2.0, 1.0, 0.5, 5.0, 2.0]
    log_prob = torch.tensor([ratios], dtype=torch.float64).log()
    _, metrics = weighted_policy_loss(
        log_prob,
        torch.zeros_like(log_prob),
        torch.tensor([[1.0, 1.0, -1.0, -1.0, 1.0]], dtype=torch.float64),
        torch.tensor([[1, 1, 1, 1, 0]]),
        torch.tensor([[9.0, 1.0, 0.0, 0.5, 3.0]], dtype=torch.float64),
        **CLIP,
        clip_c=3.0,
    )
    assert metrics.clip_fraction == pytest.approx(2 / 4)  # 2.0 upwards and 0.5 downwards
    assert metrics.clip_fraction_lower == pytest.approx(1 / 4)  # 5.0 with a negative advantage
    assert metrics.approx_kl == pytest.approx(-math.log(2.0 * 1.0 * 0.5 * 5.0) / 4)


def test_a_runaway_ratio_stays_finite():
    log_prob = torch.tensor([[0.0]], requires_grad=True)
    old, one = torch.tensor([[-200.0]]), torch.ones(1, 1)
    loss, _ = weighted_policy_loss(log_prob, old, -one, one, one, **CLIP)
    loss.backward()
    assert loss.item() == pytest.approx(math.exp(20.0), rel=1e-5)
    assert log_prob.grad.eq(0).all()


def test_the_gradient_does_not_reach_the_weights():
    batch = random_batch(14)
    batch["weights"].requires_grad_()
    weighted_policy_loss(**batch, **CLIP).loss.backward()
    assert batch["weights"].grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_low": -0.1}, r"clip_low.*at least 0, got -0\.1"),
        ({"clip_high": NAN}, "clip_high.*got nan"),
        ({"clip_c": 1.0}, r"clip_c.*greater than 1, got 1\.0"),
        ({"clip_c": NAN}, "clip_c.*got nan"),
        ({"normalizer": -1.0}, r"normalizer.*at least 0, got -1\.0"),
        ({"normalizer": NAN}, "normalizer.*got nan"),
        ({"normalizer": torch.tensor(INF)}, "normalizer.*got inf"),
        ({"normalizer": torch.ones(2)}, r"normalizer.*single number.*\(2,\)"),
        ({"normalizer": 0.0}, "normalizer is 0 but the weights of this batch sum to 2"),
        ({"weights": torch.tensor([[1.0, -1.0]])}, "weights.*at least 0.*sequence 0, position 1"),
        ({"weights": torch.tensor([[NAN, 1.0]])}, "weights.*finite.*sequence 0, position 0"),
        ({"weights": torch.ones(1, 3)}, r"weights.*\(1, 2\), got \(1, 3\)"),
        ({"weights": torch.ones(1, 2, dtype=torch.long)}, "weights.*floating-point.*int64"),
        ({"advantages": torch.ones(1)}, r"advantages.*got \(1,\)"),
        ({"old_log_prob": torch.ones(2, 2)}, r"old_log_prob.*got \(2, 2\)"),
        ({"importance_weights": torch.ones(1, 1)}, r"importance_weights.*got \(1, 1\)"),
        ({"response_mask": torch.ones(1, 1)}, r"response_mask.*got \(1, 1\)"),
        ({"response_mask": torch.tensor([[0.5, 1.0]])}, "response_mask.*0 and 1.*position 0"),
        ({"log_prob": torch.ones(2)}, r"log_prob.*\(sequences, positions\), got \(2,\)"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected_and_what_came(change, message):
    names = ("log_prob", "old_log_prob", "advantages", "response_mask", "weights")
    arguments = {**{name: torch.ones(1, 2) for name in names}, **CLIP, **change}
    with pytest.raises(ValueError, match=message):
        weighted_policy_loss(**arguments)
