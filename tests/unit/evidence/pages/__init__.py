"""What RESULTS.md and its evidence/ say beside their tables is what tools print and what the published runs say."""

from __future__ import annotations

from collections.abc import Mapping

from verl_actfocus.experiments.tables.files import tables_folder

FOLDER = tables_folder() / "results"
README = (tables_folder().parents[1] / "README.md").read_text(encoding="utf-8")
OTHER_METHODS = "other-methods/learning_rates-cpu"


def text(*names: str) -> str:
    """Return RESULTS.md and pages of its evidence/ behind it."""
    paths = [tables_folder() / "RESULTS.md", *(tables_folder() / "evidence" / f"{name}.md" for name in names)]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def in_words(row: Mapping[str, str], points: str = " points") -> str:
    value, low, high = (f"{100 * float(row[key]):+.1f}".replace("-", "−") for key in ("difference", "low", "high"))
    return f"{value}{points} [{low}, {high}]"
