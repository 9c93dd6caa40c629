"""One seed, one run: metrics and weights, bit by bit, in one go or resumed with weights, optimizer and evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .conftest import TINY, main_ppo

pytestmark = pytest.mark.e2e

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
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    for folder in (whole, interrupted):
        folder.mkdir()
    common = [
        "algorithm.adv_estimator=actfocus_grpo",
        "+actfocus=default",
        "+actfocus/run=cpu_frozenlake",
        "+actfocus/device=cpu",
        *TINY[:-3],
        "trainer.save_freq=1",
        "trainer.max_actor_ckpt_to_keep=2",
        # Ten times the miniature's: after one step the model plays visibly otherwise than the one it began with.
        "actor_rollout_ref.actor.optim.lr=1e-3",
        "data.environment.val_size=16",
        "trainer.test_freq=1",
        # Fewer slots than episodes: requests wait for each other.
        "actor_rollout_ref.rollout.max_num_seqs=12",
    ]
    at_once = results(main_ppo(whole, *common, "trainer.total_training_steps=2"))
    first = results(main_ppo(interrupted, *common, "trainer.total_training_steps=1"))
    resumed = results(main_ppo(interrupted, *common, "trainer.total_training_steps=2"))
    assert list(at_once) == [0, 1, 2] and list(first) == [0, 1] and list(resumed) == [1, 2]
    assert first == {step: at_once[step] for step in (0, 1)} and resumed[2] == at_once[2]
    # It evaluates what it begins with: the policy that the first run ended with, and not the one of step 0.
    assert {"val/success", "val/reward", "val/response_length", "val/success_peak"} <= resumed[1].keys()
    assert resumed[1] == {name: first[1][name] for name in resumed[1]}
    assert resumed[1]["val/response_length"] != first[0]["val/response_length"]
    # Two mini-batches a step: Adam has counted those of before the restart.
    optimizer = interrupted / "checkpoints/global_step_2/actor/optim_world_size_1_rank_0.pt"
    states = torch.load(optimizer, weights_only=False)["state"].values()
    assert {int(state["step"]) for state in states} == {4}
    for step in (1, 2):
        expected = weights(whole, step)
        for name, tensor in weights(interrupted, step).items():
            assert torch.equal(tensor, expected[name]), f"step {step}: {name}"
