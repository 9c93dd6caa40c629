"""What an evaluation keeps on disk, and which folder may be continued.

=======================  ==============================================================================================
`settings.json`        model and settings, written first; a folder with other ones is refused
`trajectories.jsonl`   every finished episode, one a line, written as it ends (`verl_actfocus.trajectories`)
`failures.jsonl`       episodes of the last attempt that ended in an infrastructure failure, likewise
`summary.json`         settings, figures, versions, hardware; written last
=======================  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.storage.claims import claimed
from verl_actfocus.storage.disk import write_json, writing
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.trajectories import Trajectory, TrajectoryFormatError, read_trajectories, write_trajectory
from verl_actfocus.trajectories.files import drop_cut_line


@dataclass(frozen=True)
class EvaluationFolder:
    """The files of one evaluation.

    Args:
        path: the folder; it need not exist yet.
        remedy: what to do where it cannot be continued, for messages.
    """

    path: Path
    remedy: str = "choose another --out or delete the folder"

    @property
    def trajectories(self) -> Path:
        """Finished episodes."""
        return self.path / "trajectories.jsonl"

    @property
    def failures(self) -> Path:
        """Failed episodes of the last attempt."""
        return self.path / "failures.jsonl"

    @property
    def summary(self) -> Path:
        """Settings and figures."""
        return self.path / "summary.json"

    @contextmanager
    def claimed(self, settings: dict[str, Any]) -> Iterator[None]:
        """Claim the folder for an evaluation, or make sure that it was claimed for this one, while the block runs.

        Args:
            settings: model and settings, as plain values.

        Raises:
            ExperimentError: the folder holds another evaluation or other files, or is in use.
        """
        with claimed(self.path, settings, "evaluation", self.remedy):
            yield

    def check(self) -> None:
        """Make sure that the folder's episodes are of the format that is written now.

        Raises:
            ExperimentError: they are not.
        """
        next(self._finished(), None)

    def episodes(self) -> list[EpisodeRecord]:
        """Read the finished episodes, without their tokens. A last line that was cut off is removed from the file.

        Raises:
            ExperimentError: another line is not an episode.
        """
        if self.trajectories.exists():
            drop_cut_line(self.trajectories)
        return list(self._finished())

    def _finished(self) -> Iterator[EpisodeRecord]:
        if not self.trajectories.exists():
            return
        try:
            for number, trajectory in enumerate(read_trajectories(self.trajectories), start=1):
                if trajectory.episode is None:
                    raise TrajectoryFormatError(f"{self.trajectories}, line {number}: no record of an episode")
                yield trajectory.episode
        except TrajectoryFormatError as error:
            raise ExperimentError(
                f"{error}; the evaluation was written by another version of this package, or the file is damaged: "
                f"{self.remedy}"
            ) from error

    def add(self, trajectory: Trajectory) -> None:
        """Write a finished episode."""
        _append(self.trajectories, trajectory)

    def forget_failures(self) -> None:
        """Begin a new attempt: what failed before is played again."""
        self.failures.unlink(missing_ok=True)

    def add_failure(self, trajectory: Trajectory) -> None:
        """Write a failed episode."""
        _append(self.failures, trajectory)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary."""
        write_json(self.summary, summary)


def by_task(records: Sequence[EpisodeRecord]) -> dict[int, list[EpisodeRecord]]:
    """Group episodes by their task, tasks and samples ascending."""
    groups: dict[int, list[EpisodeRecord]] = {}
    for record in sorted(records, key=lambda one: (one.task, one.sample)):
        groups.setdefault(record.task, []).append(record)
    return groups


def _append(path: Path, trajectory: Trajectory) -> None:
    with writing(path):
        write_trajectory(path, trajectory)
