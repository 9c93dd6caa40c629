"""Wrong settings stop before anything is built, with the setting, the value and the remedy."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf, open_dict

from verl_actfocus.integration.settings import ActFocusSettings, check_compatible

from . import gradients

BASE = [
    "algorithm.adv_estimator=actfocus_grpo",
    "+actfocus=default",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
]


@pytest.fixture(scope="module")
def composed():
    return gradients.compose(BASE)


@pytest.fixture
def config(composed):
    return OmegaConf.create(OmegaConf.to_container(composed, resolve=False))


def check(config):
    check_compatible(config, ActFocusSettings.from_config(config))


def test_the_packaged_defaults_are_the_papers_setting_and_are_accepted(config):
    settings = ActFocusSettings.from_config(config)
    assert (settings.alpha, settings.beta, settings.signal) == (0.1, 0.5, "energy")
    assert config.trainer.v1.trainer_mode == "actfocus"
    check(config)


def test_uniform_is_one_word_away():
    uniform = gradients.compose(["algorithm.adv_estimator=actfocus_grpo", "+actfocus=uniform", *BASE[2:]])
    settings = ActFocusSettings.from_config(uniform)
    assert (settings.alpha, settings.beta) == (1.0, 0.0)
    assert not settings.needs_signal and not settings.needs_reference


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", -0.1),
        ("alpha", 1.1),
        ("alpha", float("nan")),
        ("beta", -1),
        ("eps", 0),
        ("other", -1),
        ("signal", "energie"),
        ("keep_groups", 0),
        ("keep_groups", 1.5),
    ],
)
def test_a_value_out_of_range_is_named(config, name, value):
    config.algorithm.actfocus[name] = value
    with pytest.raises(ValueError, match=rf"algorithm\.actfocus\.{name}="):
        ActFocusSettings.from_config(config)


def test_an_unknown_setting_is_named_with_those_that_exist(config):
    with open_dict(config):
        config.algorithm.actfocus.alfa = 0.5
    with pytest.raises(ValueError, match=r"no setting \['alfa'\].*alpha"):
        ActFocusSettings.from_config(config)


def test_a_missing_section_names_the_group_to_add(config):
    del config.algorithm["actfocus"]
    with pytest.raises(ValueError, match=r"\+actfocus=default"):
        ActFocusSettings.from_config(config)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("algorithm.adv_estimator", "grpo", "actfocus_grpo"),
        ("actor_rollout_ref.actor.policy_loss.loss_mode", "vanilla", "ignore the token weights"),
        ("actor_rollout_ref.actor.loss_agg_mode", "token-sum", "sum, not a mean"),
        ("actor_rollout_ref.actor.loss_agg_mode", "seq-mean-token-sum", "sum, not a mean"),
        ("actor_rollout_ref.actor.loss_agg_mode", "seq-mean-token-sum-norm", "sum, not a mean"),
        ("actor_rollout_ref.actor.strategy", "megatron", "fsdp"),
        ("actor_rollout_ref.model.use_fused_kernels", True, "hides the logits"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_the_reason(config, path, value, message):
    OmegaConf.update(config, path, value)
    with pytest.raises(ValueError, match=message):
        check(config)


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean"])
def test_modes_with_a_weighted_mean_are_accepted(config, mode):
    config.actor_rollout_ref.actor.loss_agg_mode = mode
    check(config)


def test_fused_kernels_are_fine_where_no_signal_is_needed(config):
    config.actor_rollout_ref.model.use_fused_kernels = True
    config.algorithm.actfocus.beta = 0
    check(config)


@pytest.mark.parametrize(("signal", "needs"), [("energy", True), ("entropy", True), ("shift", True), ("nll", False)])
def test_the_reference_model_runs_only_for_signals_computed_from_it(config, signal, needs):
    config.algorithm.actfocus.signal = signal
    assert ActFocusSettings.from_config(config).needs_reference is needs
