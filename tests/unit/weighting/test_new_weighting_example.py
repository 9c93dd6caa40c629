"""The tutorial's weighting is chosen from a configuration like a packaged one, and is short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "new_weighting.py"
#: What a training process does before it trains, then the weights of two turns, paid -0.1 and 1.
TRAINING = """
import torch, verl
from hydra import compose, initialize_config_module
from verl_actfocus.config.settings import ActFocusSettings
from verl_actfocus.config.compatibility import check_compatible
from verl_actfocus.weighting import TokenBatch, compute_weights, turn_indices
overrides = ["algorithm.adv_estimator=actfocus_grpo", "+actfocus=custom", "actor_rollout_ref.rollout.n=8"]
overrides += ["algorithm.actfocus.weighting.name=penalised_turns", "+algorithm.actfocus.weighting.factor=3"]
with initialize_config_module("verl.trainer.config", version_base=None):
    config = compose("ppo_trainer", overrides=overrides)
settings = ActFocusSettings.from_config(config)
check_compatible(config, settings)
mask = torch.tensor([[1, 1, 0, 1]])
rewards = {"turn_rewards": torch.tensor([[0.0, -0.1, 0.0, 1.0]])}
batch = TokenBatch(spans=mask, response_mask=mask, turns=turn_indices(mask), advantages=mask.float(), inputs=rewards)
print(settings.weighting, compute_weights(settings.weighting, batch).tolist())
"""


def test_a_training_run_finds_it_when_verl_is_told_to_import_its_module() -> None:
    paths = os.pathsep.join([str(EXAMPLE.parents[1]), str(EXAMPLE.parent)])
    told = {"VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "new_weighting", "PYTHONPATH": paths}
    run = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, env=os.environ | told)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "PenalisedTurns(factor=3) [[3.0, 3.0, 0.0, 1.0]]"


def test_it_takes_less_than_forty_lines() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 40
