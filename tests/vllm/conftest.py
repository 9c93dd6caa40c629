"""Training runs whose rollout is vLLM's CPU build; `scripts/vllm_cpu.sh` makes the environment and runs these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from verl_actfocus.trajectories import Trajectory, read_trajectories, trajectory_files

from ..e2e.conftest import main_ppo

#: The FrozenLake miniature with half a batch, every trajectory written, and the tasks of its evaluation twice each.
MINIATURE = [
    "+actfocus=default",
    "+actfocus/run=cpu_frozenlake",
    "+actfocus/device=cpu_vllm",
    "data.train_batch_size=8",
    "actor_rollout_ref.rollout.val_kwargs.n=2",
    # Ten times the miniature's: after one step the model answers visibly otherwise than the one it began with.
    "actor_rollout_ref.actor.optim.lr=1e-3",
    "algorithm.actfocus.trajectories.every=1",
    "algorithm.actfocus.trajectories.groups=8",
    "trainer.total_training_steps=2",
    "trainer.save_freq=-1",
]
NO_EVALUATION = ["trainer.val_before_train=False", "trainer.test_freq=-1"]


def train(folder: Path, *overrides: str) -> list[dict]:
    """Train in a folder with GRPO, or as the overrides say, and return the metrics of every step."""
    written = f"algorithm.actfocus.trajectories.folder={folder}/trajectories"
    return main_ppo(folder, "algorithm.adv_estimator=actfocus_grpo", *MINIATURE, written, *overrides)


def trajectories(folder: Path, step: int) -> list[Trajectory]:
    """What a run in this folder has sampled in a step."""
    (file,) = [file for file in trajectory_files(folder / "trajectories") if file.name == f"{step}.jsonl"]
    return list(read_trajectories(file))


def sampled(trajectory: Trajectory, *signals: str) -> Iterator[tuple[float, ...]]:
    """The values of these signals at every token that the model sampled."""
    for values in zip(*(trajectory.signals[name] for name in signals), trajectory.turns, strict=True):
        *found, turn = values
        if turn >= 0:
            assert None not in found
            yield tuple(float(value) for value in found if value is not None)


def largest_difference(of: list[Trajectory], first: str, second: str) -> float:
    """Largest difference of two log-probabilities over all sampled tokens."""
    return max(abs(one - other) for trajectory in of for one, other in sampled(trajectory, first, second))
