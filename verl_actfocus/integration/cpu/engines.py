"""veRL's FSDP engines on a CPU: the same engines, without their assumptions about accelerators.

What differs from `verl/workers/engine/fsdp/transformer_impl.py` is named at each override; sharding, gradient
accumulation, checkpoints and the optimizer are veRL's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    ShardedStateDictConfig,
    StateDictType,
)
from transformers import PreTrainedModel
from verl.utils import tensordict_utils as tu
from verl.utils.fsdp_utils import get_fsdp_wrap_policy
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine, FSDPEngineWithLMHead
from verl.workers.engine.fsdp.utils import get_sharding_strategy

from verl_actfocus.integration import fields
from verl_actfocus.integration.adapters import CollectedAdapters
from verl_actfocus.integration.building import SeededWeights
from verl_actfocus.integration.engine import ActFocusValueEngine, WeightedUpdate, WeightingInputs
from verl_actfocus.integration.micro_batch import flag, nested, unpad
from verl_actfocus.integration.shared_prompts import SharedPrompts

_BACKENDS = ["fsdp", "fsdp2"]
#: Rows of a micro-batch of similar lengths: most of them, for little padding, and least, for calls that are worth it.
MICRO_BATCH_ROWS = 16
LEAST_ROWS = 4


class OnCPU(FSDPEngine):
    """Mixin: parameters live on the CPU from the start and are never moved."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.engine_config
        if config.param_offload or config.optimizer_offload or config.offload_policy:
            raise ValueError(
                "offloading to the CPU was asked for on a CPU: set param_offload, optimizer_offload and offload_policy "
                "of fsdp_config to False"
            )
        precision = config.mixed_precision or {}
        if precision.get("param_dtype") != "fp32":
            raise ValueError(
                f"mixed_precision.param_dtype={precision.get('param_dtype')!r}: the CPU engines compute in fp32; "
                "set it in fsdp_config (the configuration group +actfocus/device=cpu does)"
            )

    def _build_fsdp_module(self, module: PreTrainedModel) -> torch.nn.Module:
        """Wrap the model; veRL would offload a forward-only (reference) model to pinned host memory."""
        # veRL's own word for "the parameters stay on the CPU, do not move them to export or save them".
        self._uses_fsdp2_cpu_offload_policy = True
        if self.engine_config.strategy == "fsdp":
            return self._build_fsdp1_module(module)
        forward_only = self.engine_config.forward_only
        self.engine_config.forward_only = False
        try:
            return super()._build_fsdp_module(module)
        finally:
            self.engine_config.forward_only = forward_only

    def _build_fsdp1_module(self, module: PreTrainedModel) -> FullyShardedDataParallel:
        """Wrap with FSDP1 as veRL does, except that torch cannot synchronise module states that are on the CPU."""
        _copy_from_rank_zero(module)
        self._autocast_dtype = PrecisionType.to_dtype((self.engine_config.mixed_precision or {})["param_dtype"])
        wrapped = FullyShardedDataParallel(
            module,
            auto_wrap_policy=get_fsdp_wrap_policy(
                module=module, config=self.engine_config.wrap_policy, is_lora=self.model_config.lora_rank > 0
            ),
            device_id=torch.device("cpu"),
            sharding_strategy=get_sharding_strategy(
                self.device_mesh, zero3_enable=self.engine_config.reshard_after_forward
            ),
            device_mesh=self.device_mesh,
            use_orig_params=self.engine_config.use_orig_params,
        )
        single = torch.distributed.get_world_size() == 1
        FullyShardedDataParallel.set_state_dict_type(
            wrapped,
            state_dict_type=StateDictType.FULL_STATE_DICT if single else StateDictType.SHARDED_STATE_DICT,
            state_dict_config=FullStateDictConfig() if single else ShardedStateDictConfig(),
        )
        return wrapped


def _copy_from_rank_zero(module: torch.nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0; other ranks may have built the model without values."""
    if torch.distributed.get_rank() != 0 and any(p.is_meta for p in module.parameters()):
        module.to_empty(device="cpu")
    for tensor in (*module.parameters(), *module.buffers()):
        torch.distributed.broadcast(tensor.data, src=0)


class SimilarLengths(FSDPEngine):
    """Micro-batches of trajectories of similar length.

    Without padding-free attention a micro-batch is padded to its longest trajectory, and veRL's dynamic micro-batches
    mix lengths, to balance the work between ranks: on episodes of one to three turns a third of all positions is
    padding.
    """

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable[..., Any], forward_only: bool = False
    ) -> Any:
        """Sort the rows by length, cut them evenly, and put what comes out back into its place."""
        rows = self._rows_of_a_micro_batch(data)
        if rows is None:
            return super().forward_backward_batch(data, loss_function, forward_only)
        order = data["input_ids"].offsets().diff().argsort(stable=True)
        data = tu.index_select_tensor_dict(data, order)
        tu.assign_non_tensor(data, use_dynamic_bsz=False, micro_batch_size_per_gpu=rows)
        outputs: Any = super().forward_backward_batch(data, loss_function, forward_only)
        back = order.argsort().tolist()
        for name, values in outputs["model_output"].items():
            parts = values.unbind()
            outputs["model_output"][name] = nested([parts[i] for i in back])
        return outputs

    def _rows_of_a_micro_batch(self, data: TensorDict) -> int | None:
        """Return the rows of each micro-batch, the same on every rank; None leaves them to veRL.

        It is left to veRL where padding is removed, micro-batches have a given number of rows, or matter for the loss.
        """
        counted = flag(data, fields.NORMALIZE_MICRO_BATCHES, False)
        if counted or flag(data, "use_remove_padding", True) or not flag(data, "use_dynamic_bsz", True):
            return None
        lengths = data["input_ids"].offsets().diff()
        tokens = tu.get_non_tensor_data(data, "max_token_len_per_gpu", 0)
        most = torch.tensor(min(MICRO_BATCH_ROWS, tokens // int(lengths.max())))
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MIN, group=self.get_data_parallel_group())
        fitting = [rows for rows in range(1, int(most) + 1) if len(lengths) % rows == 0]
        return fitting[-1] if fitting and fitting[-1] >= LEAST_ROWS else None


class VectorisedOutputs(FSDPEngineWithLMHead):
    """veRL's log-probabilities and entropy, computed for all tokens at once.

    Without flash attention veRL takes the logsumexp of one token after the other (`verl/utils/torch_functional.py`,
    `logprobs_from_logits_v2`), which for a small vocabulary costs several times the model itself.
    """

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Tensor]:
        """Compute `log_probs` and, where asked for, `entropy`; anything rarer is left to veRL."""
        rare = ("use_fused_kernels", "calculate_sum_pi_squared", "distillation_use_topk", "distillation_only")
        if any(flag(micro_batch, key, default=False) for key in rare):
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        offsets = micro_batch["input_ids"].offsets()
        if flag(micro_batch, "use_remove_padding", default=True):
            logits, temperature = output.logits.squeeze(0), output_args["temperature_rmpad"]
        else:
            logits = unpad(output.logits, offsets)
            temperature = output_args["temperature"].repeat_interleave(offsets.diff())
        if not output_args["temperature_is_one"]:
            logits = logits / temperature.clamp(min=1e-8).unsqueeze(1)
        log_probs = torch.log_softmax(logits, dim=-1)
        labels = output_args["input_ids_rmpad_rolled"]
        outputs = {"log_probs": log_probs.gather(1, labels.unsqueeze(1)).squeeze(1)}
        if tu.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False):
            outputs["entropy"] = -(log_probs.exp() * log_probs).sum(dim=-1)
        pad = output_args.get("pad_size", 0)
        return {
            name: torch.nested.nested_tensor_from_jagged(self._gather_and_unpad_packed(value, pad), offsets)
            for name, value in outputs.items()
        }


@EngineRegistry.register(model_type="language_model", backend=_BACKENDS, device="cpu")
class CPULanguageEngine(
    OnCPU,
    WeightingInputs,
    VectorisedOutputs,
    SharedPrompts,
    SimilarLengths,
    WeightedUpdate,
    SeededWeights,
    CollectedAdapters,
):
    """Actor and reference model on a CPU."""


@EngineRegistry.register(model_type="value_model", backend=_BACKENDS, device="cpu")
class CPUValueEngine(OnCPU, SimilarLengths, ActFocusValueEngine):
    """Critic on a CPU."""
