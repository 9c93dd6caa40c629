"""The rollout backend `hf_cpu`: a server process that generates with `ContinuousBatch`, in veRL's terms.

Three parts, the same three that veRL's vLLM backend has (`verl/workers/rollout/vllm_rollout`):

- `HFServer`: a Ray actor with its own copy of the model; token ids in, token ids out.
- `HFReplica`: launches the servers of one replica (`verl.workers.rollout.replica.RolloutReplica`).
- `HFServerAdapter`: lives in the training worker and sends it the new weights
(`verl.workers.rollout.base.BaseRollout`).
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import ray
import torch
from verl.plugin.platform import get_platform
from verl.utils.device import get_device_name, get_resource_name
from verl.workers.config import HFModelConfig, RolloutConfig
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

from verl_actfocus.config.engines import CPU_SERVER
from verl_actfocus.generation.background import BackgroundBatch
from verl_actfocus.generation.batch import ContinuousBatch
from verl_actfocus.generation.sampling import SamplingParams
from verl_actfocus.generation.turn_ends import turn_ends


def _server_name(replica_rank: int, suffix: str = "") -> str:
    return f"{CPU_SERVER}_server_{replica_rank}{suffix}"


def _torch_dtype(name: str) -> torch.dtype:
    """Resolve `rollout.dtype`; a CPU computes these two natively."""
    dtypes = {"float32": torch.float32, "fp32": torch.float32, "bfloat16": torch.bfloat16, "bf16": torch.bfloat16}
    if name not in dtypes:
        raise ValueError(f"rollout.dtype={name!r} is not supported by {CPU_SERVER}; use one of {sorted(dtypes)}")
    return dtypes[name]


class HFServer:
    """Generates with a Hugging Face model; methods are those that veRL calls on a rollout server.

    The model runs in one background thread; `generate` coroutines wait for their response. Generation before the
    first weights have arrived is an error: the server is built from the configuration, without reading weights.

    Args:
        config: `actor_rollout_ref.rollout`.
        model_config: `actor_rollout_ref.model`.
        replica_rank: index of the replica, which also offsets the sampling seed.
    """

    def __init__(self, config: RolloutConfig, model_config: HFModelConfig, replica_rank: int) -> None:
        from transformers import AutoModelForCausalLM

        # Of one thread a response's bits do not depend on its company (`verl_actfocus.generation.passes`).
        torch.set_num_threads(1)
        self._config = config
        hf_config = model_config.hf_config
        hf_config._attn_implementation = "sdpa"
        model = AutoModelForCausalLM.from_config(hf_config, dtype=_torch_dtype(config.dtype))
        # Of a GPU platform the training worker's own device: for a miniature where there is no vLLM.
        self._model = model.to(get_device_name()).eval()
        tokenizer = model_config.tokenizer
        slots, length = config.max_num_seqs, config.max_model_len or config.prompt_length + config.response_length
        batch = ContinuousBatch(
            self._model,
            slots=slots,
            max_model_len=length,
            turn_ends=turn_ends(tokenizer, model_config.generation_config),
            token_ids=tokenizer.get_vocab().values(),
            seed=config.get("seed", 0) + replica_rank,
            # As much as the slots hold: an evaluation may play more episodes at once than there are slots.
            parked=slots * length,
        )
        self._global_steps: int | None = None
        self._generation = BackgroundBatch(batch, self._told)

    # ---- what the agent loop calls ----------------------------------------------------------------------------

    async def generate(
        self,
        request_id: str,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        image_data: list[Any] | None = None,
        video_data: list[Any] | None = None,
        **kwargs: Any,
    ) -> TokenOutput:
        """Generate one response (`verl/workers/rollout/llm_server.py`, `LLMServerClient.generate`).

        Raises:
            ValueError: images or videos were given, or the prompt leaves no room for a token.
            RuntimeError: no weights have been received yet, or the generation thread has died.
        """
        if image_data or video_data:
            raise ValueError(f"{CPU_SERVER} serves text models only; got image or video data")
        if self._global_steps is None:
            raise RuntimeError("generate was called before the trainer sent the first weights")
        params = self._sampling_params(len(prompt_ids), sampling_params)
        generated = await self._generation.generate(request_id, prompt_ids, params)
        return TokenOutput(
            token_ids=generated.token_ids,
            log_probs=generated.log_probs if sampling_params.get("logprobs") else None,
            stop_reason=generated.stop_reason,
            extra_fields={"global_steps": self._global_steps},
        )

    def _sampling_params(self, prompt_length: int, params: dict[str, Any]) -> SamplingParams:
        known = {"temperature", "top_p", "top_k", "max_tokens", "max_new_tokens", "seed", "logprobs", "stop_token_ids"}
        # veRL always sends repetition_penalty=1.0, which changes nothing; any other value would be ignored silently.
        if params.get("repetition_penalty", 1.0) != 1.0 or not set(params) <= known | {"repetition_penalty"}:
            raise ValueError(f"{CPU_SERVER} does not know sampling parameters {params}; it honours {sorted(known)}")
        limit = params.get("max_tokens") or params.get("max_new_tokens")
        if limit is None:
            limit = self._config.response_length + self._config.prompt_length - prompt_length
        return SamplingParams(
            max_tokens=limit,
            temperature=params.get("temperature", 1.0),
            top_p=params.get("top_p", 1.0),
            top_k=params.get("top_k", -1),
            seed=params.get("seed"),
            stop_token_ids=tuple(params.get("stop_token_ids", ())),
        )

    # ---- what the trainer calls -------------------------------------------------------------------------------

    async def update_weights(self, weights: dict[str, torch.Tensor], global_steps: int | None) -> None:
        """Replace the model's weights.

        Raises:
            RuntimeError: a name or shape does not fit, or requests are still running.
        """
        with self._generation.paused() as batch:
            batch.forget_cache()
            missing, unexpected = self._model.load_state_dict(weights, strict=False)
            tied = set(self._model._tied_weights_keys or ()) if self._model.config.tie_word_embeddings else set()
            if unexpected or set(missing) - tied:
                raise RuntimeError(
                    f"weights do not fit the rollout model: missing {sorted(set(missing) - tied)}, "
                    f"unexpected {sorted(unexpected)}"
                )
            self._global_steps = -1 if global_steps is None else global_steps

    async def wake_up(self) -> None:
        """Nothing to restore: memory is not shared with the trainer's device."""

    async def sleep(self) -> None:
        """Forget kept keys and values; the weights stay."""
        with self._generation.paused() as batch:
            batch.forget_cache()

    async def clear_kv_cache(self) -> None:
        """Forget kept keys and values."""
        await self.sleep()

    async def release_kv_cache(self) -> None:
        await self.sleep()

    async def resume_kv_cache(self) -> None:
        """Nothing to restore: the slots stay allocated."""

    async def abort_all_requests(self, reject_request: bool = False) -> None:
        """End every running request with what it has generated so far, stop reason `aborted`."""
        self._generation.abort()

    async def resume_generation(self) -> None:
        """Nothing to resume: aborted requests have been answered."""

    async def start_profile(self, **kwargs: Any) -> None:
        """The CPU backend has no profiler of its own."""

    async def stop_profile(self) -> None:
        """The CPU backend has no profiler of its own."""

    def _told(self, error: BaseException) -> str:
        return f"generation with the weights of step {self._global_steps} has ended: {error!r}"


class HFReplica(RolloutReplica):
    """One server process for one training rank."""

    async def launch_servers(self) -> None:
        """Start the server beside its training worker.

        Raises:
            ValueError: more than one rank per replica is asked for; the CPU backend does not split a model.
        """
        if self.world_size != 1:
            raise ValueError(
                f"{CPU_SERVER} runs a model on one rank, but tensor × data × pipeline parallel size is "
                f"{self.world_size}; set rollout.tensor_model_parallel_size=1 (more ranks become more replicas)"
            )
        name = _server_name(self.replica_rank, self.name_suffix)
        resource = get_resource_name()
        node, devices = await self.workers[0].__ray_call__.remote(
            lambda worker: (
                ray.get_runtime_context().get_node_id(),
                ray.get_runtime_context().get_accelerator_ids().get(resource, []),
            )
        )
        server: Any = (
            ray.remote(HFServer)
            .options(
                name=name,
                num_cpus=0,
                max_concurrency=self.max_concurrency,
                runtime_env={"env_vars": _device_variables(devices)},
                scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                    node_id=node, soft=False
                ),
            )
            .remote(self.config, _resolved(self.model_config), self.replica_rank)
        )
        self.servers = [server]
        self._server_handle = server
        self._server_address = name


def _device_variables(devices: list[str]) -> dict[str, str]:
    """Return the environment variables by which a server that asks Ray for no device sees its training worker's."""
    platform = get_platform()
    if platform.device_name == "cpu":
        return {}
    return {**dict.fromkeys(platform.ray_noset_envvars(), "1"), platform.visible_devices_envvar(): ",".join(devices)}


def _resolved(model_config: Any) -> HFModelConfig:
    """Return the model configuration with tokenizer and Hugging Face configuration loaded."""
    from verl.utils.config import omega_conf_to_dataclass

    return omega_conf_to_dataclass(model_config)


class HFServerAdapter(BaseRollout):
    """Sends the training worker's weights to the server of its replica."""

    def __init__(self, config: RolloutConfig, model_config: HFModelConfig, device_mesh: Any, *args: Any, **kwargs: Any):
        super().__init__(config, model_config, device_mesh)
        self._replica_rank = int(os.environ["RANK"])
        self._server: ray.actor.ActorHandle | None = None

    async def resume(self, tags: list[str]) -> None:
        """Nothing was released."""

    async def release(self) -> None:
        """Nothing to release."""

    async def update_weights(
        self,
        weights: Generator[tuple[str, torch.Tensor], None, None],
        wire_format: str = "named_tensors",
        *,
        global_steps: int | None = None,
        peft_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Send all weights in one message.

        Raises:
            ValueError: the weights are not whole tensors: a delta format, or LoRA adapters on their own.
        """
        if wire_format != "named_tensors":
            raise ValueError(f"{CPU_SERVER} takes whole tensors, not the wire format {wire_format!r}")
        if peft_config is not None:
            raise ValueError(
                f"{CPU_SERVER} receives full weights only; set actor_rollout_ref.model.lora.merge=True to train LoRA"
            )
        state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights}
        if self._server is None:
            self._server = ray.get_actor(_server_name(self._replica_rank))
        await self._server.update_weights.remote(state, global_steps)
