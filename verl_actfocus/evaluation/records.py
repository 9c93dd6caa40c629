"""What an evaluation keeps on disk, and which folder may be continued.

=======================  ==============================================================================================
`settings.json`        model and settings, written first; a folder with other ones is refused
`trajectories.jsonl`   every finished episode, one a line, written as it ends
`failures.jsonl`       episodes of the last attempt that ended in an infrastructure failure
`summary.json`         settings, figures, versions, hardware; written last
=======================  ==============================================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.experiments.claims import claimed
from verl_actfocus.experiments.disk import writing
from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.folder import write_json


@dataclass(frozen=True)
class EvaluationFolder:
    """The files of one evaluation.

    Args:
        path: the folder; it need not exist yet.
    """

    path: Path

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
        with claimed(self.path, settings, "evaluation"):
            yield

    def episodes(self) -> list[EpisodeRecord]:
        """Read the finished episodes. A last line that was cut off in the middle is removed from the file.

        Raises:
            ExperimentError: another line is not an episode.
        """
        if not self.trajectories.exists():
            return []
        content = self.trajectories.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            # Cut, not written anew: whatever happens here, the whole lines stay.
            os.truncate(self.trajectories, end)
        records = []
        # At line feeds alone: str.splitlines also splits at characters that a response may hold.
        for number, line in enumerate(content[:end].split(b"\n")[:-1], start=1):
            try:
                records.append(EpisodeRecord.from_dict(json.loads(line)))
            except (ValueError, TypeError, KeyError) as error:
                start = line[:80].decode(errors="replace")
                raise ExperimentError(f"{self.trajectories}, line {number}: not an episode: {start!r}") from error
        return records

    def add(self, record: EpisodeRecord) -> None:
        """Write a finished episode."""
        _append(self.trajectories, record)

    def forget_failures(self) -> None:
        """Begin a new attempt: what failed before is played again."""
        self.failures.unlink(missing_ok=True)

    def add_failure(self, record: EpisodeRecord) -> None:
        """Write a failed episode."""
        _append(self.failures, record)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary."""
        write_json(self.summary, summary)


def by_task(records: Sequence[EpisodeRecord]) -> dict[int, list[EpisodeRecord]]:
    """Group episodes by their task, tasks and samples ascending."""
    groups: dict[int, list[EpisodeRecord]] = {}
    for record in sorted(records, key=lambda one: (one.task, one.sample)):
        groups.setdefault(record.task, []).append(record)
    return groups


def _append(path: Path, record: EpisodeRecord) -> None:
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
