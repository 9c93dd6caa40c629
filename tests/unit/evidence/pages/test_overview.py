"""What RESULTS.md says of all methods at once, and what the small pages beside it say."""

from __future__ import annotations

import re

import pytest

from tests.unit.evidence.pages import FOLDER, text
from tools.evidence import chosen_rates, overview
from tools.evidence.published import rows

PAGE = text("learning_rates", "pretrained")


def test_the_page_shows_every_method_in_one_table_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    overview.main([])
    printed = capsys.readouterr().out
    assert f"<!-- begin: overview -->\n{printed}<!-- end: overview -->" in PAGE
    with pytest.raises(SystemExit):
        overview.main(["--env", "sokoban"])
    assert "no run of sokoban with grpo is published" in capsys.readouterr().err


def test_the_page_shows_the_rates_that_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    chosen_rates.main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 8
    assert "\n".join(lines) in PAGE


@pytest.mark.parametrize("weighting", ["uniform", "actfocus"])
def test_the_page_shows_the_pretrained_models_evaluations(weighting: str) -> None:
    runs = [row for row in rows(FOLDER / "smollm2-frozenlake-runs.csv") if row["weighting"] == weighting]
    assert [row["step"] for row in runs] == ["0", "8", "16"]
    (line,) = (line for line in PAGE.splitlines() if re.match(rf"\| {weighting} \| 17", line, re.IGNORECASE))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    rates = [100 * float(row["success"]) for row in runs]
    assert [cell.split(" %")[0] for cell in cells[1:4]] == [f"{rate:.1f}" for rate in rates]
    assert cells[4].startswith(f"{rates[2] - rates[0]:+.1f} points".replace("-", "−"))
    assert cells[5] == f"{runs[2]['valid_turns']} of {runs[2]['turns']}"


@pytest.mark.parametrize("environment", ["FrozenLake", "Sokoban", "Sudoku", "WebShop"])
def test_the_page_says_how_many_seeds_every_environment_has(environment: str) -> None:
    cells = []
    for name in ("table6-cpu", "confirmation_methods-cpu", "table2-cpu"):
        found = {
            row["seeds"]
            for row in rows(FOLDER / f"{name}.csv")
            if (row["environment"], row["outcome"], row["number"]) == (environment.lower(), "success", "final")
            and row["value"]
        }
        assert len(found) <= 1
        cells.append(found.pop() if found else None)
    said = {one: "–" if one is None else f"{one} seed{'' if one == '1' else 's'}" for one in cells}
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {environment} | Uniform, ActFocus: "))
    assert [cell.strip().rpartition(": ")[2] for cell in line.strip("|").split("|")[1:]] == [said[one] for one in cells]
