"""What runs were made with: versions, commit, hardware and time, as the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verl_actfocus.experiments.execution.progress import duration
from verl_actfocus.experiments.results.machine import DISTRIBUTIONS
from verl_actfocus.experiments.results.run_result import RunResult


@dataclass(frozen=True)
class NamedRow:
    """A row of a table: its name and one cell for each column."""

    name: str
    cells: list[str]


def made_with(runs: Sequence[RunResult]) -> list[NamedRow]:
    """List versions, commit and hardware of finished runs; several values in a cell show that runs differ."""
    records = [run.folder.done or {} for run in runs]

    def cell(values: list[Any]) -> str:
        return "; ".join(dict.fromkeys(str(value) for value in values))

    rows = [
        NamedRow(name, [cell([record["versions"][name] for record in records])]) for name in ("python", *DISTRIBUTIONS)
    ]
    rows.append(NamedRow("commit", [cell([record["commit"] or "not a checkout" for record in records])]))
    rows.append(NamedRow("hardware", [cell([_hardware(record["hardware"]) for record in records])]))
    return rows


def wall_times(runs: Sequence[RunResult]) -> list[NamedRow]:
    """List the wall time of every finished run, and in how many attempts it came about."""
    rows = []
    for run in runs:
        record = run.folder.done or {}
        attempts = f" in {record['attempts']} attempts" if record["attempts"] > 1 else ""
        rows.append(NamedRow(f"wall time of {run.folder.path.name}", [f"{duration(record['seconds'])}{attempts}"]))
    return rows


def _hardware(machine: dict[str, Any]) -> str:
    gpus = f"{machine['gpus']}; " if "gpus" in machine else ""
    return f"{gpus}{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
