"""What ActFocus needs of a training engine: inputs of the weighting out of a forward pass, weights into the normaliser.

veRL's FSDP engine returns a dictionary of per-token outputs from every forward pass and writes each of them back to
TransferQueue (`verl/workers/engine/fsdp/transformer_impl.py`, `prepare_model_outputs`). `WeightingInputs` adds
functions of the *raw* logits to it (`verl_actfocus.weighting.inputs`), only when the batch asks for them.
`RecomputedEntropy` saves memory where the update's entropy is computed in chunks.
`WeightedUpdate` sums the token weights of the global mini-batch before it is split, as veRL does with the token count,
unless the batch asks for another normaliser, and reports on the gradient where that is asked for.
What computes a shared prompt once, and what collects LoRA's adapters, has a file of its own
(`verl_actfocus.integration.shared_prompts`, `verl_actfocus.integration.adapters`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine, FSDPEngineWithLMHead
from verl.workers.engine.utils import prepare_micro_batches

from verl_actfocus.integration import fields, fused
from verl_actfocus.integration.adapters import CollectedAdapters
from verl_actfocus.integration.building import ChosenAttention, SeededWeights
from verl_actfocus.integration.entropy import recomputed_entropy
from verl_actfocus.integration.gradient_report import gradient_report
from verl_actfocus.integration.micro_batch import flag, unpad
from verl_actfocus.integration.shared_prompts import SharedPrompts
from verl_actfocus.weighting.inputs import ENGINE_INPUTS, LogitFunction, LogProbFunction


class WeightingInputs(FSDPEngineWithLMHead):
    """Language-model engine that can return functions of the raw logits (temperature 1)."""

    def _build_module(self) -> PreTrainedModel:
        module: PreTrainedModel = super()._build_module()
        if self.model_config.use_fused_kernels:
            fused.check_model(module, self.engine_config.strategy)
            fused.install(module)
        return module

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ask a fused forward pass for the inputs named under `fields.INPUTS`: its output has no logits."""
        model_inputs, output_args = super().prepare_model_inputs(micro_batch)
        wanted = wanted_inputs(micro_batch)
        if wanted and flag(micro_batch, "use_fused_kernels", False):
            model_inputs["weighting_inputs"] = wanted
            model_inputs["calculate_entropy"] = flag(micro_batch, "calculate_entropy", False)
        return model_inputs, output_args

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Tensor]:
        """Extend veRL's per-token outputs by the inputs named under `fields.INPUTS`.

        Each is a jagged tensor over prompt and response like `log_probs`: position `t` holds the value of the
        logits that predict token `t + 1`.
        """
        wanted = wanted_inputs(micro_batch)
        if not wanted:
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        fused_pass = flag(micro_batch, "use_fused_kernels", False)
        free = {} if fused_pass else _of_log_prob(wanted, output.logits, output_args)
        # Before veRL's own outputs: those may scale the logits, and their backward may overwrite them.
        functions = {name: _label_logit if name in free else ENGINE_INPUTS[name].function for name in wanted}
        inputs = self._inputs(functions, output, output_args, micro_batch)
        model_output = super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        for name, function in free.items():
            inputs[name] = function(model_output["log_probs"].detach(), inputs[name])
        return model_output | {fields.INPUT_PREFIX + name: value for name, value in inputs.items()}

    def _inputs(
        self, functions: Mapping[str, LogitFunction], output: Any, output_args: dict[str, Any], micro_batch: TensorDict
    ) -> dict[str, Tensor]:
        offsets = micro_batch["input_ids"].offsets()
        packed = flag(micro_batch, "use_remove_padding", True)

        def rows(per_position: Tensor) -> Tensor:
            return per_position.squeeze(0) if packed else unpad(per_position, offsets)

        if flag(micro_batch, "use_fused_kernels", False):
            values = {name: rows(value) for name, value in output.weighting_inputs.items()}
        else:
            logits, labels = rows(_gathered(output.logits)), output_args["input_ids_rmpad_rolled"]
            with torch.no_grad():
                values = {name: function(logits, labels) for name, function in functions.items()}
        if packed:
            pad = output_args["pad_size"]
            values = {name: self._gather_and_unpad_packed(value, pad) for name, value in values.items()}
        return {name: torch.nested.nested_tensor_from_jagged(value, offsets) for name, value in values.items()}


def _of_log_prob(names: list[str], logits: Tensor, output_args: dict[str, Any]) -> dict[str, LogProbFunction]:
    """Return how those inputs are computed that this pass's log-probabilities tell, at no further look at the logits.

    They do at temperature 1; log-probabilities of logits in half precision are rounded too coarsely (2^-8 of their
    value).
    """
    if not output_args.get("temperature_is_one", False) or logits.dtype != torch.float32:
        return {}
    functions = {name: ENGINE_INPUTS[name].of_log_prob for name in names}
    return {name: function for name, function in functions.items() if function is not None}


def _label_logit(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels.unsqueeze(1)).squeeze(1)


def wanted_inputs(micro_batch: TensorDict) -> list[str]:
    """Return the names of the inputs that a micro-batch asks for."""
    names = tu.get_non_tensor_data(data=micro_batch, key=fields.INPUTS, default="")
    return names.split(",") if names else []


def _gathered(logits: Tensor | DTensor) -> Tensor:
    return logits.full_tensor() if isinstance(logits, DTensor) else logits


class RecomputedEntropy(FSDPEngine):
    """Engine that keeps nothing for the backward pass of an entropy in chunks (`entropy_from_logits_with_chunking`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.engine_config.entropy_from_logits_with_chunking:
            # Not compiled: the number of chunks changes with every micro-batch, and each would be compiled anew.
            self.compute_entropy_from_logits = recomputed_entropy


class WeightedUpdate(FSDPEngine):
    """Engine whose update is normalised by the token weights of the whole mini-batch and skipped without any."""

    _without_weight = False
    _reported_step: int | None = None

    def train_batch(self, data: TensorDict, loss_function: Callable[..., Any]) -> Any:
        """Report on the gradient of the first mini-batch of a step that asks for it, then run veRL's update."""
        report = {}
        step = tu.get_non_tensor_data(data=data, key=fields.GRADIENT_REPORT, default=None)
        if step is not None and step != self._reported_step:
            self._reported_step = step
            copy = data.copy()  # what the report adds to it is not the update's business
            self._set_normalizer(copy)
            report = gradient_report(self, copy, loss_function)
        outputs = super().train_batch(data, loss_function)
        if self.is_mp_src_rank_with_outputs():
            # Lists, as veRL's metrics of micro-batches are.
            outputs["metrics"].update({f"actfocus/{name}": [value] for name, value in report.items()})
        return outputs

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable[..., Any], forward_only: bool = False
    ) -> Any:
        """Sum the weights over every micro-batch and rank, then run veRL's forward and backward passes."""
        self._without_weight = False
        if not forward_only and fields.WEIGHTS in data:
            self._without_weight = self._set_normalizer(data) == 0
        return super().forward_backward_batch(data, loss_function, forward_only)

    def _set_normalizer(self, data: TensorDict) -> float:
        """Give a mini-batch the entries that its loss is divided by; return the sum of its weights over all ranks."""
        # float64: the sum of millions of weights must not depend on how they were split.
        total = data[fields.WEIGHTS].values().double().sum().to(get_device_id())
        torch.distributed.all_reduce(total, group=self.get_data_parallel_group())
        tu.assign_non_tensor(data, **{fields.WEIGHT_SUM: total.item()})
        if fields.NORMALIZE_MICRO_BATCHES in data:
            tu.assign_non_tensor(data, **{fields.MICRO_BATCHES: self._count_micro_batches(data)})
        return total.item()

    def _count_micro_batches(self, data: TensorDict) -> int:
        """Split the mini-batch as veRL is about to, and count the micro-batches of all ranks."""
        tu.assign_non_tensor(data, sp_size=self.ulysses_sequence_parallel_size)
        group = self.get_data_parallel_group()
        micro_batches, _ = prepare_micro_batches(data=data, dp_group=group, same_micro_num_in_dp=True)
        return len(micro_batches) * self.get_data_parallel_size()

    def optimizer_step(self) -> float:
        """Step the optimizer, except when no token of the mini-batch has weight.

        The policy gradient is then exactly zero, but momentum and the regularisers would still move the model: an
        update that nothing asked for. The skip is counted by the loss (`actfocus/skipped_updates`).
        """
        if self._without_weight:
            self.optimizer.zero_grad()
            return 0.0
        return super().optimizer_step()


class ActFocusLanguageEngine(
    WeightingInputs, RecomputedEntropy, SharedPrompts, WeightedUpdate, SeededWeights, CollectedAdapters
):
    """veRL's FSDP language-model engine with these extensions.

    What differs where none is asked for is named in `verl_actfocus.integration.plugin`.
    """


class ActFocusValueEngine(ChosenAttention, SeededWeights):
    """veRL's FSDP engine of the critic, with a seeded head, and without flash attention where that is asked for."""
