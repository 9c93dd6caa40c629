"""What the trainer asks of the agent loop, of a forward pass and of the update, and what it misses."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from verl_actfocus.config.settings import ActFocusSettings, GradientReportSettings
from verl_actfocus.estimators import GiGPO, OptimalTokenBaseline
from verl_actfocus.integration import fields, trainer
from verl_actfocus.weighting import ActFocus, EntropyTop, Span, Uniform
from verl_actfocus.weighting.inputs import Model

from .queue_standin import handle

A = int(Span.ACTION)


def test_a_pass_is_asked_for_what_the_weighting_needs_of_its_model_and_for_nothing_after_it(build):
    for weighting, wanted in (
        (ActFocus(signal="shift"), {Model.REFERENCE: "ref_log_prob", Model.OLD_POLICY: "old_log_prob"}),
        (EntropyTop(), {Model.REFERENCE: "", Model.OLD_POLICY: "old_entropy"}),
        (Uniform(), {Model.REFERENCE: "", Model.OLD_POLICY: ""}),
    ):
        built, _ = build(weighting)
        for model, names in wanted.items():
            batch = handle(1)
            with built._inputs_requested(batch, model):
                assert batch.extra_info[fields.INPUTS] == names
            assert fields.INPUTS not in batch.extra_info


def test_rewards_of_turns_that_the_agent_loop_does_not_store_are_missed_before_any_pass(build):
    class ByReward(Uniform):
        needs = ("turn_rewards",)

    text = {"prompts": [[5]], "responses": [[6, 7]], "response_mask": [[1, 1]], fields.SPANS: [[A, A]]}
    built, _ = build(ByReward(), **text)
    with pytest.raises(ValueError, match=r"needs \['turn_rewards'\].*agent loop does not store.*\+actfocus/env"):
        built._ensure_rollout_fields(handle(1))
    built, _ = build(ByReward(), **text, **{fields.TURN_REWARDS: [[0.0, 1.0]]})
    built._ensure_rollout_fields(handle(1))


def test_states_that_the_agent_loop_does_not_store_are_missed_by_the_estimators_name(build):
    columns = {fields.SPANS: [[A, A]], fields.TURN_REWARDS: [[0.0, 1.0]]}
    built, _ = build(Uniform(), estimator=GiGPO(), **columns)
    with pytest.raises(ValueError, match=r"the estimator 'actfocus_gigpo' needs \['anchor_states'\].*\+actfocus/env"):
        built._ensure_rollout_fields(handle(1))
    built, _ = build(Uniform(), estimator=GiGPO(), **columns, **{fields.ANCHOR_STATES: [[0, 2**63 - 1]]})
    built._ensure_rollout_fields(handle(1))


def test_a_pass_is_asked_for_what_the_estimator_needs_beside_the_weighting(build):
    built, _ = build(ActFocus(signal="shift"), estimator=OptimalTokenBaseline())
    with built._inputs_requested(batch := handle(1), Model.OLD_POLICY):
        assert batch.extra_info[fields.INPUTS] == "old_log_prob,old_sum_pi_squared"
    with built._inputs_requested(batch, Model.REFERENCE):
        assert batch.extra_info[fields.INPUTS] == "ref_log_prob"


def test_what_a_synthetic_row_has_copied_gets_its_own_length(build):
    class ByReward(Uniform):
        needs = ("turn_rewards",)

    columns = {fields.SPANS: [[A, A], [A, A]], fields.TURN_REWARDS: [[0.0, 1.0], [0.0, 1.0]]}
    built, queue = build(ByReward(), **columns)
    built._fit_padding(handle(2, padding={1}))
    assert [len(row) for row in queue.columns[fields.SPANS]] == [2, 1]
    assert queue.columns[fields.TURN_REWARDS][1].tolist() == [0.0]
    columns = {fields.SPANS: [[A, A]] * 2, fields.TURN_REWARDS: [[0.0, 1.0]] * 2, fields.ANCHOR_STATES: [[0, 7]] * 2}
    built, queue = build(Uniform(), estimator=GiGPO(), **columns)
    built._fit_padding(handle(2, padding={1}))
    assert queue.columns[fields.ANCHOR_STATES][1].tolist() == [0]
    assert queue.columns[fields.ANCHOR_STATES][1].dtype == torch.int64


@pytest.mark.parametrize(("step", "asked"), [(3, None), (4, 4)])
def test_every_so_manyeth_update_is_asked_for_a_gradient_report_and_its_metrics_keep_their_names(
    build, monkeypatch, step, asked
):
    def update(self, batch, metrics):
        metrics.update({"actor/grad_norm": 1.0, "actor/actfocus/skipped_update_share": 0.5})
        if batch.extra_info.get(fields.GRADIENT_REPORT):
            metrics["actor/actfocus/gradient_cosine"] = 0.25
        return batch

    monkeypatch.setattr(trainer.EpisodeTrainer, "_update_actor", update)
    built, _ = build(Uniform(), step=step)
    built.settings = ActFocusSettings(weighting=Uniform(), gradient_report=GradientReportSettings(every=2))
    actor = SimpleNamespace(ppo_mini_batch_size=1, ppo_epochs=1)
    built.config = SimpleNamespace(actor_rollout_ref=SimpleNamespace(actor=actor, rollout=SimpleNamespace(n=2)))
    metrics = {}
    batch = built._update_actor(handle(4), metrics)
    assert batch.extra_info.get(fields.GRADIENT_REPORT) == asked
    report = {"actfocus/gradient_cosine": 0.25} if asked else {}
    assert metrics == {"actor/grad_norm": 1.0, "actfocus/skipped_updates": 1, **report}


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("mini_batch", {}),
        ("batch", {fields.FIXED_NORMALIZER: 6.0 / 2}),
        ("micro_batch", {fields.NORMALIZE_MICRO_BATCHES: True}),
        ("tokens", {fields.NORMALIZE_BY_TOKENS: True}),
    ],
)
def test_the_update_is_told_what_the_loss_is_divided_by(name, entries, build, monkeypatch):
    built, _ = build(Uniform())
    built.settings = dataclasses.replace(built.settings, normalize_over=name)
    actor = {"ppo_mini_batch_size": 2, "ppo_epochs": 1}
    built.config = OmegaConf.create({"actor_rollout_ref": {"actor": actor, "rollout": {"n": 2}}})
    told = {}

    def update(self, batch, metrics):
        told.update(batch.extra_info)
        metrics[trainer.SKIPPED_METRIC] = 0.0
        return batch

    monkeypatch.setattr(trainer.ActFocusTrainer.__mro__[1], "_update_actor", update)
    built._update_actor(handle(8), {})
    assert told == entries
