"""With uniform weights a training is stock veRL's to the last bit: three steps of each, beside one another."""

from __future__ import annotations

import pytest
import torch

from .conftest import TINY, main_ppo
from .test_repeatability import results, weights

pytestmark = pytest.mark.e2e

STEPS = 3


@pytest.mark.parametrize(
    ("weighted", "stock"),
    [
        pytest.param("actfocus_grpo", "grpo", id="grpo"),
        pytest.param("actfocus_gae", "gae", id="ppo", marks=pytest.mark.slow),
    ],
)
def test_metrics_and_weights_after_three_steps_are_those_of_stock_verl(tmp_path, weighted, stock):
    common = [
        "+actfocus/run=cpu_frozenlake",
        "+actfocus/device=cpu",
        *(word for word in TINY if not word.startswith(("trainer.total_training_steps", "trainer.save_freq"))),
        f"trainer.total_training_steps={STEPS}",
        f"trainer.save_freq={STEPS}",
        "trainer.val_before_train=False",
        "trainer.test_freq=-1",
    ]
    own, theirs = tmp_path / "uniform", tmp_path / "stock"
    own.mkdir()
    theirs.mkdir()
    ours = results(main_ppo(own, f"algorithm.adv_estimator={weighted}", "+actfocus=uniform", *common))
    base = results(main_ppo(theirs, f"algorithm.adv_estimator={stock}", "trainer.v1.trainer_mode=sync_cpu", *common))
    assert list(ours) == list(base) == list(range(1, STEPS + 1))
    for step, metrics in base.items():
        assert "actor/pg_loss" in metrics and "actor/grad_norm" in metrics
        assert not any(name.startswith("actfocus/") for name in metrics)
        assert {name: ours[step][name] for name in metrics} == metrics
    expected, found = weights(theirs, STEPS), weights(own, STEPS)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
