"""The names of metrics that docs/metrics.md lists."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/metrics.md"
#: Beginnings of names that this package logs; `rollout_corr/` and the rest are veRL's.
OWN = ("actfocus/", "rollout/", "val/", "selection/")
PLACEHOLDERS = {"<span>": "(reasoning|action|none)", "<reason>": "[a-z_]+", "<outcome>": "purchase"}


def documented() -> list[str]:
    """The names in the first columns of the tables, placeholders included."""
    rows = (line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `"))
    return [name for cell in rows for name in re.findall(r"`([^`]+)`", cell)]


def pattern(name: str) -> re.Pattern[str]:
    """What the names look like that a documented one stands for."""
    parts = re.split("(<[a-z]+>)", name)
    return re.compile("".join(PLACEHOLDERS.get(part, re.escape(part)) for part in parts))


def undocumented(names: Iterable[str]) -> set[str]:
    """Names of this package's metrics that the page does not list."""
    patterns = [pattern(name) for name in documented()]
    own = {name for name in names if name.startswith(OWN)}
    return {name for name in own if not any(one.fullmatch(name) for one in patterns)}
