"""Metrics files of runs that never were, and what a report makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from verl_actfocus.experiments.report.logged_runs import grouped, read_logged
from verl_actfocus.experiments.report.metrics_report import grids

ACCURACY = "val-core/gsm8k/acc/mean@4"


def stock(path: Path, accuracy: dict[int, float], steps: int = 20, **more: Any) -> Path:
    """The file of veRL's `file` logger of a run without this package."""
    with path.open("w") as file:
        for step in range(steps + 1):
            data: dict[str, Any] = (
                {} if step == 0 else {"actor/entropy": 1.0 / step, "response_length/mean": 50.0 + step}
            )
            data |= {ACCURACY: accuracy[step]} if step in accuracy else {}
            file.write(json.dumps({"step": step, "data": {**data, **(more if step else {})}}) + "\n")
    return path


def table(words: list[str], title: str) -> list[list[str]]:
    return next(grid for grid in grids(grouped(read_logged(words)[0])) if grid.title == title).rows


def note(words: list[str], title: str) -> str:
    return next(grid for grid in grids(grouped(read_logged(words)[0])) if grid.title == title).note


def logged(path: Path, *steps: dict[str, float]) -> Path:
    """The file of a run that recorded these metrics at steps 1, 2, …"""
    path.write_text("".join(json.dumps({"step": n, "data": data}) + "\n" for n, data in enumerate(steps, start=1)))
    return path


def cells(words: list[str], title: str, name: str) -> list[str]:
    return next(row[1:] for row in table(words, title) if row[0] == name)
