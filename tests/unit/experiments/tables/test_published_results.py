"""The published tables are what the published runs make, and the pages of results show them word for word."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tools.evidence.published import rows
from verl_actfocus.experiments.report.writing import write_table
from verl_actfocus.experiments.results.archive import Archive, name_of
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.run_result import RunResult
from verl_actfocus.experiments.tables.files import find_table, read_scale, read_table, tables_folder
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs

FOLDER = tables_folder() / "results"
#: The page of results, and the pages of evidence that it leads to.
PAGES = [tables_folder() / "RESULTS.md", *sorted((tables_folder() / "evidence").glob("*.md"))]
PAGE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
TABLES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*-cpu.md"))
#: Its baseline is in another table, of another machine.
OTHER_METHODS = "other-methods/learning_rates-cpu"


def key(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("environment", "algorithm", "outcome", "model", "weighting"))


def test_results_of_both_algorithms_are_published() -> None:
    assert {"table2-cpu", "table6-cpu"} <= set(TABLES)
    for name in TABLES:
        assert find_table(Path(name).name.removesuffix("-cpu")).exists()
    assert OTHER_METHODS in TABLES


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_the_written_tables_word_for_word(name: str) -> None:
    grid = [line for line in (FOLDER / f"{name}.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    # The table itself ends where the list of versions begins.
    grid = grid[: next(n for n, line in enumerate(grid) if line.startswith("| made with"))]
    assert len(grid) > 1
    for line in grid:
        assert line in PAGE


@pytest.mark.parametrize("name", [name for name in TABLES if name != "table1-cpu"])
def test_the_numbers_follow_from_the_published_evaluations(name: str) -> None:
    finals: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    evaluations = rows(FOLDER / f"{name}-runs.csv")
    last = max(int(row["step"]) for row in evaluations)
    for row in evaluations:
        if int(row["step"]) == last:
            finals[key(row)][row["seed"]] = float(row["rate"])
    checked = 0
    for row in rows(FOLDER / f"{name}.csv"):
        if row["number"] == "final" and row["value"]:
            values = np.array(list(finals[key(row)].values()))
            assert len(values) == int(row["seeds"])
            assert float(row["value"]) == pytest.approx(values.mean())
            if np.ptp(values) > 0:
                interval = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
                # A success rate lies between 0 and 1, whatever two seeds allow.
                assert (float(row["low"]), float(row["high"])) == pytest.approx(np.clip(interval, 0, 1).tolist())
            elif len(values) > 1:  # equal values say nothing of how runs scatter
                assert (row["low"], row["high"]) == ("", "")
            checked += 1
    assert checked >= 2


@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("table1-cpu", OTHER_METHODS)])
def test_the_last_step_is_the_difference_in_the_table(name: str) -> None:
    steps = rows(FOLDER / f"{name}-steps.csv")
    last = {key(row): row for row in steps}
    declared = [row for row in rows(FOLDER / f"{name}.csv") if row["number"] == "difference" and row["value"]]
    assert declared
    for row in declared:
        found = last[key(row)]
        assert float(found["difference"]) == pytest.approx(float(row["value"]))
        assert found["seeds"] == row["seeds"]


RATES = read_table(find_table("learning_rates")).weightings
UNIFORM_AND_ACTFOCUS = [name for name in RATES if re.fullmatch(r"(uniform|actfocus)-\de-\d", name)]
OTHERS = [name for name in RATES if name not in UNIFORM_AND_ACTFOCUS]


@pytest.mark.parametrize(
    ("published", "archived", "only", "seeds", "runs"),
    [
        (OTHER_METHODS, OTHER_METHODS, ("frozenlake", *OTHERS), 2, 36),
        ("sokoban/learning_rates-cpu", "sokoban/learning_rates-cpu", ("sokoban", *UNIFORM_AND_ACTFOCUS), 2, 12),
        ("sudoku/learning_rates-cpu", "sudoku/learning_rates-cpu", ("sudoku", *UNIFORM_AND_ACTFOCUS), 2, 12),
        ("webshop/learning_rates-cpu", "webshop/learning_rates-cpu", ("webshop", *UNIFORM_AND_ACTFOCUS), 2, 12),
        ("ppo/learning_rates_ppo-cpu", "ppo/learning_rates_ppo-cpu", ("frozenlake", *UNIFORM_AND_ACTFOCUS), 2, 12),
        ("confirmation_actfocus-cpu", "confirmation-cpu", (), 5, 50),
        ("confirmation_normalizer-cpu", "confirmation-cpu", ("frozenlake", "grpo"), 5, 15),
        ("confirmation_methods-cpu", "confirmation-cpu", ("frozenlake",), 5, 35),
        ("format-cpu", "confirmation-cpu", ("frozenlake",), 5, 10),
        ("both/mechanism-cpu", "both/mechanism-cpu", ("both", "uniform", "actfocus"), 5, 10),
    ],
)
def test_an_archive_makes_its_published_table_again(
    published: str, archived: str, only: tuple[str, ...], seeds: int, runs: int, tmp_path: Path
) -> None:
    path = find_table(Path(published).name.removesuffix("-cpu"))
    table, scale = read_table(path), read_scale(path, "cpu")
    request = Request(
        table=table.on(scale), scale=scale, scale_name="cpu", seeds=seeds, out=tmp_path / "runs", only=only
    )
    folders = [RunFolder(run.folder) for run in distinct_runs(cells(request))]
    archive = Archive(FOLDER / f"{archived}.tar.xz")
    assert sum(archive.restore(name_of(folder), folder) for folder in folders) == runs
    finished = {folder.path: RunResult.read(folder.path) for folder in folders if folder.done is not None}
    made = write_table(request, finished, tmp_path / "tables")
    assert {path.name for path in made if path.suffix == ".csv"} == {
        path.name for path in (FOLDER / f"{published}.md").parent.glob(f"{Path(published).name}*.csv")
    }
    for written in made:
        if written.suffix in (".csv", ".md", ".tex"):
            text = (FOLDER / f"{published}.md").with_name(written.name).read_text(encoding="utf-8")
            assert written.read_text(encoding="utf-8") == text, written.name
