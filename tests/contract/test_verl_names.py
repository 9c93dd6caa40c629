"""Every name of veRL 0.9.1 that this package imports still exists; what it calls and overrides has the same parameters.

When veRL is upgraded this file says first what has moved.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest
import verl
from omegaconf import OmegaConf

import verl_actfocus
from verl_actfocus.experiments.execution.logs import OTHER_ENGINES
from verl_actfocus.experiments.runs.composition import compose

#: `module:attribute` → parameters that are passed by name or position.
CALLED = {
    "verl.trainer.ppo.core_algos:register_adv_est": ["name_or_enum"],
    "verl.trainer.ppo.core_algos:register_policy_loss": ["name"],
    "verl.trainer.ppo.core_algos:compute_grpo_outcome_advantage": [
        "token_level_rewards",
        "response_mask",
        "index",
        "norm_adv_by_std_in_grpo",
    ],
    "verl.trainer.ppo.core_algos:compute_gae_advantage_return": [
        "token_level_rewards",
        "values",
        "response_mask",
        "gamma",
        "lam",
    ],
    "verl.trainer.ppo.core_algos:compute_policy_loss_vanilla": ["old_log_prob", "log_prob", "advantages"],
    "verl.workers.utils.losses:ppo_loss": ["config", "model_output", "data", "dp_group"],
    "verl.workers.utils.padding:response_from_nested": ["tensor", "response_mask"],
    "verl.workers.utils.padding:response_to_nested": ["tensor", "response_mask"],
    "verl.utils.config:omega_conf_to_dataclass": ["config", "dataclass_type"],
    "verl.utils.config:validate_config": ["config", "use_reference_policy", "use_critic"],
    "verl.utils.distributed:initialize_global_process_group_ray": ["timeout_second", "backend"],
    "verl.utils.fsdp_utils:get_fsdp_wrap_policy": ["module", "config", "is_lora"],
    "verl.utils.fsdp_utils:collect_lora_params": ["module", "layered_summon", "base_sync_done"],
    "verl.workers.engine.fsdp.utils:get_sharding_strategy": ["device_mesh", "zero3_enable"],
    "verl.workers.engine.utils:prepare_micro_batches": ["data", "dp_group", "same_micro_num_in_dp"],
    "verl.workers.engine.utils:postprocess_batch_func": ["output_lst", "indices", "data"],
    "verl.utils.tensordict_utils:index_select_tensor_dict": ["batch", "indices"],
    "verl.utils.tokenizer.continuous_token_wiring:create_continuous_token_builder": ["tokenizer", "hf_model_type"],
    "verl.utils.torch_dtypes:PrecisionType.to_dtype": ["precision"],
    "verl.utils.model:load_valuehead_model": ["local_path", "torch_dtype", "model_config", "trust_remote_code"],
    "verl.utils.profiler:simple_timer": ["name", "timing_raw"],
    "verl.utils.rollout_trace:rollout_trace_op": ["func"],
    "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer": ["poll_interval"],
    "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer.sample": ["global_steps", "partition_id", "batch_size"],
    "verl.utils.tensordict_utils:assign_non_tensor": ["tensor_dict"],
    "verl.utils.tensordict_utils:get_non_tensor_data": ["data", "key", "default"],
    "verl.trainer.ppo.v1.trainer_base:register_trainer": ["name"],
    "verl.experimental.agent_loop.agent_loop:register": ["agent_name"],
    "verl.models.transformers.dense_common:forward_with_torch_backend": [
        "input_ids",
        "temperature",
        "shift_labels",
        "return_dict",
    ],
    "verl.utils.torch_functional:entropy_from_logits_with_chunking": ["logits", "chunk_size"],
    "verl.utils.torch_functional:logprobs_from_logits": ["logits", "labels"],
}

#: `module:class` → methods that are overridden or called, with the parameters of each.
METHODS = {
    "verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync": {
        "_build_replay_buffer": ["self"],
        "_init_resource_pool_mgr": ["self"],
        "_setup": ["self"],
        "_init_dataloader": ["self"],
        "_init_tokenizer": ["self"],
        "_balance_batch": ["self", "batch", "metrics"],
        "_compute_old_log_prob": ["self", "batch", "metrics"],
        "_compute_ref_log_prob": ["self", "batch", "metrics"],
        "_compute_advantage": ["self", "batch", "metrics"],
        "_update_actor": ["self", "batch", "metrics"],
        "_val_metrics_update": ["self", "data_sources", "sample_uids", "reward_extra_infos_dict", "sample_turns"],
        "_save_checkpoint": ["self"],
        "_load_checkpoint": ["self"],
    },
    "verl.workers.engine.fsdp.transformer_impl:FSDPEngineWithLMHead": {
        "prepare_model_inputs": ["self", "micro_batch"],
        "_build_module": ["self"],
        "_build_lora_module": ["self", "module"],
        "prepare_model_outputs": ["self", "output", "output_args", "micro_batch", "logits_processor_func"],
        "forward_backward_batch": ["self", "data", "loss_function", "forward_only"],
        "train_batch": ["self", "data", "loss_function"],
        "forward_step": ["self", "micro_batch", "loss_function", "forward_only"],
        "_gradient_sync_context": ["self", "is_last_micro_batch"],
        "optimizer_step": ["self"],
        "_gather_and_unpad_packed": ["self", "tensor", "pad_size"],
        "_build_fsdp_module": ["self", "module"],
        "get_per_tensor_param": ["self", "layered_summon", "base_sync_done"],
    },
    "verl.workers.engine.fsdp.transformer_impl:FSDPEngineWithValueHead": {"_build_module": ["self"]},
    "verl.workers.engine_workers:ActorRolloutRefWorker": {"set_loss_fn": ["self", "loss_fn"]},
    "verl.workers.rollout.replica:RolloutReplica": {"launch_servers": ["self"]},
    "verl.workers.rollout.base:BaseRollout": {
        "update_weights": ["self", "weights", "wire_format"],
        "resume": ["self", "tags"],
        "release": ["self"],
    },
    "verl.workers.rollout.llm_server:LLMServerClient": {
        "generate": ["self", "request_id", "prompt_ids", "sampling_params"]
    },
    "verl.experimental.agent_loop.agent_loop:AgentLoopBase": {"run": ["self", "sampling_params"]},
    "verl.experimental.agent_loop.agent_loop:AgentLoopOutput": {"as_dict": ["self"]},
    "verl.utils.tokenizer.continuous_token:ContinuousTokenBuilder": {
        "build_initial_tokens": ["self", "messages"],
        "merge_context_tokens": ["self", "previous_messages", "updated_messages", "runtime_token_ids"],
    },
    "verl.workers.engine:EngineRegistry": {
        "register": ["model_type", "backend", "device", "vendor"],
        "get_engine_cls": ["model_type", "backend"],
    },
    "verl.workers.rollout.replica:RolloutReplicaRegistry": {"register": ["name", "loader"]},
    "verl.plugin.platform.platform_manager:PlatformRegistry": {"register": ["platform"]},
}


def resolve(path: str):
    module, names = path.split(":")
    found = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def imported() -> list[str]:
    """Every `module:name` of veRL that a module of this package imports, wherever in it."""
    files = Path(verl_actfocus.__file__).parent.rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("verl.")]
    return sorted({f"{node.module}:{alias.name}" for node in imports for alias in node.names})


def test_every_imported_name_exists():
    assert "verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync" in imported()
    missing = []
    for path in imported():
        try:
            resolve(path)
        except (ImportError, AttributeError) as error:
            missing.append(f"{path}: {error}")
    assert not missing


def test_the_time_between_two_looks_is_an_attribute_of_the_buffer_that_its_loop_reads():
    """`PortableSyncTrainer` sets it on a buffer that veRL has built."""
    module = inspect.getmodule(resolve("verl.trainer.ppo.v1.replay_buffer:ReplayBuffer"))
    assert "sleep(self.poll_interval)" in inspect.getsource(module)


def test_the_buffer_keeps_the_prompts_of_a_partition_in_the_order_of_the_queue_after_it_was_sampled():
    """`InOrder` sorts by it; the queue lists keys in the order in which they were put."""
    buffer = resolve("verl.trainer.ppo.v1.replay_buffer:ReplayBuffer")
    assert "self.prompt_global_steps[partition_id][key] = " in inspect.getsource(
        buffer._sync_metadata_from_transfer_queue
    )
    assert "prompt_global_steps" not in inspect.getsource(buffer._materialize_batch)
    controller = importlib.import_module("transfer_queue.controller")
    assert "in partition.keys_mapping.items()" in inspect.getsource(controller)


def test_the_merger_takes_the_words_that_it_is_called_with(monkeypatch):
    merger = importlib.import_module("verl.model_merger.base_model_merger")
    words = ["merge", "--backend", "fsdp", "--local_dir", "actor", "--target_dir", "merged"]
    monkeypatch.setattr(sys, "argv", ["verl.model_merger", *words])
    parsed = merger.parse_args()
    assert (parsed.operation, parsed.backend, parsed.local_dir, parsed.target_dir) == (
        "merge",
        "fsdp",
        "actor",
        "merged",
    )
    assert importlib.util.find_spec("verl.model_merger.__main__") is not None


def test_the_installed_version_is_the_supported_one():
    from verl_actfocus.integration.versions import SUPPORTED_VERL

    assert verl.__version__ == SUPPORTED_VERL


@pytest.mark.parametrize("path", CALLED)
def test_function_exists_with_the_parameters_it_is_called_with(path):
    missing = set(CALLED[path]) - set(parameters(resolve(path)))
    assert not missing, f"{path} no longer takes {missing}"


@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path, methods in METHODS.items() for method in methods]
)
def test_method_exists_with_the_parameters_it_is_overridden_with(path, method):
    missing = set(METHODS[path][method]) - set(parameters(getattr(resolve(path), method))) - {"self"}
    assert not missing, f"{path}.{method} no longer takes {missing}"


def test_the_plugin_registers_everything_and_verify_agrees():
    from verl_actfocus.integration import registration

    registration.verify()


def test_a_missing_registration_is_named(monkeypatch):
    from verl.trainer.ppo import core_algos

    from verl_actfocus.integration import registration

    monkeypatch.delitem(core_algos.ADV_ESTIMATOR_REGISTRY, "actfocus_grpo")
    with pytest.raises(RuntimeError, match="advantage estimator actfocus_grpo"):
        registration.verify()


def test_another_verl_version_is_refused_with_the_remedy(monkeypatch):
    from verl_actfocus.integration import versions

    monkeypatch.setattr(versions, "version", lambda name: "0.10.0")
    with pytest.raises(ImportError, match=r"0\.9\.1.*0\.10\.0.*pip install"):
        versions.require_supported_verl()


def test_verls_entrance_asks_for_this_packages_settings_before_it_starts_ray(monkeypatch):
    from verl.trainer import main_ppo

    from verl_actfocus.integration import early

    assert main_ppo.validate_config is early.validate_config
    asked = []
    monkeypatch.setattr(early, "_stock", lambda config, **kwargs: asked.append(kwargs))
    groups = ("algorithm.adv_estimator=actfocus_grpo", "+actfocus=default", "+actfocus/run=cpu_frozenlake")
    config = OmegaConf.to_container(compose(*groups, "algorithm.actfocus.weighting.alpha=2"))
    config = OmegaConf.create(config)  # which may be written to
    with pytest.raises(ValueError, match=r"weighting\.alpha=2 must lie in \[0, 1\]"):
        main_ppo.validate_config(config=config, use_reference_policy=False, use_critic=False)
    del config.algorithm.actfocus.weighting
    with pytest.raises(ValueError, match=r"algorithm\.actfocus\.weighting is missing; add \+actfocus=default"):
        main_ppo.validate_config(config=config, use_reference_policy=False, use_critic=False)
    config.trainer.v1.trainer_mode = "sync"
    with pytest.raises(ValueError, match="adv_estimator=actfocus_grpo trains with token weights"):
        main_ppo.validate_config(config=config, use_reference_policy=False, use_critic=False)
    config.algorithm.adv_estimator = "grpo"  # a stock run reads none of it
    config.actor_rollout_ref.actor.policy_loss.loss_mode = "vanilla"
    main_ppo.validate_config(config=config, use_reference_policy=False, use_critic=False)
    main_ppo.validate_config(config=OmegaConf.create({"trainer": {}}), use_reference_policy=False, use_critic=False)
    assert asked == 2 * [{"use_reference_policy": False, "use_critic": False}]


def test_stock_estimators_losses_and_trainers_are_untouched():
    from verl.trainer.ppo import core_algos
    from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    from verl_actfocus.integration import registration

    registration.verify()  # this package's own names are registered beside them
    assert TRAINER_REGISTRY["sync"] is PPOTrainerSync
    assert core_algos.POLICY_LOSS_REGISTRY["vanilla"] is core_algos.compute_policy_loss_vanilla
    assert core_algos.ADV_ESTIMATOR_REGISTRY["grpo"] is core_algos.compute_grpo_outcome_advantage


def test_verl_warns_of_engines_that_are_not_installed_in_the_words_that_are_left_out():
    source = Path(importlib.util.find_spec("verl.workers.engine").origin).read_text(encoding="utf-8")
    said = re.findall(r'warnings.warn\(f"([^"{]*)', source)
    assert said and all(re.match(OTHER_ENGINES, words) for words in said)
