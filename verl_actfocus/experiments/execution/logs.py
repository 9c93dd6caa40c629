"""What went wrong, found in a console log of veRL's."""

from __future__ import annotations

import re
from pathlib import Path

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
#: What Ray puts before the lines of its workers, and behind repeated ones.
_RAY = re.compile(r"^\((?:\w+ )?(?:pid=\d+|raylet)[^)]*\)\s?|\s*\[repeated \d+x across cluster\].*$")
#: `ValueError: …`, `omegaconf.errors.ConfigKeyError: …`, `ray.exceptions.RayTaskError(ValueError): …`.
_ERROR = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Failure|Killed)(?:\(\w+\))?(?:: .*)?$")
_HYDRA = re.compile(r"^(?:Could not (?:override|append)|In '.*': )")
#: Ray's name for the error in a worker, which also follows under its own name.
_WRAPPER = re.compile(r"^ray\.exceptions\.RayTaskError(?:\((\w+)\))?: ray::")
#: Ray's message on a worker that died in the middle of a task.
_DEATH = re.compile(r"A worker died or was killed while executing a task.*?Worker PID: (\d+)")
#: What veRL warns of, five times before a command's first word, where engines are not installed that this package does
#: not run on (`verl/workers/engine/__init__.py`).
OTHER_ENGINES = r"\w+ engine is not available"
_NOISE = ("Error executing job", "WARNING", "INFO", "UserWarning", "FutureWarning", "DeprecationWarning")


def clean_line(line: str) -> str:
    """Remove colours and Ray's prefix from a line of a log.

    Example:
        >>> clean_line("\\x1b[36m(TaskRunnerV1 pid=12)\\x1b[0m ValueError: no\\n")
        'ValueError: no'
    """
    return _RAY.sub("", _ANSI.sub("", line).rstrip())


def error_lines(log: Path, offset: int = 0, most: int = 3) -> list[str]:
    """Find the lines of a log that say what went wrong.

    Args:
        log: the log.
        offset: where the attempt's output begins, in bytes.
        most: most lines to return.

    Returns:
        The last error lines, oldest first, each once. If there are none, the last lines that are not warnings.
    """
    lines = _lines(log, offset)
    found = [line for line in lines if (_ERROR.match(line) or _HYDRA.match(line)) and not _WRAPPER.match(line)]
    if not found:
        found = [line for line in lines if line.strip() and not any(word in line for word in _NOISE)]
    latest_first = list(dict.fromkeys(reversed(found)))
    return latest_first[:most][::-1]


def last_lines(log: Path, offset: int = 0, most: int = 3) -> list[str]:
    """Return the last lines of a log that are not empty, oldest first.

    Args:
        log: the log.
        offset: where the attempt's output begins, in bytes.
        most: most lines to return.
    """
    return [line for line in _lines(log, offset) if line.strip()][-most:]


class DeathNotices:
    """What Ray says of workers that died at work, as it appears in a log.

    Args:
        log: the log; it may not be there yet.
        offset: where the attempt's output begins, in bytes.
    """

    def __init__(self, log: Path, offset: int = 0) -> None:
        self._log, self._offset = log, offset

    def new(self) -> list[int]:
        """Return the process numbers in the lines that were added since the last call."""
        if not self._log.exists():
            return []
        with self._log.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [int(found[1]) for found in _DEATH.finditer(whole.decode(errors="replace"))]


def _lines(log: Path, offset: int) -> list[str]:
    with log.open("rb") as file:
        file.seek(offset)
        return [clean_line(line) for line in file.read().decode("utf-8", errors="replace").splitlines()]
