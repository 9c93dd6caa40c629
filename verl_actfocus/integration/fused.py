"""Inputs of the weighting with veRL's fused kernels, whose forward pass never holds the logits as a whole.

With `model.use_fused_kernels=True` veRL replaces the model's forward pass by one that turns hidden states into
log-probabilities and entropies a few rows at a time (`verl/models/transformers/dense_common.py`) and returns no
logits. `install` lets such a model return functions of the raw logits beside them, where a pass asks for them.

A pass without gradient of a dense text model with the torch backend takes everything, veRL's outputs included, from
one product with the output matrix. Any other backend (Triton, Liger) or model family runs veRL's own forward pass, and
the inputs cost a second product with the matrix. Both happen inside the model's forward pass, where FSDP has gathered
that matrix.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import wraps
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput
from verl.models.transformers.dense_common import CausalLMOutputForPPO, forward_with_torch_backend
from verl.models.transformers.monkey_patch import patch_forward_with_backends

from verl_actfocus.weighting.inputs import ENGINE_INPUTS

#: Rows of logits that exist at a time, those of veRL's `FusedLinearForPPO`.
CHUNK_SIZE = 512
#: What veRL's Triton kernel divides the width of the hidden states into.
TRITON_WIDTH = 128
#: Settings of a model after which its logits are not the product of hidden states and output matrix.
LOGIT_TRANSFORMS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass
class OutputWithInputs(ModelOutput):
    """What veRL reads of a fused forward pass and, by name, inputs of the weighting; `(B, T)` each."""

    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    weighting_inputs: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Projection:
    """What the rows of `(N, V)` logits are reduced to: `(N,)` each."""

    #: float32, at the temperature of sampling.
    log_probs: Tensor
    #: In the dtype of the logits, at the temperature of sampling; None if it was not asked for.
    entropy: Tensor | None
    #: float32, at temperature 1.
    inputs: dict[str, Tensor]


@torch.no_grad()
def projected(
    hidden: Tensor, matrix: Tensor, labels: Tensor, inputs: Sequence[str], temperature: float, with_entropy: bool
) -> Projection:
    """Compute veRL's fused outputs and inputs of the weighting from the same logits, `CHUNK_SIZE` rows at a time.

    Log-probabilities and entropy are those of veRL's `FusedLinearForPPO` bit for bit, as long as it does not find
    flash-attn's kernel for them.

    Args:
        hidden: `(N, H)` last hidden states.
        matrix: `(V, H)` output matrix.
        labels: `(N,)` int64 tokens that the rows predict.
        inputs: names in `ENGINE_INPUTS`.
        temperature: of sampling; concerns log-probabilities and entropy alone.
        with_entropy: whether veRL asked for the entropy.
    """
    log_probs = hidden.new_empty(len(hidden), dtype=torch.float32)
    values = {name: torch.empty_like(log_probs) for name in inputs}
    entropies = []
    for rows, logits in _chunks(hidden, matrix):
        for name, value in values.items():
            value[rows] = ENGINE_INPUTS[name].function(logits, labels[rows])
        if temperature != 1:
            logits /= temperature  # in place: a chunk of a large vocabulary is hundreds of megabytes
        wide = logits.float()
        log_probs[rows] = wide.log_softmax(dim=-1).gather(1, labels[rows].unsqueeze(1)).squeeze(1)
        if with_entropy:
            entropies.append(_entropy(wide).to(logits.dtype))
        del logits, wide
    return Projection(log_probs, torch.cat(entropies) if with_entropy else None, values)


def _chunks(hidden: Tensor, matrix: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows and their logits; whoever iterates deletes these before it asks for the next."""
    for start in range(0, len(hidden), CHUNK_SIZE):
        rows = slice(start, start + CHUNK_SIZE)
        yield rows, hidden[rows] @ matrix.t()


def _entropy(logits: Tensor) -> Tensor:
    products = logits.softmax(dim=-1).mul_(logits)
    return torch.logsumexp(logits, dim=-1) - products.sum(dim=-1)


@torch.no_grad()
def projected_inputs(hidden: Tensor, matrix: Tensor, labels: Tensor, inputs: Sequence[str]) -> dict[str, Tensor]:
    """Compute inputs of the weighting alone; arguments as of `projected`."""
    values = {name: hidden.new_empty(len(hidden), dtype=torch.float32) for name in inputs}
    for rows, logits in _chunks(hidden, matrix):
        for name, value in values.items():
            value[rows] = ENGINE_INPUTS[name].function(logits, labels[rows])
        del logits
    return values


def check_model(model: PreTrainedModel, strategy: str) -> None:
    """Refuse what veRL's fused kernels cannot run on, before a model is sharded.

    Args:
        model: after veRL has given it a fused forward pass.
        strategy: `fsdp` or `fsdp2`.

    Raises:
        ValueError: FSDP2 would hold the output matrix in a unit of its own (`verl/utils/fsdp_utils.py`,
            `_select_fsdp2_wrap_targets`), which is gathered when the layer is called, and fused kernels do not call it.
            Or the Triton kernel has no such width (`verl/utils/kernel/kernels.py` asserts it in the first pass).
    """
    if strategy == "fsdp2" and not model.config.tie_word_embeddings:
        raise ValueError(
            "actor_rollout_ref.model.use_fused_kernels=True does not go with strategy=fsdp2 for "
            f"{type(model).__name__} with an output matrix of its own (tie_word_embeddings=False): veRL shards that "
            "matrix by itself, and the first forward pass would stop; set strategy=fsdp for actor and reference, or "
            "use_fused_kernels=False"
        )
    width = model.lm_head.weight.shape[1]
    if model._verl_fused_kernels_backend == "triton" and width % TRITON_WIDTH:
        raise ValueError(
            f"actor_rollout_ref.model.fused_kernel_options.impl_backend=triton: veRL's kernel takes hidden states "
            f"whose width is a multiple of {TRITON_WIDTH}, and {type(model).__name__} has {width} here; set "
            "impl_backend=torch"
        )


def patch(model: PreTrainedModel, backend: str) -> None:
    """Give a model veRL's fused forward pass, for which veRL changes the model's class, and let it return inputs.

    In a training run veRL's engine does the first, and this package's the second.
    """
    with redirect_stdout(io.StringIO()):  # veRL prints which backend it takes
        patch_forward_with_backends(model, use_fused_kernels=True, fused_kernels_backend=backend)
    install(model)


def install(model: PreTrainedModel) -> None:
    """Let a model that veRL has given a fused forward pass return inputs of the weighting.

    Its forward pass gets two more arguments: `weighting_inputs`, names in `ENGINE_INPUTS`, and `calculate_entropy`,
    which says whether anybody reads the entropy of a pass that asks for inputs. Without the first it is veRL's.
    """
    fused: Callable[..., CausalLMOutputForPPO] = model.forward
    verls_own = isinstance(fused, MethodType) and fused.__func__ is forward_with_torch_backend
    one_product = verls_own and model._verl_fused_kernels_backend == "torch"

    @wraps(fused)
    def forward(
        *args: Any, weighting_inputs: Sequence[str] = (), calculate_entropy: bool = True, **kwargs: Any
    ) -> ModelOutput:
        if not weighting_inputs:
            return fused(*args, **kwargs)
        _check_plain_logits(model)
        if one_product and not torch.is_grad_enabled():
            return _in_one_product(model, weighting_inputs, calculate_entropy, **kwargs)
        return _beside(fused, model, weighting_inputs, **kwargs)

    model.forward = forward


def _check_plain_logits(model: PreTrainedModel) -> None:
    """Refuse a model that does more to its logits than multiply hidden states with the output matrix.

    Raises:
        ValueError: veRL's fused kernels leave that step out, so energies and log-probabilities would be wrong.
    """
    settings = model.config.get_text_config().to_dict()
    found = [f"{name}={settings[name]}" for name in LOGIT_TRANSFORMS if settings.get(name) not in (None, 1)]
    if model.lm_head.bias is not None:
        found.append("a bias of the output layer")
    if found:
        raise ValueError(
            f"actor_rollout_ref.model.use_fused_kernels=True: {type(model).__name__} has {', '.join(found)}, which "
            "veRL's fused kernels leave out, so energies and log-probabilities would be wrong; set it to False"
        )


def _in_one_product(
    model: PreTrainedModel,
    inputs: Sequence[str],
    with_entropy: bool,
    *,
    input_ids: Tensor,
    temperature: float,
    return_dict: bool,
    shift_labels: Tensor | None = None,
    **kwargs: Any,
) -> OutputWithInputs:
    hidden = model.model(input_ids=input_ids, return_dict=return_dict, **kwargs)[0]
    labels = _labels(input_ids, shift_labels)
    found = projected(hidden.flatten(0, 1), model.lm_head.weight, labels.flatten(), inputs, temperature, with_entropy)
    shape = labels.shape
    return OutputWithInputs(
        log_probs=found.log_probs.view(shape),
        entropy=None if found.entropy is None else found.entropy.view(shape),
        weighting_inputs={name: value.view(shape) for name, value in found.inputs.items()},
    )


def _beside(
    fused: Callable[..., CausalLMOutputForPPO],
    model: PreTrainedModel,
    inputs: Sequence[str],
    *,
    input_ids: Tensor,
    shift_labels: Tensor | None = None,
    **kwargs: Any,
) -> OutputWithInputs:
    """Run veRL's fused forward pass and take the hidden states out of it."""
    seen: list[Tensor] = []
    handle = model.model.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    if shift_labels is not None:
        kwargs["shift_labels"] = shift_labels
    try:
        output = fused(input_ids=input_ids, **kwargs)
    finally:
        handle.remove()
    labels = _labels(input_ids, shift_labels)
    values = projected_inputs(seen[0].flatten(0, 1), model.lm_head.weight, labels.flatten(), inputs)
    return OutputWithInputs(
        log_probs=output.log_probs,
        entropy=output.entropy,
        weighting_inputs={name: value.view(labels.shape) for name, value in values.items()},
    )


def _labels(input_ids: Tensor, shift_labels: Tensor | None) -> Tensor:
    """The tokens that each position predicts, as veRL's fused forward pass finds them."""
    return torch.roll(input_ids, shifts=-1, dims=-1) if shift_labels is None else shift_labels
