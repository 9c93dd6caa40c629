"""Weightings other than ActFocus train: a packaged one by its word, with an estimator; a user's by its module."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from ..documented_metrics import undocumented
from .conftest import TINY

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"
RUN = [
    "algorithm.adv_estimator=actfocus_grpo",
    "+actfocus/device=cpu",
    *TINY,
    "trainer.val_before_train=False",
    "trainer.test_freq=-1",
]


def check(metrics: list[dict]) -> None:
    assert [step["step"] for step in metrics] == [1, 2]
    for step in metrics:
        assert math.isfinite(step["actor/pg_loss"]) and step["actor/grad_norm"] > 0
        assert step["actfocus/skipped_updates"] == 0
        # Neither reads the reference model, so no pass of it is run.
        assert "timing_s/ref" not in step


def test_entropy_top_trains_on_a_fifth_of_the_tokens_with_the_advantages_of_gigpo(run_verl):
    # With fused kernels: the entropy comes out of a forward pass that never holds the logits as a whole.
    fused = "actor_rollout_ref.model.use_fused_kernels=True"
    metrics = run_verl(
        "+actfocus=entropy_top", "+actfocus/run=cpu_frozenlake", fused, *RUN, "algorithm.adv_estimator=actfocus_gigpo"
    )
    check(metrics)
    for step in metrics:
        # All episodes of a group begin in the same state, so at least a turn of each has others to compare with.
        assert 0 < step["actfocus/shared_state_share"] <= 1
        assert step["critic/advantages/max"] > 0 > step["critic/advantages/min"] and undocumented(step) == set()
        spans = ("none", "reasoning", "action")
        mean = sum(step[f"actfocus/token_share/{span}"] * step[f"actfocus/mean_weight/{span}"] for span in spans)
        # Rounded up to a whole token of some hundreds.
        assert 0.2 <= mean < 0.205
        assert step["actfocus/entropy_threshold"] > 0
        # Of all tokens, entropy of the least sure fifth is above the mean (veRL's own metric, at temperature 1 here).
        assert step["actfocus/entropy_threshold"] > step["actor/entropy"]


def test_a_weighting_of_the_users_own_trains_with_rewards_of_turns(run_verl, monkeypatch):
    """The tutorial, with turn rewards that travel from the agent loop to the scheme."""
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "new_weighting")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]))
    metrics = run_verl(
        "+actfocus=custom",
        "algorithm.actfocus.weighting.name=penalised_turns",
        "+algorithm.actfocus.weighting.factor=3",
        # Every step costs 0.1 here, so only turns that solve the task are paid more than nothing.
        "+actfocus/run=cpu_sokoban",
        *RUN,
    )
    check(metrics)
    for step in metrics:
        assert 1 < step["actfocus/mean_weight/action"] <= 3
