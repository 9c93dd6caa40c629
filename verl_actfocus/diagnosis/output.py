"""What the diagnoses of `actfocus diagnose` share: progress, files, what is printed."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from verl_actfocus.diagnosis.folder import DiagnosisFolder
from verl_actfocus.experiments.execution.progress import Display, duration
from verl_actfocus.experiments.results import machine
from verl_actfocus.storage.disk import write_json, write_whole

#: Share of the work between two lines of progress where the output is no terminal.
_NEWS = 0.1


def write(
    folder: DiagnosisFolder, figures: Mapping[str, Any], name: str, text: str, pictures: Mapping[str, bytes]
) -> None:
    """Write figures, table and pictures, and print the table."""
    write_json(
        folder.path / "diagnosis.json",
        {
            **figures,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": machine.versions(),
            "commit": machine.git_commit(),
            "hardware": machine.hardware(),
        },
    )
    shown = "".join(f"\n![{Path(file).stem}]({file})\n" for file in pictures)
    write_whole(folder.path / "diagnosis.md", f"# {name}\n\n{text}{shown}".encode())
    for file, content in pictures.items():
        write_whole(folder.path / file, content)
    print(f"{name}\n\n{text}")
    print("written: " + ", ".join(str(folder.path / file) for file in ("diagnosis.json", "diagnosis.md", *pictures)))


class Progress:
    """A line on the standard error: how far, and how much longer."""

    def __init__(self, what: str, count: int, there: int) -> None:
        self._what, self._count, self._there, self._done = what, count, there, there
        self._display = Display("diagnose", sys.stderr)
        self._began, self._told = time.monotonic(), there

    def add(self) -> None:
        """One more is done."""
        self._done += 1
        spent = time.monotonic() - self._began
        left = spent / (self._done - self._there) * (self._count - self._done)
        news = self._done >= self._told + _NEWS * self._count or self._told == self._there
        if news:
            self._told = self._done
        self._display.show(f"{self._done}/{self._count} {self._what} | {duration(left)} left", news)

    def close(self) -> None:
        """Write the last line."""
        spent = duration(time.monotonic() - self._began)
        self._display.close(f"{self._done}/{self._count} {self._what} | {spent}")


def say(text: str) -> None:
    """Write on the standard error."""
    print(text, file=sys.stderr, flush=True)


def say_what_failed(failures: Sequence[str], missing: str) -> None:
    """Say what is missing in the figures, and what failed."""
    say(
        f"diagnosis: {missing}; {len(failures)} infrastructure failures:\n"
        + "\n".join(failures[:5])
        + "\nonce the cause is removed, the same command plays what failed"
    )
