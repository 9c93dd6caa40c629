"""One seed, one run: metrics and weights, bit by bit, in one go or resumed with weights, optimizer and evaluations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from .conftest import TINY, main_ppo

pytestmark = pytest.mark.e2e

#: Names the newest checkpoint of a run (veRL, `trainer/ppo/ray_trainer.py`).
LATEST = "latest_checkpointed_iteration.txt"
#: What measures the machine.
OF_THE_MACHINE = ("timing_s/", "timing_per_token_ms/", "perf/", "actor/perf/", "critic/perf/")


def results(metrics: list[dict]) -> dict[int, dict]:
    """What a run logged by step, without what measures the machine."""
    return {
        step["step"]: {name: value for name, value in step.items() if not name.startswith(OF_THE_MACHINE)}
        for step in metrics
    }


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """The policy of a checkpoint."""
    file = folder / f"checkpoints/global_step_{step}/actor/model_world_size_1_rank_0.pt"
    return dict(torch.load(file, weights_only=False))


def test_a_seed_gives_one_run_whether_it_was_interrupted_or_not(tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        folder.mkdir()
    common = [
        "algorithm.adv_estimator=actfocus_grpo",
        "+actfocus=default",
        "+actfocus/run=cpu_frozenlake",
        "+actfocus/device=cpu",
        *TINY[:-2],
        "trainer.save_freq=1",
        "trainer.max_actor_ckpt_to_keep=2",
        # Ten times the miniature's: after one step the model plays visibly otherwise than the one it began with.
        "actor_rollout_ref.actor.optim.lr=1e-3",
        "data.environment.val_size=16",
        "trainer.test_freq=1",
        # Fewer slots than episodes: requests wait for each other.
        "actor_rollout_ref.rollout.max_num_seqs=12",
    ]
    at_once = results(main_ppo(whole, *common))
    # What a run leaves that is ended after its first step.
    shutil.copytree(whole / "checkpoints/global_step_1", resumed / "checkpoints/global_step_1")
    (resumed / "checkpoints" / LATEST).write_text("1")
    again = results(main_ppo(resumed, *common))
    assert list(at_once) == [0, 1, 2] and list(again) == [1, 2]
    assert again[2] == at_once[2] and "rollout/success" in again[2]
    # It evaluates what it begins with: the policy of the checkpoint, and not the one of step 0.
    assert {"val/success", "val/reward", "val/response_length", "val/success_peak"} <= again[1].keys()
    assert again[1] == {name: at_once[1][name] for name in again[1]}
    assert again[1]["val/response_length"] != at_once[0]["val/response_length"]
    # Two mini-batches a step: Adam has counted those of before the restart.
    optimizer = resumed / "checkpoints/global_step_2/actor/optim_world_size_1_rank_0.pt"
    states = torch.load(optimizer, weights_only=False)["state"].values()
    assert {int(state["step"]) for state in states} == {4}
    expected, found = weights(whole, 2), weights(resumed, 2)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert not all(torch.equal(weights(whole, 1)[name], tensor) for name, tensor in expected.items())
