"""Every recipe is the paper's setting, and veRL accepts it as a whole."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from verl_actfocus.config.compatibility import check_compatible
from verl_actfocus.config.groups import packaged_groups
from verl_actfocus.config.settings import ActFocusSettings
from verl_actfocus.experiments.runs.run import SEED_KEYS
from verl_actfocus.integration.dataset import EnvironmentDataset, EnvironmentSettings
from verl_actfocus.integration.selection import groups_to_keep

ENVIRONMENTS = ("sokoban", "frozenlake", "sudoku", "webshop")
RECIPES = [f"{env}_{algorithm}" for env in ENVIRONMENTS for algorithm in ("ppo", "grpo")]
#: The same for one GPU of 24 GB, beside the paper's.
SMALL = [f"{env}_grpo_small" for env in ENVIRONMENTS]
WEIGHTINGS = ("default", "uniform")
QWEN = "Qwen/Qwen2.5-{}-Instruct"

#: He et al. 2026, App. C. FrozenLake's share is stated for GRPO only, WebShop's response tokens per turn not at all:
#: both recipes of FrozenLake keep every group, and WebShop's turns have the length of the others.
TABLE = {
    # prompts, group, keep, iterations, evaluation, length; turns, actions per turn, actions, words; large model
    "sokoban": (8, 16, 0.25, 200, (32, 16), 3600, (5, 2, 10, 100), "3B"),
    "frozenlake": (8, 16, 1.0, 200, (32, 16), 3600, (5, 2, 10, 120), "3B"),
    "sudoku": (8, 16, 0.25, 200, (32, 16), 3600, (8, None, 16, 150), "1.5B"),
    "webshop": (16, 8, 1.0, 100, (256, 1), 8192, (9, 1, 9, 200), "3B"),
}
MINI_BATCH = 32
RESPONSE_TOKENS = 400

everything = pytest.mark.parametrize("weighting", WEIGHTINGS)
recipes = pytest.mark.parametrize("recipe", RECIPES)


def environment_of(recipe):
    return recipe.split("_")[0]


def critic_of(recipe):
    return recipe.endswith("_ppo")


def kept_trajectories(config):
    prompts = config.data.train_batch_size
    groups = groups_to_keep({str(i): [0.0, float(i)] for i in range(prompts)}, config.algorithm.actfocus.keep_groups)
    return len(groups) * config.actor_rollout_ref.rollout.n


def test_there_is_a_recipe_for_every_environment_of_the_paper_and_both_algorithms():
    assert packaged_groups("recipe") == sorted([*RECIPES, *SMALL])


@everything
@recipes
def test_a_step_is_the_papers(compose_recipe, recipe, weighting):
    config = compose_recipe(recipe, weighting)
    prompts, group, keep, iterations, evaluation, *_ = TABLE[environment_of(recipe)]
    assert (config.data.train_batch_size, config.actor_rollout_ref.rollout.n) == (prompts, group)
    assert config.algorithm.actfocus.keep_groups == keep
    assert config.trainer.total_training_steps == iterations
    assert config.actor_rollout_ref.actor.ppo_mini_batch_size * group == MINI_BATCH
    assert config.critic.ppo_mini_batch_size * config.critic.rollout_n == MINI_BATCH
    assert (config.data.environment.val_size, config.actor_rollout_ref.rollout.val_kwargs.n) == evaluation


@everything
@recipes
def test_episodes_have_the_papers_budgets(compose_recipe, recipe, weighting):
    config = compose_recipe(recipe, weighting)
    *_, length, (turns, per_turn, actions, words), _ = TABLE[environment_of(recipe)]
    settings = EnvironmentSettings.from_config(config.data)
    limits = settings.episode_limits()
    assert settings.name == environment_of(recipe)
    assert (limits.turns, limits.actions_per_turn, limits.actions, limits.words) == (turns, per_turn, actions, words)
    assert limits.response_tokens == RESPONSE_TOKENS
    assert settings.format_penalty == -0.1
    assert config.actor_rollout_ref.rollout.max_model_len == length
    assert config.data.max_prompt_length + config.data.max_response_length == length


@everything
@recipes
def test_the_update_is_the_papers(compose_recipe, recipe, weighting):
    config = compose_recipe(recipe, weighting)
    actor, algorithm = config.actor_rollout_ref.actor, config.algorithm
    assert (algorithm.gamma, algorithm.lam) == (1.0, 1.0)
    assert (actor.clip_ratio_low, actor.clip_ratio_high) == (0.2, 0.28)
    assert actor.entropy_coeff == 0.001
    assert actor.optim.lr == 1e-6
    assert list(actor.optim.betas) == [0.9, 0.999]
    assert not algorithm.use_kl_in_reward
    if recipe == "webshop_grpo":
        assert (actor.use_kl_loss, actor.kl_loss_coef, actor.kl_loss_type) == (True, 0.001, "k1")
    else:
        assert not actor.use_kl_loss
    assert config.critic.enable is critic_of(recipe)
    if critic_of(recipe):
        assert config.critic.optim.lr == 1e-5
        assert list(config.critic.optim.betas) == [0.9, 0.999]
        assert config.critic.model.path == config.actor_rollout_ref.model.path


@recipes
def test_evaluation_and_hardware_are_the_papers(compose_recipe, recipe):
    config = compose_recipe(recipe)
    rollout, trainer = config.actor_rollout_ref.rollout, config.trainer
    assert (rollout.val_kwargs.temperature, rollout.val_kwargs.do_sample) == (0.5, True)
    assert (trainer.val_before_train, trainer.test_freq) == (True, 10)
    assert (rollout.name, rollout.tensor_model_parallel_size, rollout.enforce_eager) == ("vllm", 1, False)
    assert config.actor_rollout_ref.actor.strategy == config.critic.strategy == "fsdp"
    assert (trainer.device, trainer.nnodes, trainer.n_gpus_per_node) == ("cuda", 1, 4)
    assert config.actor_rollout_ref.model.path == QWEN.format(TABLE[environment_of(recipe)][-1])


@recipes
def test_weightings_differ_in_the_weighting_alone(compose_recipe, recipe):
    default, uniform = (OmegaConf.to_container(compose_recipe(recipe, weighting)) for weighting in WEIGHTINGS)
    expected = {"name": "actfocus", "alpha": 0.1, "beta": 0.5, "eps": 1e-6, "other": None}
    expected |= {"signal": "energy", "signal_source": "reference"}
    assert default["algorithm"]["actfocus"].pop("weighting") == expected
    assert uniform["algorithm"]["actfocus"].pop("weighting") == {"name": "uniform"}
    assert default == uniform


@everything
@recipes
def test_verl_and_actfocus_accept_the_complete_configuration(compose_local, recipe, weighting):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = compose_local(recipe, weighting)
    check_compatible(config, ActFocusSettings.from_config(config))
    assert need_critic(config) is critic_of(recipe)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))


@recipes
def test_verls_classes_hold_the_recipes_values(compose_local, recipe):
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.config import FSDPActorConfig, FSDPCriticConfig, RolloutConfig

    config = compose_local(recipe)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert isinstance(actor, FSDPActorConfig) and isinstance(rollout, RolloutConfig)
    assert (actor.clip_ratio_high, actor.policy_loss.loss_mode, actor.engine.seed) == (0.28, "actfocus", 7)
    assert actor.engine.entropy_from_logits_with_chunking and not actor.engine.entropy_checkpointing
    assert actor.engine.entropy_from_logits_chunk_size == 512
    assert rollout.prompt_length + rollout.response_length == rollout.max_model_len
    assert rollout.agent.default_agent_loop == "actfocus_episode"
    longest = rollout.max_model_len
    assert min(actor.ppo_max_token_len_per_gpu, rollout.log_prob_max_token_len_per_gpu) >= longest
    if critic_of(recipe):
        critic = omega_conf_to_dataclass(config.critic)
        assert isinstance(critic, FSDPCriticConfig)
        assert critic.ppo_infer_max_token_len_per_gpu >= longest
        assert (critic.optim.lr, critic.engine.seed) == (1e-5, 7)


@recipes
@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16, 32])
def test_verl_need_not_fill_up_a_complete_step(compose_recipe, recipe, gpus):
    """veRL pads to a multiple of this; what the selection leaves is one, so no empty trajectory is trained on."""
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    config = compose_recipe(recipe)
    trainer = SimpleNamespace(config=config, use_critic=critic_of(recipe), global_steps=1)
    multiple = PPOTrainer._get_required_batch_multiple(trainer, gpus)
    assert kept_trajectories(config) % multiple == 0


@recipes
def test_one_seed_moves_every_seed_but_that_of_the_evaluation_tasks(compose_local, recipe):
    config = compose_local(recipe)
    # Without a critic nothing reads the critic's seeds.
    keys = [key for key in SEED_KEYS if critic_of(recipe) or not key.startswith("critic")]
    assert {key: OmegaConf.select(config, key) for key in keys} == dict.fromkeys(keys, 7)
    assert EnvironmentSettings.from_config(config.data).val_seed == 0


@recipes
def test_training_outlasts_its_seeds_and_evaluation_has_its_own(compose_recipe, recipe):
    config = compose_recipe(recipe)
    training = EnvironmentDataset("train", config=config.data)
    evaluation = EnvironmentDataset("val", config=config.data)
    assert len(training) >= config.trainer.total_training_steps * config.data.train_batch_size
    assert len(evaluation) == TABLE[environment_of(recipe)][4][0]
    split = evaluation[0]["environment"]["kwargs"].get("split")
    assert split == ("validation" if environment_of(recipe) == "webshop" else None)
