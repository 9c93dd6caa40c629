"""Inputs of the weighting with veRL's fused kernels are those of the plain model, and veRL's outputs stay veRL's."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM
from verl.models.transformers.dense_common import forward_with_torch_backend
from verl.models.transformers.monkey_patch import patch_forward_with_backends
from verl.utils.experimental.torch_functional import FusedLinearForPPO
from verl.utils.fsdp_utils import _select_fsdp2_wrap_targets

from verl_actfocus.integration import fused
from verl_actfocus.integration.fused import CHUNK_SIZE, projected
from verl_actfocus.weighting.inputs import ENGINE_INPUTS

VOCABULARY = 300
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
NAMES = list(ENGINE_INPUTS)


class LargestTensor(TorchDispatchMode):
    """Remembers the elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        found = result if isinstance(result, (tuple, list)) else [result]
        sizes = [tensor.numel() for tensor in found if isinstance(tensor, torch.Tensor)]
        self.elements = max(self.elements, *sizes) if sizes else self.elements
        return result


@pytest.fixture
def rows():
    torch.manual_seed(0)
    return torch.randn(2 * CHUNK_SIZE + 7, 16), 0.5 * torch.randn(VOCABULARY, 16)


@pytest.fixture
def labels(rows):
    return torch.randint(VOCABULARY, (len(rows[0]),))


@pytest.fixture
def make_model(monkeypatch):
    """Builds a model with veRL's fused forward pass; veRL patches the class, which is undone after the test."""

    def make(backend: str) -> Qwen2ForCausalLM:
        torch.manual_seed(0)
        config = Qwen2Config(vocab_size=VOCABULARY, num_key_value_heads=1, tie_word_embeddings=False, **SIZES)
        model = Qwen2ForCausalLM(config)
        patch_forward_with_backends(model, use_fused_kernels=True, fused_kernels_backend=backend)
        return model

    monkeypatch.setattr(Qwen2ForCausalLM, "forward", Qwen2ForCausalLM.forward)
    return make


@pytest.fixture
def ids():
    return torch.randint(VOCABULARY, (2, CHUNK_SIZE), generator=torch.Generator().manual_seed(1))


def expected_inputs(hidden: torch.Tensor, matrix: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """All inputs out of the complete logits, in float64."""
    logits = hidden.double() @ matrix.double().t()
    log_probs = torch.log_softmax(logits, -1)
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    chosen = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    squares = log_probs.exp().square().sum(-1)
    values = {
        "energy": -torch.logsumexp(logits, -1),
        "entropy": entropy,
        "log_prob": chosen,
        "sum_pi_squared": squares,
    }
    return {name: values[name.split("_", 1)[1]].float() for name in NAMES}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_of_verl_are_bitwise_those_of_its_own_torch_backend(rows, labels, dtype, temperature):
    hidden, matrix = (tensor.to(dtype) for tensor in rows)
    log_probs, entropy = FusedLinearForPPO().forward(hidden, matrix, labels, temperature)
    found = projected(hidden, matrix, labels, NAMES, temperature, with_entropy=True)
    assert found.log_probs.dtype == torch.float32 and torch.equal(found.log_probs, log_probs)
    assert found.entropy.dtype == dtype and torch.equal(found.entropy, entropy)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_inputs_are_those_of_the_complete_logits_at_temperature_1(rows, labels, temperature):
    found = projected(*rows, labels, NAMES, temperature, with_entropy=False)
    assert found.entropy is None
    for name, values in expected_inputs(*rows, labels).items():
        torch.testing.assert_close(found.inputs[name], values, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("backend", ["torch", "liger"])
def test_a_model_returns_the_inputs_and_otherwise_what_verl_returns(make_model, ids, backend, gradient):
    model = make_model(backend)
    fused.install(model)
    arguments = {"input_ids": ids, "temperature": 0.7, "return_dict": True, "use_cache": False}
    with torch.set_grad_enabled(gradient):
        stock = model(**arguments)
        found = model(**arguments, weighting_inputs=NAMES)
    assert torch.equal(found.log_probs, stock.log_probs)
    assert torch.equal(found.entropy, stock.entropy)
    assert (found.log_probs.grad_fn is not None) == gradient
    with torch.no_grad():
        hidden = model.model(input_ids=ids)[0]
    for name, values in expected_inputs(hidden, model.lm_head.weight.detach(), ids.roll(-1, dims=1)).items():
        torch.testing.assert_close(found.weighting_inputs[name], values, atol=1e-5, rtol=0, msg=name)


def test_triton_keeps_its_outputs_and_the_inputs_come_from_a_second_product(make_model, ids, monkeypatch):
    """The kernel itself needs a GPU; veRL's torch function stands in for it."""
    kernel = "verl.utils.kernel.linear_cross_entropy.linear_cross_entropy"
    monkeypatch.setattr(
        kernel,
        lambda hidden, matrix, labels, temperature, reduction: FusedLinearForPPO().forward(
            hidden, matrix, labels, temperature
        ),
    )
    model = make_model("triton")
    fused.install(model)
    labels = torch.arange(ids.numel()).view(ids.shape) % VOCABULARY
    arguments = {"input_ids": ids, "temperature": 0.7, "return_dict": True, "shift_labels": labels}
    with torch.no_grad():
        stock = model(**arguments)
        found = model(**arguments, weighting_inputs=NAMES)
        hidden = model.model(input_ids=ids)[0]
    assert torch.equal(found.log_probs, stock.log_probs) and torch.equal(found.entropy, stock.entropy)
    for name, values in expected_inputs(hidden, model.lm_head.weight, labels).items():
        torch.testing.assert_close(found.weighting_inputs[name], values, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("backend", ["torch", "liger"])
def test_more_than_one_chunk_of_logits_never_exists(make_model, ids, backend):
    model = make_model(backend)
    fused.install(model)
    with torch.no_grad(), LargestTensor() as largest:
        model(input_ids=ids, temperature=1.0, return_dict=True, weighting_inputs=["ref_energy"])
    assert largest.elements == CHUNK_SIZE * VOCABULARY < ids.numel() * VOCABULARY


def test_adapters_are_part_of_the_model_and_are_left_out_where_they_are_disabled(make_model, ids):
    """The reference model of a run with LoRA is the policy with its adapters disabled."""
    model = make_model("torch")
    fused.install(model)
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    arguments = {"input_ids": ids, "temperature": 1.0, "return_dict": True, "weighting_inputs": ["ref_log_prob"]}
    with torch.no_grad():
        with_adapters = adapted(**arguments)
        with adapted.disable_adapter():
            without = adapted(**arguments)
    for output in (with_adapters, without):
        torch.testing.assert_close(output.weighting_inputs["ref_log_prob"], output.log_probs, atol=1e-5, rtol=0)
    assert (with_adapters.log_probs - without.log_probs).abs().max() > 0.1


def test_without_inputs_the_forward_pass_is_verls(make_model, ids):
    model = make_model("torch")
    fused.install(model)
    assert model.forward.__wrapped__.__func__ is forward_with_torch_backend
    output = model(input_ids=ids, temperature=1.0, return_dict=True)
    assert not isinstance(output, fused.OutputWithInputs)
    assert output.log_probs.grad_fn is not None


def test_a_model_that_caps_its_logits_is_refused(monkeypatch):
    monkeypatch.setattr(Gemma2ForCausalLM, "forward", Gemma2ForCausalLM.forward)
    config = Gemma2Config(vocab_size=VOCABULARY, num_key_value_heads=1, head_dim=16, **SIZES)
    model = Gemma2ForCausalLM(config)
    patch_forward_with_backends(model, use_fused_kernels=True, fused_kernels_backend="torch")
    fused.install(model)
    with pytest.raises(ValueError, match=r"use_fused_kernels=True: Gemma2ForCausalLM has final_logit_softcapping=30"):
        model(input_ids=torch.ones(1, 3, dtype=torch.long), temperature=1.0, weighting_inputs=["ref_energy"])


def test_an_output_matrix_that_fsdp2_shards_by_itself_is_refused_before_it_is_sharded(make_model):
    model = make_model("torch")
    assert model.lm_head in _select_fsdp2_wrap_targets(model, ["Qwen2DecoderLayer"])
    with pytest.raises(
        ValueError, match=r"use_fused_kernels=True does not go with strategy=fsdp2 for Qwen2ForCausalLM"
    ):
        fused.check_model(model, "fsdp2")
    fused.check_model(model, "fsdp")
    model.config.tie_word_embeddings = True
    assert model.lm_head not in _select_fsdp2_wrap_targets(model, ["Qwen2DecoderLayer"])
    fused.check_model(model, "fsdp2")


def test_a_width_that_the_triton_kernel_does_not_have_is_refused_before_the_model_is_sharded(make_model):
    """SmolLM2-135M's is 576."""
    model = make_model("triton")
    with pytest.raises(ValueError, match=r"impl_backend=triton: .*multiple of 128, and Qwen2ForCausalLM has 32 here"):
        fused.check_model(model, "fsdp")
    model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCABULARY, 256))
    fused.check_model(model, "fsdp")
