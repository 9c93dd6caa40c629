"""The figures of docs/diagnose.md are those of recipes/diagnose/results, and these hold nothing of a machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tools import diagnosis_tables

FILES = sorted(diagnosis_tables.RESULTS.glob("*.json"))


def test_the_tables_of_the_page_are_those_of_the_published_figures() -> None:
    page = diagnosis_tables.PAGE.read_text(encoding="utf-8")
    assert diagnosis_tables.written(page) == page, "run python -m tools.diagnosis_tables"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_published_figures_say_what_was_measured_and_on_what(file: Path) -> None:
    figures = json.loads(file.read_text(encoding="utf-8"))
    environment, moment, kind = file.stem.split("-")
    assert figures["evaluation"]["environment"] == environment and moment in diagnosis_tables.MODELS
    assert {kind, "versions", "commit", "hardware"} <= figures.keys()
    assert "/tmp" not in json.dumps(figures) and "model" not in figures


def test_collecting_keeps_the_figures_and_leaves_paths_behind(tmp_path: Path) -> None:
    folder = tmp_path / "sokoban-before" / "decisions"
    folder.mkdir(parents=True)
    (folder / "diagnosis.json").write_text('{"model": {"model": "/home"}, "decisions": [], "commit": "abc"}')
    results = tmp_path / "results"
    results.mkdir()
    assert diagnosis_tables.collect(tmp_path, results) == ["sokoban-before-decisions"]
    assert json.loads((results / "sokoban-before-decisions.json").read_text()) == {"decisions": [], "commit": "abc"}


def test_a_folder_without_a_diagnosis_is_named_instead_of_copying_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path} holds no diagnosis like sokoban-before/correlation/")):
        diagnosis_tables.collect(tmp_path, tmp_path)


def test_a_page_without_a_mark_is_refused_instead_of_written_over() -> None:
    page = diagnosis_tables.PAGE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="the page has no lines <!-- correlations -->"):
        diagnosis_tables.written(page.replace("<!-- end of correlations -->", ""))
