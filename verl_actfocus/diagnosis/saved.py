"""What a training run saved, read for the correlation, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from verl_actfocus.diagnosis.correlation import Group
from verl_actfocus.trajectories import read_trajectories, trajectory_files


@dataclass(frozen=True)
class Steps:
    """The groups of one training step, or of several that are taken together.

    Attributes:
        first: First step.
        last: Last step.
        groups: Their groups.
    """

    first: int
    last: int
    groups: list[Group]


def saved_steps(run: Path, pool: int) -> list[Steps]:
    """Read the trajectories that a run saved.

    Args:
        run: the run's folder, or the folder of trajectories in it.
        pool: how many saved steps are taken together.

    Returns:
        Groups by step, ascending.

    Raises:
        ValueError: nothing was saved.
        TrajectoryFormatError: a line is no trajectory.
    """
    folder = run / "trajectories" if (run / "trajectories").is_dir() else run
    if not folder.is_dir():
        raise ValueError(f"--run {run}: there is no such folder")
    groups: dict[int, dict[str, Group]] = {}
    for path in trajectory_files(folder):
        for trajectory in read_trajectories(path):
            if trajectory.step is None:
                raise ValueError(f"--run {run}: {path} holds trajectories of no training step; name a training run")
            groups.setdefault(trajectory.step, {}).setdefault(trajectory.group, Group()).add(trajectory)
    if not groups:
        raise ValueError(
            f"--run {run}: {folder} holds no trajectories (*.jsonl or *.jsonl.gz); a run has them if it saved any"
        )
    steps = sorted(groups)
    blocks = [steps[start : start + pool] for start in range(0, len(steps), pool)]
    return [Steps(block[0], block[-1], [one for step in block for one in groups[step].values()]) for block in blocks]
