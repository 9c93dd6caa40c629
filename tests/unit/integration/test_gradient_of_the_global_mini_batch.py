"""The gradient that reaches the optimizer is that of Eq. 6 over the global mini-batch.

Every case runs veRL's FSDP engine in separate gloo processes and compares with a token-by-token evaluation on the plain
Hugging Face model.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from verl_actfocus.integration import fields
from verl_actfocus.weighting.inputs import ENGINE_INPUTS

from . import gradients

SIZE = 8
#: Nothing but the way the same eight trajectories are split differs between the cases.
CASES = {
    "one micro-batch": {"world": 1, "batching": {"micro_batch_size_per_gpu": 8, "use_dynamic_bsz": False}},
    "several micro-batches of unequal length": {
        "world": 1,
        "batching": {"micro_batch_size_per_gpu": 2, "use_dynamic_bsz": False},
    },
    "dynamic batch size": {"world": 1, "batching": {"max_token_len_per_gpu": 40, "use_dynamic_bsz": True}},
    # As the CPU engine does it where four rows and more fit into a micro-batch.
    "sorted by length": {"world": 1, "batching": {"max_token_len_per_gpu": 80, "use_dynamic_bsz": True}},
    "two ranks with unequal token counts": {
        "world": 2,
        "strategy": "fsdp2",
        "batching": {"micro_batch_size_per_gpu": 2, "use_dynamic_bsz": False},
    },
    "two ranks, FSDP1": {
        "world": 2,
        "batching": {"micro_batch_size_per_gpu": 4, "use_dynamic_bsz": False},
    },
    "padding removed": {
        "world": 1,
        "remove_padding": True,
        "batching": {"micro_batch_size_per_gpu": 2, "use_dynamic_bsz": False, "use_remove_padding": True},
    },
    "prompts shared in passes without a gradient": {
        "world": 1,
        "batching": {"micro_batch_size_per_gpu": 4, "use_dynamic_bsz": False},
        "entries": {fields.SHARE_PROMPTS: True},
    },
    "fused kernels": {
        "world": 1,
        "batching": {"micro_batch_size_per_gpu": 2, "use_dynamic_bsz": False, "use_fused_kernels": True},
        "overrides": ["actor_rollout_ref.model.use_fused_kernels=True"],
    },
    "fused kernels, padding removed, two ranks": {
        "world": 2,
        "strategy": "fsdp2",
        "remove_padding": True,
        "batching": {"max_token_len_per_gpu": 40, "use_dynamic_bsz": True}
        | {"use_remove_padding": True, "use_fused_kernels": True},
        "overrides": ["actor_rollout_ref.model.use_fused_kernels=True"],
    },
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    gradients.make_model(folder)
    return folder


def engine_result(model: Path, out: Path, case: dict, what: str = "gradient") -> dict:
    """Run one case on its ranks and return what rank 0 saved."""
    gradients.run_ranks(model, out, {"size": SIZE, **case}, what)
    return torch.load(out)


def expected_gradient(model: Path, chosen: list[int] | None = None) -> dict[str, torch.Tensor]:
    """The gradient of Eq. 6 over the chosen trajectories, all of them by default."""
    from transformers import Qwen2ForCausalLM

    reference = Qwen2ForCausalLM.from_pretrained(model, dtype=torch.float32)
    batch = gradients.make_batch(SIZE)
    rows = {name: [values[n] for n in chosen or range(SIZE)] for name, values in batch.items()}
    gradients.brute_force_loss(reference, rows, low=0.2, high=0.28).backward()
    return {name: p.grad for name, p in reference.named_parameters()}


@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_the_brute_force_evaluation_of_eq_6(name, model, tmp_path):
    result = engine_result(model, tmp_path / "result.pt", CASES[name])
    expected = expected_gradient(model)
    assert result["gradient"].keys() == expected.keys()
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 1e-2
    for parameter, gradient in expected.items():
        torch.testing.assert_close(result["gradient"][parameter], gradient, atol=1e-6, rtol=1e-5, msg=parameter)
    assert result["moved"]
    assert result["skipped"] == 0


def test_with_a_fixed_normalizer_the_gradient_is_divided_by_it_and_not_by_the_mini_batch(model, tmp_path):
    batching = {"micro_batch_size_per_gpu": 2, "use_dynamic_bsz": False}
    case = {"world": 2, "batching": batching, "entries": {fields.FIXED_NORMALIZER: 7.0}}
    result = engine_result(model, tmp_path / "result.pt", case)
    weight = float(sum(weights.sum() for weights in gradients.make_batch(SIZE)["actfocus_weights"]))
    for parameter, gradient in expected_gradient(model).items():
        torch.testing.assert_close(
            result["gradient"][parameter], gradient * weight / 7.0, atol=1e-6, rtol=1e-5, msg=parameter
        )


def test_divided_by_the_tokens_the_weights_change_the_size_of_the_step(model, tmp_path):
    batching = {"micro_batch_size_per_gpu": 2, "use_dynamic_bsz": False}
    case = {"world": 2, "batching": batching, "entries": {fields.NORMALIZE_BY_TOKENS: True}}
    result = engine_result(model, tmp_path / "result.pt", case)
    batch = gradients.make_batch(SIZE)
    weight = float(sum(weights.sum() for weights in batch["actfocus_weights"]))
    tokens = int(sum(mask.sum() for mask in batch["response_mask"]))
    assert tokens != pytest.approx(weight, rel=0.1)
    for parameter, gradient in expected_gradient(model).items():
        torch.testing.assert_close(
            result["gradient"][parameter], gradient * weight / tokens, atol=1e-6, rtol=1e-5, msg=parameter
        )


def test_micro_batches_normalised_by_themselves_are_averaged(model, tmp_path):
    batching = {"micro_batch_size_per_gpu": 2, "use_dynamic_bsz": False}
    case = {"world": 2, "batching": batching, "entries": {fields.NORMALIZE_MICRO_BATCHES: True}}
    result = engine_result(model, tmp_path / "result.pt", case)
    # Rank 0 has the even trajectories, rank 1 the odd ones.
    split = [[0, 2], [4, 6], [1, 3], [5, 7]]
    parts = [expected_gradient(model, chosen) for chosen in split]
    whole = expected_gradient(model)
    assert any(not torch.allclose(sum(part[name] for part in parts) / 4, whole[name], rtol=1e-2) for name in whole)
    for parameter, gradient in result["gradient"].items():
        expected = sum(part[parameter] for part in parts) / len(parts)
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5, msg=parameter)


def test_an_update_without_any_weight_is_skipped_and_counted(model, tmp_path):
    case = {"world": 1, "zero_weights": True, "batching": {"micro_batch_size_per_gpu": 4, "use_dynamic_bsz": False}}
    result = engine_result(model, tmp_path / "result.pt", case)
    assert not result["moved"]
    assert result["skipped"] == 1
    assert result["grad_norm"] == 0
    assert all(torch.isfinite(gradient).all() for gradient in result["gradient"].values())


@pytest.mark.parametrize(
    ("name", "temperature"),
    [
        ("several micro-batches of unequal length", 0.7),
        ("several micro-batches of unequal length", 1.0),
        ("dynamic batch size", 0.7),
        ("sorted by length", 0.7),
        ("padding removed", 0.7),
        ("padding removed", 1.0),
        ("fused kernels", 0.7),
        ("fused kernels, padding removed, two ranks", 0.7),
    ],
)
def test_inputs_belong_to_the_token_they_predict_and_are_taken_at_temperature_1(name, temperature, model, tmp_path):
    case = {**CASES[name], "temperature": temperature}
    result = engine_result(model, tmp_path / "result.pt", case, what="outputs")
    from transformers import Qwen2ForCausalLM

    reference = Qwen2ForCausalLM.from_pretrained(model, dtype=torch.float32)
    rows = gradients.make_batch(SIZE)
    for n, ids in enumerate(rows["input_ids"]):
        start = len(rows["prompts"][n])
        with torch.no_grad():
            logits = reference(ids.unsqueeze(0)).logits[0, start - 1 : -1].double()
        log_probs = torch.log_softmax(logits, -1)
        tokens = rows["responses"][n].unsqueeze(1)
        entropy, log_prob = -(log_probs.exp() * log_probs).sum(-1), log_probs.gather(1, tokens).squeeze(1)
        inputs = {
            "ref_energy": -torch.logsumexp(logits, -1),
            "ref_entropy": entropy,
            "ref_log_prob": log_prob,
            "old_log_prob": log_prob,
            "old_entropy": entropy,
            "old_energy": -torch.logsumexp(logits, -1),
            "old_sum_pi_squared": (log_probs.exp() ** 2).sum(-1),
        }
        assert inputs.keys() == ENGINE_INPUTS.keys()
        expected = {
            **{fields.INPUT_PREFIX + name: values for name, values in inputs.items()},
            # veRL's own output is at the sampling temperature.
            "log_probs": torch.log_softmax(logits / temperature, -1).gather(1, tokens).squeeze(1),
        }
        for output, values in expected.items():
            torch.testing.assert_close(result[output][n].double(), values, atol=1e-5, rtol=0, msg=f"{output} {n}")
