"""The recipes for one GPU of 24 GB train what the paper's do, on a small model; LoRA is one group after any recipe."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from verl_actfocus.config.compatibility import check_compatible
from verl_actfocus.config.settings import ActFocusSettings
from verl_actfocus.experiments.runs.step import Step
from verl_actfocus.storage.settings import flatten

from .test_recipes import SMALL

#: What may differ from the recipe for four GPUs: model, how it is computed, number of GPUs, name.
DIFFERENT = {
    "actor_rollout_ref.model.path",
    "actor_rollout_ref.model.use_fused_kernels",
    "actor_rollout_ref.model.override_config.attn_implementation",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.entropy_from_logits_chunk_size",
    "actor_rollout_ref.rollout.gpu_memory_utilization",
    "actor_rollout_ref.rollout.max_num_seqs",
    "trainer.n_gpus_per_node",
    "trainer.experiment_name",
}
LORA = "+actfocus/adapter=lora"

small = pytest.mark.parametrize("recipe", SMALL)


def settings(config):
    return flatten(OmegaConf.to_container(config, resolve=False))


@small
def test_a_small_recipe_differs_from_the_papers_in_model_and_machine_alone(compose_recipe, recipe):
    ours, papers = (settings(compose_recipe(name)) for name in (recipe, recipe.removesuffix("_small")))
    assert {name for name in ours.keys() | papers.keys() if ours.get(name) != papers.get(name)} <= DIFFERENT
    assert ours["actor_rollout_ref.model.path"] == "Qwen/Qwen2.5-0.5B-Instruct"
    assert (ours["trainer.n_gpus_per_node"], ours["trainer.nnodes"]) == (1, 1)


@small
# With LoRA veRL asks for vLLM's version, which a machine without a GPU does not have: there, as a trial.
@pytest.mark.parametrize("extra", [(), ("+actfocus/device=cpu_trial", LORA)])
def test_verl_and_actfocus_accept_it_with_lora_and_without(compose_recipe, recipe, extra):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = compose_recipe(recipe, "default", *extra)
    check_compatible(config, ActFocusSettings.from_config(config))
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    assert Step.of(config).gpus == 1
    # One trajectory fits, in every pass.
    assert config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu == config.actor_rollout_ref.rollout.max_model_len


def test_with_lora_adapters_alone_are_sent_to_a_server_that_has_read_the_rest(compose_recipe):
    config = compose_recipe("sokoban_grpo_small", "default", LORA)
    model, rollout = config.actor_rollout_ref.model, config.actor_rollout_ref.rollout
    assert (model.lora_rank, model.lora_alpha, model.target_modules) == (32, 32, "all-linear")
    assert rollout.load_format == "safetensors"
    assert not model.lora.merge


def test_on_a_cpu_adapters_are_merged_for_its_server(compose_recipe):
    config = compose_recipe("sokoban_grpo_small", "default", "+actfocus/device=cpu_trial", LORA)
    assert config.actor_rollout_ref.model.lora.merge
    assert config.actor_rollout_ref.model.override_config.attn_implementation == "sdpa"
