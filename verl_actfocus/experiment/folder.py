"""What a run keeps on disk, and which folder may be continued.

=======================  ==============================================================================================
``run.json``             what the run is and its complete settings, written before the first attempt
``metrics-<n>.jsonl``    veRL's metrics of attempt *n*, one line per step
``attempt-<n>.json``     how attempt *n* ended
``log.txt``              console output of all attempts
``evaluations/``         every evaluation episode, one file per evaluation (veRL)
``trajectories/``        sampled training trajectories, token by token
``checkpoints/``         the latest checkpoint (veRL)
``done.json``            written last; a run with it is finished and never run again
=======================  ==============================================================================================
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_actfocus.experiment.errors import ExperimentError
from verl_actfocus.experiment.runs import Run
from verl_actfocus.experiment.settings import differences, in_words


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

    @property
    def trajectories(self) -> Path:
        """Folder of the sampled training trajectories."""
        return self.path / "trajectories"

    @property
    def checkpoints(self) -> Path:
        """Folder of veRL's checkpoints."""
        return self.path / "checkpoints"

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
        """What ``done.json`` says; None for a run that has not finished."""
        return _read(self.path / "done.json")

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is, see `Run.identity`."""
        return self._begun()["run"]

    @property
    def settings(self) -> dict[str, Any]:
        """The complete settings of the run: dotted name → value."""
        return self._begun()["settings"]

    def begin(self, run: Run, settings: dict[str, Any]) -> None:
        """Claim the folder for a run, or make sure that it was claimed for this one or has no results yet.

        Args:
            run: the run.
            settings: its complete settings, see `verl_actfocus.experiment.settings.compose_settings`.

        Raises:
            ExperimentError: the folder holds a run with other settings, or files that are no run's.
        """
        if self.exists and not self.blank:
            self._check_same(run, settings)
        elif not self.exists and self.path.exists() and any(self.path.iterdir()):
            raise ExperimentError(f"{self.path} holds files but no run; choose another --out or delete it")
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "run.json", {"run": run.identity(), "settings": settings})

    def end_attempt(self, attempt: int, record: dict[str, Any]) -> None:
        """Write how an attempt ended."""
        write_json(self.path / f"attempt-{attempt}.json", record)

    def seconds(self) -> float:
        """Wall time of all attempts whose end was recorded, in seconds."""
        return sum(json.loads(file.read_text())["seconds"] for file in self.path.glob("attempt-*.json"))

    def finish(self, record: dict[str, Any]) -> None:
        """Mark the run as finished."""
        write_json(self.path / "done.json", record)

    def _begun(self) -> dict[str, Any]:
        begun = _read(self.path / "run.json")
        if begun is None:
            raise ExperimentError(f"{self.path} holds no run: there is no run.json")
        return begun

    def _check_same(self, run: Run, settings: dict[str, Any]) -> None:
        changes = differences(self.identity, run.identity()) or differences(self.settings, settings)
        if changes:
            raise ExperimentError(
                f"{self.path} was made with other settings ({in_words(changes)}); "
                "choose another --out or delete the folder"
            )


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
