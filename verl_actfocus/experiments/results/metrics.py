"""Metrics that veRL's `file` logger writes, one JSON object per line, and the merge over the attempts of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from verl_actfocus.storage.errors import ExperimentError

#: Metric name → value.
Metrics: TypeAlias = dict[str, float]


def parse_record(line: str | bytes) -> tuple[int, Metrics]:
    """Return step and metrics of a line.

    Raises:
        ValueError, KeyError, TypeError: it is no metrics record.
    """
    record = json.loads(line)
    step, metrics = int(record["step"]), dict(record["data"])
    # NaN, which JSON does not have, was written as null.
    metrics = {name: math.nan if value is None else value for name, value in metrics.items()}
    strange = {name: value for name, value in metrics.items() if type(value) not in (int, float)}
    if strange:
        raise ValueError(f"values that are no numbers: {strange}")
    return step, metrics


class MetricsTail:
    """Reads a metrics file while it grows.

    Args:
        path: the file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._line = 0

    def new_records(self) -> Iterator[tuple[int, Metrics]]:
        """Yield (step, metrics) of every complete line that was not read before; an unfinished line is left for later.

        Raises:
            ExperimentError: a complete line is no metrics record.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                self._line += 1
                yield self._parse(line)

    def _parse(self, line: bytes) -> tuple[int, Metrics]:
        try:
            return parse_record(line)
        except (ValueError, KeyError, TypeError) as error:
            raise ExperimentError(
                f"{self._path}, line {self._line}: not a metrics record ({error}): {line[:80]!r}; delete the line, "
                "reports name the steps that are missing"
            ) from error


def merge_attempts(attempts: Iterable[Path]) -> dict[int, Metrics]:
    """Merge the metrics of a run's attempts; what a later one did stands.

    An attempt that resumes from a checkpoint repeats the steps behind it, so what earlier attempts wrote about those is
    dropped. The step it resumes at keeps its training metrics and gets the evaluation that veRL repeats on resuming.

    Args:
        attempts: metrics files, oldest first.

    Returns:
        Step → metrics, ascending.
    """
    merged: dict[int, Metrics] = {}
    for path in attempts:
        records = list(MetricsTail(path).new_records())
        if not records:
            continue
        first = records[0][0]
        merged = {step: metrics for step, metrics in merged.items() if step <= first}
        for step, metrics in records:
            merged[step] = {**merged.get(step, {}), **metrics}
    return dict(sorted(merged.items()))
