"""Files of a diagnosis that are appended to, and continued after a kill.

======================  ==============================================================================================
`settings.json`       model and settings, written first; a folder with other ones is refused
`trajectories.jsonl`  episodes that were played, in the format of `verl_actfocus.trajectories`
`states.jsonl`        of `diagnose decisions`: the returns of every state, one state a line
`diagnosis.json`      settings, figures, versions, hardware; written last, `diagnosis.md` and pictures beside it
======================  ==============================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from verl_actfocus.storage.disk import writing
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.trajectories import Trajectory, read_trajectories, write_trajectory
from verl_actfocus.trajectories.files import drop_cut_line


class DiagnosisFolder:
    """The files of one diagnosis.

    Args:
        path: the folder; claimed by the caller.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trajectories = path / "trajectories.jsonl"
        self._states = path / "states.jsonl"

    def trajectories(self) -> Iterator[Trajectory]:
        """Yield the trajectories that are there. A last line that was cut off in the middle is removed first.

        Raises:
            TrajectoryFormatError: another line is no trajectory.
        """
        if _mended(self._trajectories):
            yield from read_trajectories(self._trajectories)

    def add_trajectory(self, trajectory: Trajectory) -> None:
        """Write a trajectory."""
        with writing(self._trajectories):
            write_trajectory(self._trajectories, trajectory)

    def states(self) -> list[dict[str, Any]]:
        """Read the states that are there. A last line that was cut off in the middle is removed first.

        Raises:
            ExperimentError: another line is no state.
        """
        if not _mended(self._states):
            return []
        found = []
        for number, line in enumerate(self._states.read_bytes().split(b"\n")[:-1], start=1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise ExperimentError(f"{self._states}, line {number}: not JSON: {error}") from error
        return found

    def add_state(self, state: dict[str, Any]) -> None:
        """Write a state."""
        with writing(self._states), self._states.open("a", encoding="utf-8") as file:
            file.write(json.dumps(state, ensure_ascii=False, allow_nan=False) + "\n")


def sampled(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that each episode depends on: a folder may be continued with more tasks."""
    return {name: value for name, value in evaluation.items() if name not in ("tasks", "samples")}


def _mended(path: Path) -> bool:
    """Cut a last line without its end off, so that lines can be appended; return whether there is a file."""
    if not path.exists():
        return False
    drop_cut_line(path)
    return True
