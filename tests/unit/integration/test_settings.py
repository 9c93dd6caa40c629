"""Wrong settings stop before anything is built, with the setting, the value and the remedy."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import fields

import pytest
from omegaconf import OmegaConf

from verl_actfocus.config.compatibility import check_compatible
from verl_actfocus.config.settings import ActFocusSettings, GradientReportSettings, TrajectorySettings
from verl_actfocus.episodes import TagSettings
from verl_actfocus.estimators import GiGPO
from verl_actfocus.weighting import WEIGHTINGS, ActFocus, EntropyTop, Uniform
from verl_actfocus.weighting.inputs import Model, engine_inputs

from . import composing

BASE = [
    "algorithm.adv_estimator=actfocus_grpo",
    "+actfocus=default",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.rollout.n=8",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
]


@pytest.fixture(scope="module")
def composed():
    return composing.compose(BASE)


@pytest.fixture
def config(composed):
    return OmegaConf.create(OmegaConf.to_container(composed, resolve=False))


def check(config):
    check_compatible(config, ActFocusSettings.from_config(config))


def test_the_packaged_defaults_are_the_papers_setting_and_are_accepted(config):
    settings = ActFocusSettings.from_config(config)
    assert settings.weighting == ActFocus(alpha=0.1, beta=0.5, signal="energy")
    assert config.trainer.v1.trainer_mode == "actfocus"
    check(config)


@pytest.mark.parametrize("weighting", sorted(set(WEIGHTINGS) - {"actfocus"}))
def test_every_other_weighting_is_one_word_away(weighting):
    config = composing.compose(["algorithm.adv_estimator=actfocus_grpo", f"+actfocus={weighting}", *BASE[2:]])
    settings = ActFocusSettings.from_config(config)
    assert settings.weighting == WEIGHTINGS[weighting]()
    assert not engine_inputs(settings.weighting, Model.REFERENCE)
    check(config)


def test_what_the_section_holds_beside_the_weighting_has_the_same_defaults_in_yaml_and_in_the_class():
    environment = composing.compose([*BASE, "+actfocus/env=sokoban"])
    stock = composing.compose(BASE)
    assert set(stock.algorithm.actfocus) == {"weighting"}
    # The estimator has its name in veRL's own section, and settings where a run sets some.
    assert {*environment.algorithm.actfocus, "estimator"} == {field.name for field in fields(ActFocusSettings)}
    assert set(environment.algorithm.actfocus.tags) == {field.name for field in fields(TagSettings)}
    assert set(environment.algorithm.actfocus.trajectories) == {field.name for field in fields(TrajectorySettings)}
    assert set(environment.algorithm.actfocus.gradient_report) == {f.name for f in fields(GradientReportSettings)}
    assert ActFocusSettings.from_config(environment) == ActFocusSettings.from_config(stock)
    assert ActFocusSettings.from_config(stock) == ActFocusSettings(weighting=ActFocus())


@pytest.mark.parametrize("group", ["recipe=sokoban_ppo", "recipe=webshop_grpo", "run=cpu_sudoku", "env=frozenlake"])
@pytest.mark.parametrize("weighting", ["default", "uniform", "entropy_top"])
def test_the_order_of_groups_on_the_command_line_does_not_matter(group, weighting):
    orders = [[f"+actfocus={weighting}", f"+actfocus/{group}"], [f"+actfocus/{group}", f"+actfocus={weighting}"]]
    first, second = (OmegaConf.to_container(composing.compose(order), resolve=False) for order in orders)
    assert first == second


def test_a_weighting_from_outside_takes_its_name_and_added_settings(monkeypatch):
    class Mine(Uniform):
        name = "mine"

    monkeypatch.setitem(WEIGHTINGS, "mine", Mine)
    overrides = [BASE[0], "+actfocus=custom", "algorithm.actfocus.weighting.name=mine"]
    assert ActFocusSettings.from_config(composing.compose(overrides)).weighting == Mine()
    with pytest.raises(ValueError, match=r"no setting \['x'\]; Mine has none"):
        ActFocusSettings.from_config(composing.compose([*overrides, "+algorithm.actfocus.weighting.x=1"]))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("keep_groups", 0, r"=0 must lie in \(0, 1\]"),
        ("keep_groups", 1.5, r"=1\.5 must lie in"),
        ("keep_groups", "half", "='half' must be a finite number"),
        ("share_prompts", "yes", "='yes' must be true or false"),
        ("normalize_over", "bacth", "='bacth' is unknown; choose one of"),
        ("normalize_over", 3, "=3 must be a text"),
        ("weighting.alpha", 7, r"=7 must lie in \[0, 1\]"),
        ("trajectories", 3, "=3 must be a section"),
        ("trajectories.every", 0, "=0 and groups=2 must be at least 1"),
        ("trajectories.groups", "x", "='x' must be a whole number"),
        ("trajectories.count", 4, r"\.trajectories has no setting \['count'\]"),
        ("trajectories.max_megabytes", 0, r"max_megabytes=0 must be positive; folder=null writes nothing"),
        ("gradient_report.every", -1, "=-1 must be at least 1, or null or 0 for no report"),
        ("gradient_report.every", 2.5, "=2.5 must be a whole number or null"),
        ("trajectories.evry", 1, r"\.trajectories has no setting \['evry'\]"),
        ("tags.prefill", 3, "=3 must be a text"),
        ("tags", ["<a>"], "must be a section"),
        ("alpha", 0.5, r"actfocus has no setting \['alpha'\]; ActFocusSettings has .*'weighting'"),
    ],
)
def test_a_wrong_value_is_named_with_place_and_remedy(config, path, value, message):
    OmegaConf.update(config, f"algorithm.actfocus.{path}", value, force_add=True)
    with pytest.raises(ValueError, match=message) as error:
        ActFocusSettings.from_config(config)
    assert "algorithm.actfocus" in str(error.value)


@pytest.mark.parametrize(("every", "steps"), [(None, []), (0, []), (1, [1, 2, 3, 4, 5, 6]), (3, [3, 6])])
def test_the_gradient_is_reported_on_at_every_so_manyeth_step(every, steps):
    settings = GradientReportSettings(every=every)
    assert [step for step in range(1, 7) if settings.due(step)] == steps


@pytest.mark.parametrize("section", [None, {}, {"keep_groups": 0.5}])
def test_a_missing_weighting_names_the_group_to_add(config, section):
    config.algorithm.actfocus = section
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
        ("actor_rollout_ref.rollout.n", 1, r"rollout\.n=1: actfocus_grpo compares .* set .*rollout\.n to 2 or more"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_the_reason(config, path, value, message):
    OmegaConf.update(config, path, value)
    with pytest.raises(ValueError, match=message):
        check(config)


def test_ppo_trains_on_groups_of_one_but_cannot_choose_among_them(config):
    config.algorithm.adv_estimator = "actfocus_gae"
    config.actor_rollout_ref.rollout.n = 1
    check(config)
    OmegaConf.update(config, "algorithm.actfocus.keep_groups", 0.25, force_add=True)
    with pytest.raises(ValueError, match=r"rollout\.n=1: .*keep_groups=0\.25 keeps the groups whose rewards differ"):
        check(config)


@pytest.mark.parametrize("name", ["gigpo", "optimal_token_baseline", "tir_optimal_token_baseline"])
def test_every_estimator_that_compares_a_group_needs_one(config, name):
    config.algorithm.adv_estimator = f"actfocus_{name}"
    check(config)
    config.actor_rollout_ref.rollout.n = 1
    with pytest.raises(ValueError, match=rf"rollout\.n=1: actfocus_{name} compares"):
        check(config)


def test_settings_of_the_estimator_are_added_beside_the_weighting():
    changed = ["algorithm.adv_estimator=actfocus_gigpo", *BASE[1:], "++algorithm.actfocus.estimator.omega=0.5"]
    settings = ActFocusSettings.from_config(composing.compose(changed))
    assert settings.estimator == GiGPO(omega=0.5)
    assert settings.needs == (*ActFocus().needs, "turn_rewards", "anchor_states")
    assert ActFocusSettings.needs_from_config(composing.compose(changed)) == settings.needs
    stock = ["algorithm.adv_estimator=grpo", "trainer.v1.trainer_mode=sync"]
    for others in (["+actfocus/env=sokoban"], ["+actfocus=default", *stock]):
        assert ActFocusSettings.needs_from_config(composing.compose(others)) == ()


@pytest.mark.parametrize("name", ["gigpo", "turn_gae"])
def test_rewards_of_turns_hold_no_kl_penalty(config, name):
    config.algorithm.adv_estimator = f"actfocus_{name}"
    config.algorithm.use_kl_in_reward = True
    with pytest.raises(ValueError, match=rf"'actfocus_{name}' reads the rewards of the turns.*use_kl_loss=True"):
        check(config)


@pytest.mark.parametrize("no", [False, 0])
@pytest.mark.parametrize("name", ["gae", "turn_gae"])
def test_an_estimator_with_a_critic_refuses_to_be_without(config, name, no):
    config.algorithm.adv_estimator = f"actfocus_{name}"
    config.critic.enable = no
    with pytest.raises(ValueError, match=rf"actfocus_{name} needs a critic; remove"):
        check(config)


@pytest.mark.parametrize("section", ["actor_rollout_ref.actor", "actor_rollout_ref.ref", "critic"])
def test_engines_other_than_fsdp_are_refused_for_every_model_that_is_there(config, section):
    OmegaConf.update(config, f"{section}.strategy", "megatron")
    config.algorithm.adv_estimator = "actfocus_gae"
    with pytest.raises(ValueError, match=rf"{section}\.strategy=megatron is not supported; ActFocus runs on fsdp"):
        check(config)
    if section == "critic":
        config.algorithm.adv_estimator = "actfocus_grpo"
        check(config)


def test_the_optimal_baseline_needs_the_old_policys_own_pass(config):
    config.algorithm.adv_estimator = "actfocus_optimal_token_baseline"
    config.algorithm.rollout_correction.bypass_mode = True
    with pytest.raises(ValueError, match=r"estimator 'actfocus_optimal_.* needs \['old_sum_pi_squared'\].*bypass_mode"):
        check(config)


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean"])
def test_modes_with_a_weighted_mean_are_accepted(config, mode):
    config.actor_rollout_ref.actor.loss_agg_mode = mode
    check(config)


@pytest.mark.parametrize("signal", ["energy", "entropy", "shift", "nll"])
@pytest.mark.parametrize("backend", ["torch", "triton", "liger"])
def test_fused_kernels_go_with_every_signal_and_backend_that_verl_knows(config, signal, backend):
    config.actor_rollout_ref.model.use_fused_kernels = True
    config.actor_rollout_ref.model.fused_kernel_options.impl_backend = backend
    config.actor_rollout_ref.model.use_remove_padding = True
    config.algorithm.actfocus.weighting.signal = signal
    check(config)


@pytest.mark.parametrize(
    ("device", "remove_padding", "message"),
    [
        ("cpu", True, r"impl_backend=triton computes on a GPU alone, and trainer.device=cpu; use torch"),
        ("cuda", False, r"impl_backend=triton goes with .*use_remove_padding=True alone: .*one long row"),
        ("cuda", True, None),
    ],
)
def test_the_triton_kernel_is_refused_where_it_would_stop_in_the_first_pass(config, device, remove_padding, message):
    config.trainer.device = device
    model = config.actor_rollout_ref.model
    model.use_fused_kernels, model.use_remove_padding = True, remove_padding
    model.fused_kernel_options.impl_backend = "triton"
    with nullcontext() if message is None else pytest.raises(ValueError, match=message):
        check(config)
    model.fused_kernel_options.impl_backend = "torch"
    check(config)


def test_a_backend_of_fused_kernels_that_verl_would_silently_leave_out_is_refused(config):
    config.actor_rollout_ref.model.fused_kernel_options.impl_backend = "cuda"
    check(config)
    config.actor_rollout_ref.model.use_fused_kernels = True
    with pytest.raises(ValueError, match=r"impl_backend=cuda: .*use one of \['torch', 'triton', 'liger'\]"):
        check(config)


@pytest.mark.parametrize(("signal", "needs"), [("energy", True), ("entropy", True), ("shift", True), ("nll", False)])
def test_the_reference_model_runs_only_for_signals_computed_from_it(config, signal, needs):
    config.algorithm.actfocus.weighting.signal = signal
    assert bool(engine_inputs(ActFocusSettings.from_config(config).weighting, Model.REFERENCE)) is needs


@pytest.mark.parametrize(
    ("weighting", "temperature", "accepted"),
    [
        (ActFocus(signal="nll"), 1.0, True),  # the rollout's own log-probabilities
        (ActFocus(signal="nll"), 0.7, False),
        (ActFocus(), 0.7, True),
        (EntropyTop(), 1.0, False),  # no forward pass of the old policy, so no entropy
    ],
)
def test_bypass_mode_is_refused_where_it_leaves_out_what_the_weighting_needs(config, weighting, temperature, accepted):
    config.algorithm.rollout_correction.bypass_mode = True
    config.actor_rollout_ref.rollout.temperature = temperature
    settings = ActFocusSettings(weighting=weighting)
    if accepted:
        check_compatible(config, settings)
    else:
        with pytest.raises(ValueError, match=rf"{weighting.name}.*temperature 1.*set bypass_mode=False"):
            check_compatible(config, settings)


def test_an_input_that_nothing_delivers_is_refused_before_anything_is_built(config):
    class Wishful(Uniform):
        name = "wishful"
        needs = ("turns", "ref_hidden_state")

    with pytest.raises(ValueError, match=r"'wishful' needs \['ref_hidden_state'\].*weighting/inputs\.py"):
        check_compatible(config, ActFocusSettings(weighting=Wishful()))


def test_tags_are_read_also_where_no_token_is_weighted():
    config = composing.compose(["+actfocus/env=sokoban", "algorithm.actfocus.tags.prefill=''"])
    assert ActFocusSettings.tags_from_config(config) == TagSettings(prefill="")
    assert ActFocusSettings.tags_from_config(composing.compose([])) == TagSettings()
