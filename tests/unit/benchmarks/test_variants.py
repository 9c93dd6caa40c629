"""What `actfocus bench step` composes: every variant, algorithm and size, as veRL would get it."""

from __future__ import annotations

from itertools import product

import pytest
from omegaconf import OmegaConf

from verl_actfocus.benchmarks.step import SIZES, Plan
from verl_actfocus.benchmarks.variants import STOCK_MODE, VARIANTS
from verl_actfocus.cli import _bench_step
from verl_actfocus.config.compatibility import checked_settings
from verl_actfocus.experiments.runs.composition import compose
from verl_actfocus.integration.sync_trainer import STOCK_CPU_MODE
from verl_actfocus.storage.settings import flatten

#: What token weights change in a configuration, and what is compared of them.
OF_WEIGHTING = (
    "algorithm.adv_estimator",
    "trainer.v1.trainer_mode",
    "actor_rollout_ref.actor.policy_loss.loss_mode",
    "algorithm.actfocus.weighting",
    "algorithm.actfocus.share_prompts",
)
#: PPO in one size: the size decides model and batch, the algorithm neither.
CASES = [*product(SIZES, ["grpo"], VARIANTS), *product(["large"], ["ppo"], VARIANTS)]


def test_the_command_offers_every_variant() -> None:
    assert [*VARIANTS] == [*_bench_step.VARIANTS]


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    plan = Plan(
        folder=tmp_path_factory.mktemp("bench"),
        variants=tuple(VARIANTS),
        algorithms=("grpo", "ppo"),
        sizes=tuple(SIZES),
        rounds=1,
        steps=3,
        drop=1,
    )
    runs = plan.runs()
    named = {(size, algorithm, one.name): run for size, algorithm, _, one, run in runs}
    return {case: compose(*named[case].overrides) for case in CASES}


def test_the_stock_mode_is_the_trainers_own_name():
    assert STOCK_MODE == STOCK_CPU_MODE


@pytest.mark.parametrize(("size", "algorithm", "name"), CASES)
def test_every_variant_is_what_it_says(composed, size, algorithm, name):
    config, variant = composed[size, algorithm, name], VARIANTS[name]
    assert config.actor_rollout_ref.actor.use_kl_loss is variant.kl
    stock = {"grpo": "grpo", "ppo": "gae"}[algorithm]
    if variant.weighted:
        assert config.algorithm.adv_estimator == f"actfocus_{stock}"
        assert config.trainer.v1.trainer_mode == "actfocus"
        settings = checked_settings(config)
        assert settings.weighting.name == "actfocus"
        assert settings.trajectories.folder is None
    else:
        assert config.algorithm.adv_estimator == stock
        assert config.trainer.v1.trainer_mode == STOCK_MODE
        assert config.actor_rollout_ref.actor.policy_loss.loss_mode == "vanilla"
        assert "weighting" not in config.algorithm.actfocus


@pytest.mark.parametrize(("size", "algorithm", "name"), CASES)
def test_nothing_is_learned_evaluated_or_saved(composed, size, algorithm, name):
    config = composed[size, algorithm, name]
    assert config.actor_rollout_ref.actor.optim.lr == config.critic.optim.lr == 0.0
    assert config.actor_rollout_ref.actor.optim.weight_decay == config.critic.optim.weight_decay == 0.0
    assert config.trainer.val_before_train is False
    assert config.trainer.test_freq == config.trainer.save_freq == -1


@pytest.mark.parametrize("case", [case for case in CASES if VARIANTS[case[2]].baseline])
def test_a_variant_differs_from_its_baseline_by_the_weighting_alone(composed, case):
    size, algorithm, name = case
    ours, stock = (
        flatten(OmegaConf.to_container(composed[size, algorithm, one], resolve=False))
        for one in (name, VARIANTS[name].baseline)
    )
    different = {key for key in ours.keys() | stock.keys() if ours.get(key, "absent") != stock.get(key, "absent")}
    assert {key for key in different if not key.startswith(OF_WEIGHTING)} == {"trainer.default_local_dir"}


def test_the_large_size_takes_the_larger_model_and_fewer_trajectories(composed):
    tiny, large = (composed[size, "grpo", "stock"] for size in ("tiny", "large"))
    assert large.actor_rollout_ref.model.path.endswith("larger-model")
    with_critic = composed["large", "ppo", "stock"]
    assert with_critic.critic.model.path == large.actor_rollout_ref.model.path
    assert large.actor_rollout_ref.model.tokenizer_path == tiny.actor_rollout_ref.model.tokenizer_path
    assert 4 * large.data.train_batch_size == tiny.data.train_batch_size
