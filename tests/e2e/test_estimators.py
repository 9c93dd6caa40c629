"""Estimators other than the algorithm's own train, with token weights, on what rollout and old policy deliver.

A command of their own, `pytest -m slow`: every run of the tests trains GiGPO in `test_weightings.py`, and an optimal
token baseline in `test_reproduce.py`.
"""

from __future__ import annotations

import math

import pytest

from ..documented_metrics import undocumented
from .conftest import TINY

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.parametrize(
    ("estimator", "weighting"),
    [
        ("gigpo", "default"),
        ("tir_optimal_token_baseline", "uniform"),
        ("turn_gae", "uniform"),
    ],
)
def test_an_estimator_trains_two_steps_one_name_away(run_verl, estimator, weighting):
    metrics = run_verl(
        f"algorithm.adv_estimator=actfocus_{estimator}",
        f"+actfocus={weighting}",
        "+actfocus/run=cpu_frozenlake",
        "+actfocus/device=cpu",
        *TINY,
        "trainer.val_before_train=False",
        "trainer.test_freq=-1",
    )
    assert [step["step"] for step in metrics] == [1, 2]
    for step in metrics:
        assert math.isfinite(step["actor/pg_loss"]) and step["actor/grad_norm"] > 0
        assert step["actfocus/skipped_updates"] == 0 and undocumented(step) == set()
        assert step["critic/advantages/max"] > 0 > step["critic/advantages/min"]
        # All episodes of a group begin in the same state, so at least a turn of each has others to compare with.
        assert ("actfocus/shared_state_share" in step) == (estimator == "gigpo")
        assert estimator != "gigpo" or 0 < step["actfocus/shared_state_share"] <= 1
        assert ("critic/vf_loss" in step) == (estimator == "turn_gae")
