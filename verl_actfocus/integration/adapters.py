"""LoRA's adapters on their way to the rollout, where veRL 0.9.1 finds none of them.

veRL asks peft which entries of a model's state dict are adapters (`verl/utils/fsdp_utils.py`, `collect_lora_params`).
Since 0.21 peft answers by the names of the modules, which FSDP1 lengthens by a segment that the entries' names do not
have: none fits, and vLLM gets an empty set. `layered_summon` finds none under FSDP1 with any peft, as each matrix of
LoRA's is an FSDP unit of its own, and what veRL tries next torch refuses on a single rank (`offload_to_cpu` without
shards).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from verl.utils.fsdp_utils import collect_lora_params
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

#: The segment of a module's name that FSDP1 adds for every unit.
_UNIT = "_fsdp_wrapped_module."
#: peft's name for the one adapter that veRL trains; a file of adapters, and what reads one, leaves it out.
_ADAPTER_NAME = re.compile(r"(\.lora_\w+)\.default\b")


class CollectedAdapters(FSDPEngine):
    """Engine that sends the rollout all of LoRA's adapters, with FSDP1 and FSDP2 on any number of ranks."""

    def get_per_tensor_param(self, layered_summon: bool = False, base_sync_done: bool = False, **kwargs: Any) -> Any:
        """Collect weights as veRL does, except for adapters that are sent by themselves."""
        stock = transformer_impl.collect_lora_params
        transformer_impl.collect_lora_params = _collect
        try:
            return super().get_per_tensor_param(layered_summon=layered_summon, base_sync_done=base_sync_done, **kwargs)
        finally:
            transformer_impl.collect_lora_params = stock


def _collect(module: FullyShardedDataParallel, layered_summon: bool, base_sync_done: bool) -> OrderedDict[str, Tensor]:
    """Stand in for veRL's function; the frozen weights, before the rollout has them, are left to it."""
    if base_sync_done:
        return OrderedDict(adapter_weights(module))
    return collect_lora_params(module, False, base_sync_done)  # by layers it refuses to collect frozen weights


@torch.no_grad()
def adapter_weights(module: nn.Module) -> dict[str, Tensor]:
    """Gather LoRA's adapters, one FSDP unit or tensor at a time; all ranks have to call it.

    Args:
        module: A peft model with LoRA, wrapped by FSDP1 or FSDP2 or neither.

    Returns:
        Copies on the CPU, under the names that peft gives them in a file of adapters.
    """
    if isinstance(module, FullyShardedDataParallel):
        # Makes it known which unit is the root: a unit that is looked into before would take itself for one.
        module.check_is_root()
        weights = dict(_of_units(module))
    else:
        weights = {
            name: (value.full_tensor() if isinstance(value, DTensor) else value).to("cpu", copy=True)
            for name, value in module.named_parameters()
            if ".lora_" in name
        }
    return {_ADAPTER_NAME.sub(r"\1", name): value for name, value in weights.items()}


def _of_units(module: FullyShardedDataParallel) -> Iterator[tuple[str, Tensor]]:
    """Yield name and value of every adapter parameter; units without one stay sharded."""
    units = {
        f"{name}.".replace(_UNIT, "").lstrip("."): unit
        for name, unit in module.named_modules()
        if isinstance(unit, FullyShardedDataParallel)
    }
    for prefix, unit in units.items():
        inner = tuple(other for other in units if other.startswith(prefix) and other != prefix)
        if not any(True for _ in _own_adapters(prefix, unit, inner)):
            continue
        with FullyShardedDataParallel.summon_full_params(unit, recurse=False, writeback=False):
            for name, value in _own_adapters(prefix, unit, inner):
                yield name, value.to("cpu", copy=True)


def _own_adapters(
    prefix: str, unit: FullyShardedDataParallel, inner: tuple[str, ...]
) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield a unit's adapter parameters, flattened or not, without those of the units in it."""
    for name, value in unit.named_parameters():
        name = prefix + name.replace(_UNIT, "")
        if ".lora_" in name and not name.startswith(inner):
            yield name, value
