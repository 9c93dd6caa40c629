"""What a benchmark leaves: one JSON file and one Markdown file, with the conditions under which it was measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from verl_actfocus.experiments.results import machine
from verl_actfocus.storage.disk import write_json, write_whole


def conditions() -> dict[str, Any]:
    """Return date, machine, versions, commit and what the machine is busy with now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": machine.hardware(),
        #: Processes that want to run, mean of the last minute.
        "load": round(os.getloadavg()[0], 2),
        "free_memory_gb": round(machine.free_memory() / 1e9, 1),
        "versions": machine.versions(),
        "commit": machine.git_commit(),
    }


def conditions_line(measured: dict[str, Any]) -> str:
    """Write the conditions as one sentence of Markdown."""
    hardware, versions = measured["hardware"], measured["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("verl", "torch", "transformers", "ray", "python"))
    commit = (measured["commit"] or "unknown")[:7] + (
        "+changes" if str(measured["commit"]).endswith("+changes") else ""
    )
    device = f"{measured['device']}; " if "device" in measured else ""
    machine_line = f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gb']} GB"
    load = f"load at the start {measured['load']}"
    return f"{measured['date'][:10]}, {device}{machine_line}; {load}; commit `{commit}`; {named}."


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table of Markdown: the first column to the left, all others to the right.

    Example:
        >>> print(markdown_table(["a", "b"], [["x", "1"]]))
        | a | b |
        |---|---:|
        | x | 1 |
    """
    rule = "|---|" + "---:|" * (len(header) - 1)
    return "\n".join([_row(header), rule, *map(_row, rows)])


def save(folder: Path, name: str, values: dict[str, Any], markdown: str) -> None:
    """Write `<name>.json` and `<name>.md` into a folder.

    Raises:
        ExperimentError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", values)
    write_whole(folder / f"{name}.md", (markdown + "\n").encode())


def write(folder: Path, name: str, values: dict[str, Any], markdown: str) -> None:
    """Write `<name>.json` and `<name>.md` into a folder, and print the Markdown.

    Raises:
        ExperimentError: the disk is full.
    """
    save(folder, name, values, markdown)
    print(f"{markdown}\n\n{folder / name}.json\n{folder / name}.md")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
