"""An entropy that is computed again in the backward pass: the same numbers, without memory for each logit."""

from __future__ import annotations

import pytest
import torch
from verl.utils.torch_functional import entropy_from_logits_with_chunking

from verl_actfocus.benchmarks.allocations import kept_bytes
from verl_actfocus.integration.entropy import recomputed_entropy

from . import gradients

CHUNK = 16
ROWS, VOCABULARY = 3 * CHUNK + 5, 200


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(ROWS, VOCABULARY)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [ROWS, CHUNK, 1, 0])
def test_entropy_is_bitwise_that_of_verl(logits, dtype, rows):
    logits = logits[:rows].to(dtype)
    found = recomputed_entropy(logits, CHUNK)
    assert found.dtype == torch.float32
    assert torch.equal(found, entropy_from_logits_with_chunking(logits, CHUNK))


@pytest.mark.parametrize(("scale", "rtol"), [(1, 0), (3, 1e-5)])
def test_gradient_is_that_of_autograd_in_double_precision(logits, scale, rtol):
    logits = scale * logits
    outer = torch.randn(ROWS)
    exact = logits.double().requires_grad_()
    log_probs = torch.log_softmax(exact, -1)
    (-(log_probs.exp() * log_probs).sum(-1) * outer).sum().backward()
    found = logits.clone().requires_grad_()
    (recomputed_entropy(found, CHUNK) * outer).sum().backward()
    torch.testing.assert_close(found.grad, exact.grad.float(), atol=1e-6, rtol=rtol)


def test_gradient_in_bfloat16_is_that_of_verl_in_steps_of_bfloat16(logits):
    gradient = []
    for function in (recomputed_entropy, entropy_from_logits_with_chunking):
        leaf = logits.bfloat16().requires_grad_()
        function(leaf, CHUNK).sum().backward()
        gradient.append(leaf.grad)
    assert gradient[0].dtype == torch.bfloat16
    torch.testing.assert_close(gradient[0], gradient[1], atol=1e-6, rtol=2**-7)


@pytest.mark.parametrize(("dtype", "stock"), [(torch.float32, 4), (torch.bfloat16, 8)])
def test_one_number_a_row_is_kept_where_verl_keeps_bytes_for_every_logit(logits, dtype, stock):
    logits = logits.to(dtype).requires_grad_()
    assert kept_bytes(recomputed_entropy, logits, CHUNK) == 4 * ROWS
    kept_by_verl = kept_bytes(entropy_from_logits_with_chunking, logits, CHUNK)
    assert kept_by_verl / logits.numel() == pytest.approx(stock, rel=0.05)


def test_the_engine_uses_it_for_entropy_in_chunks_and_its_updates_are_those_of_plain_entropy(tmp_path):
    gradients.make_model(tmp_path / "model")
    batching = {"micro_batch_size_per_gpu": 4, "use_dynamic_bsz": False, "use_remove_padding": True}
    chunked = [
        "actor_rollout_ref.actor.entropy_from_logits_with_chunking=True",
        "actor_rollout_ref.actor.entropy_from_logits_chunk_size=16",
    ]
    variants = [
        {"overrides": ["actor_rollout_ref.actor.entropy_coeff=0.1", *more], "outputs_of_a_gpu": True}
        for more in ([], chunked, [*chunked, "actor_rollout_ref.actor.entropy_checkpointing=True"])
    ]
    case = {"world": 1, "size": 8, "remove_padding": True, "batching": {**batching, "calculate_entropy": True}}
    gradients.run_ranks(tmp_path / "model", tmp_path / "out", {**case, "variants": variants}, "updates")
    plain, *others = torch.load(tmp_path / "out.0", weights_only=False)
    assert plain["entropy"] == "entropy_from_logits"
    for other in others:
        assert other["entropy"] == "recomputed_entropy"
        torch.testing.assert_close(other["gradients"], plain["gradients"], atol=1e-6, rtol=0)
        torch.testing.assert_close(other["parameters"], plain["parameters"], atol=1e-6, rtol=0)
