"""A comparison's runs with known outcomes, and its written report as a page to look into."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from verl_actfocus.experiments.report.report import write_report
from verl_actfocus.experiments.report.summary import summarise
from verl_actfocus.experiments.results.run_result import read_runs

RecordRun = Callable[..., Path]
#: Solved tasks out of 40 at the start and at the end.
UNIFORM, ACTFOCUS = (8, 14), (8, 26)


def outcomes(solved: int) -> dict[int, list[int]]:
    return {task: [int(task < solved), int(task % 7 == 0 and task < solved)] for task in range(40)}


def write(comparison: Path) -> list[Path]:
    return write_report(summarise(read_runs(comparison)), comparison)


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    return tags
