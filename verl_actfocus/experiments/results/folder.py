"""What a run keeps on disk, and which folder may be continued.

=======================  ==============================================================================================
`run.json`             what the run is and its complete settings, written before the first attempt
`metrics-<n>.jsonl`    veRL's metrics of attempt *n*, one line per step
`attempt-<n>.json`     when attempt *n* began, how it ended, how long it took
`log.txt`              console output of all attempts
`evaluations/`         every evaluation episode, one file per evaluation (veRL)
`reevaluations/`       evaluations of the last checkpoint, made after training: `actfocus reproduce --evaluate`
`trajectories/`        sampled training trajectories, token by token
`checkpoints/`         the latest checkpoint (veRL)
`ray/`                 Ray's own logs of the latest attempt on a CPU, if it failed
`done.json`            written last; a run with it is finished and never run again
`.lock`                locked while a command trains here
=======================  ==============================================================================================
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from verl_actfocus.experiments.runs.composed_run import ComposedRun
from verl_actfocus.storage.claims import unclaimed
from verl_actfocus.storage.disk import write_json, writing
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.settings import differences, in_words

#: What `done.json` holds beside what the run is.
RECORD = {"seconds", "attempts", "command", "versions", "commit", "hardware"}


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: the run's folder; it need not exist yet.
    """

    path: Path

    @property
    def log(self) -> Path:
        """Console output of all attempts."""
        return self.path / "log.txt"

    @property
    def evaluations(self) -> Path:
        """Folder of the evaluation episodes."""
        return self.path / "evaluations"

    def reevaluation(self, name: str) -> Path:
        """Folder of an evaluation of the last checkpoint, made after training."""
        return self.path / "reevaluations" / name

    def outcomes(self, name: str) -> Path:
        """Its outcomes in the form of veRL's evaluation episodes, written once all episodes are played."""
        return self.reevaluation(name) / "outcomes.jsonl"

    def reevaluated(self, name: str, changes: Mapping[str, float]) -> Path | None:
        """Return the outcomes of such an evaluation; None if it is not complete, or was made otherwise.

        Args:
            name: its name in the table that declares it.
            changes: what the table says differs from the run's own evaluations.

        Raises:
            ExperimentError: what it was made with cannot be read.
        """
        if not self.outcomes(name).exists():
            return None
        file = self.reevaluation(name) / "settings.json"
        made = _read(file, "delete the folder, --evaluate makes it again") or {}
        return self.outcomes(name) if made.get("changes") == dict(changes) else None

    @property
    def trajectories(self) -> Path:
        """Folder of the sampled training trajectories."""
        return self.path / "trajectories"

    @property
    def checkpoints(self) -> Path:
        """Folder of veRL's checkpoints."""
        return self.path / "checkpoints"

    @property
    def ray_logs(self) -> Path:
        """Folder of Ray's own logs, of an attempt that failed."""
        return self.path / "ray"

    def metrics(self, attempt: int) -> Path:
        """File of the metrics of an attempt."""
        return self.path / f"metrics-{attempt}.jsonl"

    def attempts(self) -> list[int]:
        """Numbers of the attempts that have metrics, ascending."""
        matches = (re.fullmatch(r"metrics-(\d+)\.jsonl", file.name) for file in self.path.glob("metrics-*.jsonl"))
        return sorted(int(match[1]) for match in matches if match)

    @property
    def exists(self) -> bool:
        """Whether a run was ever begun here."""
        return (self.path / "run.json").exists()

    @property
    def blank(self) -> bool:
        """Whether every attempt died before its first evaluation, so that nothing in the folder is a result."""
        return self.exists and all(self.metrics(number).stat().st_size == 0 for number in self.attempts())

    @property
    def done(self) -> dict[str, Any] | None:
        """What `done.json` says; None for a run that has not finished."""
        remedy = "delete the file, the same command then finishes the run again"
        record = _read(self.path / "done.json", remedy)
        missing = [] if record is None else sorted(RECORD - record.keys())
        if missing:
            raise ExperimentError(f"{self.path / 'done.json'} lacks {', '.join(missing)}; {remedy}")
        return record

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is, see `ComposedRun.identity`."""
        return self._begun()["run"]

    @property
    def settings(self) -> dict[str, Any]:
        """The complete settings of the run: dotted name → value."""
        return self._begun()["settings"]

    def check_free(self) -> None:
        """Make sure that nothing lies here that is no run's.

        Raises:
            ExperimentError: the folder holds files and no run.
        """
        if not self.exists and not unclaimed(self.path):
            raise ExperimentError(f"{self.path} holds files but no run; choose another --out or delete it")

    def check(self, composed: ComposedRun) -> None:
        """Make sure that the folder is for a run: that it is this very one, or has no results yet.

        Raises:
            ExperimentError: the folder holds a run with other settings, or files that are no run's.
        """
        self.check_free()
        if not self.exists or self.blank:
            return
        changes = differences(self.settings, composed.settings)
        if changes:
            raise ExperimentError(
                f"{self.path} was made with other settings ({in_words(changes)}); "
                "choose another --out or delete the folder"
            )

    def claim(self, composed: ComposedRun) -> None:
        """Make the folder a run's, if `check` allows it. Whoever calls this has the folder's lock.

        Raises:
            ExperimentError: the folder is for something else.
        """
        self.check(composed)
        if not self.exists or self.blank:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "run.json", {"run": composed.identity(), "settings": composed.settings})

    def begin_attempt(self, began: str) -> int:
        """Count another attempt, even if it dies before its first metrics.

        Args:
            began: when it began, ISO 8601 with the time zone.

        Returns:
            Its number.
        """
        before = self.attempts()
        for number in before[-1:]:
            # One that was killed: from now on, the log's time is the new one's.
            write_json(self._attempt_file(number), self._attempt(number))
        # What is trained again is evaluated again.
        shutil.rmtree(self.path / "reevaluations", ignore_errors=True)
        attempt = (before or [0])[-1] + 1
        with writing(self.metrics(attempt)):
            self.metrics(attempt).touch()
        write_json(self._attempt_file(attempt), {"began": began})
        return attempt

    def end_attempt(self, attempt: int, seconds: float, exit_code: int | None) -> None:
        """Write how an attempt ended."""
        write_json(self._attempt_file(attempt), {**self._attempt(attempt), "seconds": seconds, "exit_code": exit_code})

    def seconds(self) -> float:
        """Wall time of all attempts, in seconds; one that was killed lasted until it last wrote something."""
        return sum(self._attempt(number)["seconds"] for number in self.attempts())

    def finish(self, record: dict[str, Any]) -> None:
        """Mark the run as finished."""
        write_json(self.path / "done.json", record)

    def delete_checkpoints(self) -> None:
        """Delete the checkpoints of a finished run: nothing resumes from them any more.

        Raises:
            ExperimentError: the run is not finished, or a file cannot be deleted.
        """
        if self.done is None:
            raise ExperimentError(f"{self.path} is not finished; its checkpoints are kept to resume from")
        try:
            if self.checkpoints.exists():
                shutil.rmtree(self.checkpoints)
        except OSError as error:
            raise ExperimentError(f"{self.checkpoints} cannot be deleted: {error}") from error

    def _begun(self) -> dict[str, Any]:
        remedy = "delete the folder, the same command then makes the run again"
        begun = _read(self.path / "run.json", remedy)
        if begun is None:
            raise ExperimentError(f"{self.path} holds no run: there is no run.json")
        if not all(isinstance(begun.get(part), dict) for part in ("run", "settings")):
            raise ExperimentError(f"{self.path / 'run.json'} lacks 'run' or 'settings'; {remedy}")
        if "weighting" not in begun["run"]:
            raise ExperimentError(
                f"{self.path / 'run.json'} names no weighting: an older version of this package made it; read it with "
                f"that version, choose another --out, or {remedy}"
            )
        return begun

    def _attempt_file(self, attempt: int) -> Path:
        return self.path / f"attempt-{attempt}.json"

    def _attempt(self, attempt: int) -> dict[str, Any]:
        """What is known of an attempt, complete also if it was killed before it could write its end."""
        file = self._attempt_file(attempt)
        remedy = "delete the file; the time of this attempt is lost"
        record = _read(file, remedy) or {}
        if isinstance(record.get("seconds"), int | float):
            return record
        seconds = 0.0
        if record:
            try:
                began = datetime.fromisoformat(record["began"]).timestamp()
            except (KeyError, TypeError, ValueError) as error:
                raise ExperimentError(f"{file} does not say when the attempt began ({error!r}); {remedy}") from error
            written = [path.stat().st_mtime for path in (self.metrics(attempt), self.log) if path.exists()]
            seconds = round(max([0.0, *(time - began for time in written)]), 3)
        return {**record, "seconds": seconds, "exit_code": None}


def _read(path: Path, remedy: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExperimentError(f"{path} cannot be read ({error}); {remedy}") from error
    if not isinstance(record, dict):
        raise ExperimentError(f"{path} holds no JSON object; {remedy}")
    return record
