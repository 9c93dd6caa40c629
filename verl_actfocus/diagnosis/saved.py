"""What a training run saved, read for the correlation, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from verl_actfocus.diagnosis.correlation import Group, whole
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.trajectories import Trajectory, read_trajectories, trajectory_files

#: Settings of a run that say which groups it saved.
_KEEP_GROUPS, _GROUP_SIZE = "algorithm.actfocus.keep_groups", "actor_rollout_ref.rollout.n"


@dataclass(frozen=True)
class Steps:
    """The groups of one training step, or of several that are taken together.

    Attributes:
        first: First step.
        last: Last step.
        groups: Their whole groups.
        left_out: Number of groups of which episodes are missing.
    """

    first: int
    last: int
    groups: list[Group]
    left_out: int


class Saved:
    """The trajectories that a run saved.

    Args:
        run: the run's folder, or the folder of trajectories in it.

    Raises:
        ValueError: nothing was saved.
        TrajectoryFormatError: a line is no trajectory.
        ExperimentError: the run's settings cannot be read.

    Attributes:
        keep_groups: Share of the groups that the run trained on, those of the largest spread; None if it is not known,
            because there are no settings of a run here.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._folder = run / "trajectories" if (run / "trajectories").is_dir() else run
        if not self._folder.is_dir():
            raise ValueError(f"--run {run}: there is no such folder")
        settings = next((one.settings for one in map(RunFolder, (run, run.resolve().parent)) if one.exists), None)
        # A run without these settings, such as veRL's own trainer, drops no group.
        self.keep_groups = None if settings is None else float(settings.get(_KEEP_GROUPS, 1.0))
        groups: dict[int, dict[str, Group]] = {}
        for one in self.trajectories():
            if one.step is None:
                raise ValueError(
                    f"--run {run}: {self._folder} holds trajectories of no training step; name a training run"
                )
            groups.setdefault(one.step, {}).setdefault(one.group, Group(step=one.step)).add(one)
        if not groups:
            raise ValueError(
                f"--run {run}: {self._folder} holds no trajectories (*.jsonl or *.jsonl.gz); a run has them if it "
                "saved any"
            )
        self._groups = {step: list(groups[step].values()) for step in sorted(groups)}
        largest = max(len(group.returns) for those in self._groups.values() for group in those)
        #: Episodes of a whole group: as many as the settings say, or as the largest group has.
        self.group_size = largest if settings is None else int(settings.get(_GROUP_SIZE, largest))

    def trajectories(self) -> Iterator[Trajectory]:
        """Yield all that was saved."""
        for path in trajectory_files(self._folder):
            yield from read_trajectories(path)

    def steps(self, pool: int) -> list[Steps]:
        """Return the groups by step, ascending.

        Args:
            pool: how many saved steps are taken together.
        """
        names = list(self._groups)
        found = []
        for block in (names[start : start + pool] for start in range(0, len(names), pool)):
            those = [group for step in block for group in self._groups[step]]
            kept = whole(those, self.group_size)
            found.append(Steps(block[0], block[-1], kept, len(those) - len(kept)))
        return found
