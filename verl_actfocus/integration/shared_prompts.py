"""The prompt that a group shares, computed once in a pass without a gradient.

All trajectories of a group begin with the same prompt. veRL's passes for old and reference log-probabilities
(`verl/workers/engine/fsdp/transformer_impl.py`, `forward_step`) run it through the model for each of them.
`SharedPrompts` runs it once for every micro-batch, keeps its keys and values, and runs the responses behind them.

What comes out is veRL's own `prepare_model_outputs` on the responses, so that every extension of it (inputs of the
weighting, fused kernels) is part of it; positions of the prompt before its last token, which veRL computes and nobody
reads (`verl/workers/utils/padding.py`, `response_from_nested`), hold 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id, get_device_name
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine.utils import postprocess_batch_func

from verl_actfocus.integration import fields
from verl_actfocus.integration.micro_batch import flag, nested, unpad


def empty_cache(config: PreTrainedConfig) -> DynamicCache:
    """Return a cache for the keys and values of a model's prompts.

    Raises:
        ValueError: the model's layers remember something else than the keys and values of all tokens, or it sees more
            than text, so that a prompt cannot be shared.
    """
    remedy = "set algorithm.actfocus.share_prompts=false"
    if config.get_text_config(decoder=True) is not config:
        raise ValueError(
            f"algorithm.actfocus.share_prompts=true: {config.model_type} models see more than text, and prompts are "
            f"compared by their tokens alone; {remedy}"
        )
    cache = DynamicCache(config=config)
    other = sorted({type(layer).__name__ for layer in cache.layers if type(layer) is not DynamicLayer})
    if other:
        raise ValueError(
            f"algorithm.actfocus.share_prompts=true: layers of this {config.model_type} model do not attend to all "
            f"tokens before (their caches: {', '.join(other)}), so that responses cannot follow a shared prompt; "
            f"{remedy}"
        )
    return cache


def prompt_groups(prompts: Sequence[Tensor]) -> list[int]:
    """Return the number of each prompt's group: equal prompts, token by token, have the same; counted by appearance.

    Example:
        >>> prompt_groups([torch.tensor([5, 6]), torch.tensor([5]), torch.tensor([5, 6])])
        [0, 1, 0]
    """
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(tuple(prompt.tolist()), len(numbers)) for prompt in prompts]


def split_by_prompt(groups: Sequence[int], sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Split trajectories into micro-batches that cut few groups.

    Args:
        groups: of each trajectory, as of `prompt_groups`.
        sizes: of each trajectory, in whatever the limit counts.
        limit: largest sum of sizes in a micro-batch.

    Returns:
        Trajectories of each micro-batch. Groups that fit into one are not cut; larger ones fill up what room there is.

    Raises:
        ValueError: a trajectory alone is larger than the limit.
    """
    if max(sizes) > limit:
        raise ValueError(
            f"a trajectory of {max(sizes)} tokens exceeds the micro-batch of {limit}; raise "
            "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu and that of actor_rollout_ref.ref"
        )
    split: list[list[int]] = [[]]
    room = limit
    for group in range(max(groups) + 1):
        rows = [row for row, number in enumerate(groups) if number == group]
        whole = sum(sizes[row] for row in rows)
        for row in rows:
            if sizes[row] > room or (row == rows[0] and room < whole <= limit):
                split.append([])
                room = limit
            split[-1].append(row)
            room -= sizes[row]
    return split


def cut_to(count: int, split: list[list[int]]) -> list[list[int]]:
    """Halve the micro-batches with the most trajectories until there are `count`, as many as the other ranks have.

    There are always enough: veRL gives every rank the same number of trajectories.
    """
    cut = list(split)
    while len(cut) < count:
        largest = max(range(len(cut)), key=lambda place: len(cut[place]))
        rows = cut[largest]
        cut[largest : largest + 1] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return cut


class SharedPrompts(FSDPEngineWithLMHead):
    """Language-model engine that computes the prompt which trajectories of a micro-batch share once.

    It does so in passes without gradient and loss whose batch asks for it (`fields.SHARE_PROMPTS`), and splits their
    micro-batches along the groups, within veRL's limits: tokens of whole trajectories, the shared ones counted for
    each, because their keys and values are held for each. The model is called twice for every micro-batch, whether
    prompts are shared in it or not: all ranks have to call a sharded model equally often. Responses are padded to the
    longest of their micro-batch, also where veRL would remove padding.
    """

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable[..., Any], forward_only: bool = False
    ) -> Any:
        """Run a pass that shall share prompts, and anything else as veRL does."""
        if loss_function is not None or not forward_only or not flag(data, fields.SHARE_PROMPTS, False):
            return super().forward_backward_batch(data, loss_function, forward_only)
        split = self._split(data)
        with torch.no_grad():
            outputs = [self._forward(tu.index_select_tensor_dict(data, rows)) for rows in split]
        # The word for micro-batches that are not one behind another: their outputs are put back into order.
        batch = data.copy()
        tu.assign_non_tensor(batch, use_dynamic_bsz=True)
        return postprocess_batch_func(output_lst=outputs, indices=split, data=batch)

    def _split(self, data: TensorDict) -> list[list[int]]:
        if flag(data, "use_dynamic_bsz", True):
            sizes, limit = data["input_ids"].offsets().diff().tolist(), data["max_token_len_per_gpu"]
        else:
            sizes, limit = [1] * len(data), data["micro_batch_size_per_gpu"]
        split = split_by_prompt(prompt_groups(data["prompts"].unbind()), sizes, limit)
        count = torch.tensor(len(split), device=get_device_id())
        torch.distributed.all_reduce(count, op=torch.distributed.ReduceOp.MAX, group=self.get_data_parallel_group())
        return cut_to(int(count), split)

    def _forward(self, micro_batch: TensorDict) -> dict[str, Any]:
        """Return of a micro-batch what veRL's `forward_step` does."""
        micro_batch = micro_batch.to(get_device_id())
        prompts = micro_batch["prompts"].unbind()
        groups = prompt_groups(prompts)
        # The prompt's last token goes with the responses too: its logits predict their first one.
        known = micro_batch["prompts"].offsets().diff() - 1
        responses = _behind(micro_batch, known)
        inputs, output_args = self.prepare_model_inputs(responses)
        dtype = self._autocast_dtype
        with torch.autocast(get_device_name(), dtype=dtype, enabled=dtype != torch.float32):
            cache = self._cache([prompts[groups.index(group)] for group in range(max(groups) + 1)], micro_batch)
            cache.batch_select_indices(torch.tensor(groups, device=known.device))
            attended = torch.arange(cache.get_seq_length(), device=known.device) < known.unsqueeze(1)
            mask = inputs["attention_mask"]
            inputs["attention_mask"] = torch.cat([attended.to(mask.dtype), mask], dim=1)
            output = self.module(**inputs, past_key_values=cache, use_cache=True)
            if flag(micro_batch, "use_remove_padding", True) and not flag(micro_batch, "use_fused_kernels", False):
                _pack(output, output_args, responses)
            outputs = self.prepare_model_outputs(output, output_args, responses, None)
        return {"model_output": {name: _in_full(value, known) for name, value in outputs.items()}, "metrics": {}}

    def _cache(self, prompts: list[Tensor], micro_batch: TensorDict) -> DynamicCache:
        """Compute the keys and values of prompts.

        Padded on the right and without a mask: no token attends to what comes after it. Nothing but the cache is read.
        """
        cache = empty_cache(self.model_config.hf_config)
        ids = pad_sequence(prompts, batch_first=True)
        if flag(micro_batch, "use_fused_kernels", False):
            arguments = {"temperature": 1.0, "return_dict": True}
        else:
            arguments = {"logits_to_keep": 1}
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        self.module(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, **arguments)
        return cache


def _behind(micro_batch: TensorDict, known: Tensor) -> TensorDict:
    """Return a micro-batch without the first `known` tokens of each trajectory, to be padded."""
    rest = micro_batch.copy()
    for name in ("input_ids", "position_ids"):
        rows = zip(micro_batch[name].unbind(), known.tolist(), strict=True)
        rest[name] = nested([row[start:] for row, start in rows])
    tu.assign_non_tensor(rest, use_remove_padding=False)
    return rest


def _pack(output: Any, output_args: dict[str, Any], responses: TensorDict) -> None:
    """Let logits be read one trajectory behind another, where veRL computes a large vocabulary's entropy in chunks."""
    offsets = responses["input_ids"].offsets()
    output.logits = unpad(output.logits, offsets).unsqueeze(0)
    output_args["temperature_rmpad"] = output_args["temperature"].repeat_interleave(offsets.diff())
    output_args["pad_size"] = 0
    tu.assign_non_tensor(responses, use_remove_padding=True)


def _in_full(values: Tensor, known: Tensor) -> Tensor:
    """Put zeros in the place of the tokens that `_behind` took away."""
    rows = zip(values.unbind(), known.tolist(), strict=True)
    return nested([pad(row, (length, 0)) for row, length in rows])
