"""Whether a model with veRL's fused kernels computes what it computes without them, on a device and in a dtype.

Values, inputs of the weighting and gradients, each against the complete logits of the same model. The Triton kernel
runs on a GPU alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from verl_actfocus.benchmarks.contracts import Contract, largest, largest_difference
from verl_actfocus.integration import fused
from verl_actfocus.weighting.inputs import ENGINE_INPUTS

#: Device → backends that compute there with what this package installs.
BACKENDS = {"cpu": ("torch",), "cuda": ("torch", "triton")}
#: Of sampling; any but 1, at which inputs and veRL's own values would be told apart by nothing.
TEMPERATURE = 0.7
#: Error that is allowed in float32, by backend: Triton's products are TF32, with 10 bits of mantissa (0.02 on an H100).
TOLERANCE = {"torch": 1e-3, "triton": 5e-2}
#: And in bfloat16, where the complete logits are rounded before anything is computed of them.
ROUNDED = 0.15
_INPUTS = ("ref_energy", "ref_entropy", "ref_log_prob")
_LAYERS, _HEAD = 2, 64


def check_fused_models(device: str, dtype: torch.dtype, *, tokens: int, vocabulary: int, hidden: int) -> list[Contract]:
    """Check every backend with a random model of two layers.

    Args:
        device: `cpu` or `cuda`.
        dtype: of the model, float32 or bfloat16.
        tokens: of a batch of two rows, an even number.
        vocabulary: rows of the output matrix.
        hidden: width of the model, a multiple of 2.
    """
    torch.manual_seed(0)
    plain = _model(vocabulary, hidden)
    nn.Module.to(plain, device, dtype)
    ids = torch.randint(vocabulary, (2, tokens // 2)).to(device)
    direction = torch.randn(ids.shape).to(device)
    name = str(dtype).removeprefix("torch.")
    expected, slope = _without(plain, ids, direction)
    found = []
    for backend in BACKENDS[device]:
        model = _with(plain, backend)
        values, gradient = _outputs(model, ids, direction)
        allowed = TOLERANCE[backend] if dtype == torch.float32 else ROUNDED
        steepest = max(float(one.abs().max()) for one in slope)
        away = largest(largest_difference(one, other) for one, other in zip(gradient, slope, strict=True)) / steepest
        found += [
            Contract(
                f"a model with {backend} kernels gives what it gives without", name, _apart(values, expected), allowed
            ),
            Contract(
                f"and its gradient with {backend} kernels, relative to the largest", name, away, min(allowed, 5e-2)
            ),
        ]
    return found


def _model(vocabulary: int, hidden: int) -> Qwen2ForCausalLM:
    heads = max(2, hidden // _HEAD)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=_LAYERS,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=False,
    )
    model = Qwen2ForCausalLM(config)
    # Logits with a scatter of 3, like those of a trained model; by default they would be all but equal.
    torch.nn.init.normal_(model.lm_head.weight, std=3 * hidden**-0.5)
    return model


def _with(plain: Qwen2ForCausalLM, backend: str) -> Qwen2ForCausalLM:
    """Return the same model with fused kernels; veRL changes the class, so that it gets one of its own."""

    class Fused(Qwen2ForCausalLM):
        pass

    model = Fused(plain.config)
    nn.Module.to(model, plain.device, plain.dtype)
    model.load_state_dict(plain.state_dict())
    fused.patch(model, backend)
    return model


def _trained(model: Qwen2ForCausalLM) -> Sequence[Tensor]:
    return model.lm_head.weight, model.model.layers[0].self_attn.q_proj.weight


def _without(model: Qwen2ForCausalLM, ids: Tensor, direction: Tensor) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
    labels = ids.roll(-1, dims=1)
    logits = model(input_ids=ids, use_cache=False).logits
    log_probs = (logits.float() / TEMPERATURE).log_softmax(dim=-1)
    chosen = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
    gradient = _gradient(model, chosen, entropy, direction)
    rows = logits.detach().flatten(0, 1)
    inputs = {n: ENGINE_INPUTS[n].function(rows, labels.flatten()).view(labels.shape) for n in _INPUTS}
    return {"log_probs": chosen.detach(), "entropy": entropy.detach(), **inputs}, gradient


def _outputs(model: Qwen2ForCausalLM, ids: Tensor, direction: Tensor) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
    arguments = {"input_ids": ids, "temperature": TEMPERATURE, "return_dict": True, "use_cache": False}
    with torch.no_grad():
        found = model(**arguments, weighting_inputs=_INPUTS)
    update = model(**arguments)
    gradient = _gradient(model, update.log_probs, update.entropy, direction)
    return {"log_probs": found.log_probs, "entropy": found.entropy, **found.weighting_inputs}, gradient


def _gradient(model: Qwen2ForCausalLM, log_probs: Tensor, entropy: Tensor, direction: Tensor) -> Sequence[Tensor]:
    loss = (direction.flatten() * (log_probs.flatten().float() + 0.1 * entropy.flatten().float())).sum()
    return torch.autograd.grad(loss, _trained(model))


def _apart(values: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    return largest(largest_difference(values[name].flatten(), one.flatten()) for name, one in expected.items())
