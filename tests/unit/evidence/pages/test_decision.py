"""What RESULTS.md, evidence/decision.md and evidence/gradients.md say of stage 3 is what was measured."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.unit.evidence.pages import FOLDER, README, in_words, text
from tools.evidence import contrast_checks, early_lead
from tools.evidence.published import over_seeds, rows
from tools.pictures import mechanism
from verl_actfocus.experiments.tables.files import tables_folder

PAGE = text("decision", "gradients")
NAMES = {"frozenlake": "FrozenLake", "sokoban": "Sokoban", "sudoku": "Sudoku", "webshop": "WebShop"}


@pytest.mark.parametrize("model", ["action", "reasoning", "both"])
def test_the_page_shows_the_printed_gradients(model: str) -> None:
    printed = (FOLDER / f"gradient-variance-{model}.txt").read_text(encoding="utf-8")
    lines = dict(
        re.split(r"\s{2,}", line, maxsplit=1) for line in printed.splitlines() if re.search(r"\S\s{2,}\S", line)
    )
    begins = PAGE.index(f"| `{model}` | reasoning tokens alone")
    rows_of_page = [[*map(str.strip, row.split("|")[2:-1])] for row in PAGE[begins:].splitlines()[:4]]
    names = {"reasoning tokens alone": "Uniform, reasoning only", "action tokens alone": "Uniform, action only"}
    for name, variance, signal, until in rows_of_page:
        cells = re.split(r"\s{2,}", lines[names.get(name, name)])
        assert cells[:2] == [variance, signal]
        assert (until == "–") == ("not told from 0" in cells[2]) and until in ("–", cells[2])


@pytest.mark.parametrize("env", sorted(path.stem.rpartition("-")[2] for path in FOLDER.glob("gradient-methods-*.txt")))
def test_the_page_shows_every_methods_printed_gradient(env: str) -> None:
    printed = (FOLDER / f"gradient-methods-{env}.txt").read_text(encoding="utf-8").splitlines()
    cells = [[*map(str.strip, line.strip("|").split("|"))] for line in printed if line.startswith("| ")][1:]
    shown = [row for row in cells if not row[0].startswith("tags")]
    assert len(shown) == 9
    begins = PAGE.index(f"| {NAMES[env]} | reasoning tokens alone")
    for row, line in zip(shown, PAGE[begins:].splitlines(), strict=False):
        assert [*map(str.strip, line.strip("|").split("|"))][2:] == row[2:]


def test_the_sentences_about_the_contrast_are_those_of_its_file() -> None:
    (found,) = rows(FOLDER / "mechanism-cpu-contrasts.csv")
    assert found["conclusion"] == "higher"
    value, low, high = (f"{100 * float(found[name]):.1f}" for name in ("difference", "low", "high"))
    p_value = f"p = {float(found['p_value']):.3f}"
    assert f"as was predicted before the runs: +{value} points [+{low}, +{high}], {p_value}" in " ".join(PAGE.split())
    assert f"+{value} points of mean success over training, 95 % interval {low} to {high}" in README
    assert p_value in (tables_folder().parents[1] / "docs/why.md").read_text(encoding="utf-8")


def test_the_picture_of_shares_has_what_is_published() -> None:
    found = {one.name: one for one in mechanism.points()}
    assert found.keys() == {"action", "reasoning", "both", "frozenlake", "sokoban", "sudoku", "webshop"}
    (final,) = (
        row
        for row in rows(FOLDER / "mechanism-cpu-comparisons.csv")
        if (row["model"], row["weighting"], row["number"]) == ("reasoning", "actfocus", "final")
    )
    assert found["reasoning"].difference == pytest.approx(100 * float(final["difference"]))
    assert f"{found['reasoning'].share:.2f} [{found['reasoning'].share_ends[0]:.2f}" in PAGE


def test_the_page_says_of_step_10_what_its_points_are() -> None:
    found = {one.name: one for one in mechanism.early_points()}
    assert found.keys() == {one.name for one in mechanism.points()}
    by_share = sorted(found.values(), key=lambda one: one.share)
    assert [one.name for one in by_share] == [
        "action", "webshop", "frozenlake", "sokoban", "sudoku", "both", "reasoning",
    ]  # fmt: skip
    names = NAMES
    said = [
        f"{one.difference:+.1f} ({names.get(one.name, f'`{one.name}`')})".replace("-", "−").replace(
            " (`r", " points (`r"
        )
        for one in by_share
    ]
    assert f"ActFocus − Uniform is {', '.join(said[:-1])} and {said[-1]}." in PAGE
    pairs = early_lead.pairs(mechanism.EARLY)
    (sokoban,) = (seeds for key, seeds in pairs.items() if (key.environment, key.rate) == ("sokoban", mechanism.RATE))
    low, high = found["sokoban"].difference_ends
    assert f"{found['sokoban'].difference:+.1f} [{low:+.1f}, {high:+.1f}]" == over_seeds(sokoban).rpartition(",")[0]


def test_the_page_says_of_the_third_model_what_its_runs_say() -> None:
    areas = {
        row["model"]: f"{100 * float(row['difference']):+.1f}".replace("-", "−")
        for name in ("mechanism-cpu", "both/mechanism-cpu")
        for row in rows(FOLDER / f"{name}-comparisons.csv")
        if row["number"] == "area" and row["conclusion"] == "inconclusive"
    }
    lower, middle, upper = (areas[name] for name in ("reasoning", "both", "action"))
    words = f"{lower} where the reasoning decides, {middle} where both do and {upper} where the action does"
    assert words in " ".join(PAGE.split())
    assert f"{lower} points where the reasoning decides and {upper} where the action does, its {middle}" in PAGE
    (tenth,) = (row for row in rows(FOLDER / "both/mechanism-cpu-steps.csv") if row["step"] == "10")
    assert f"At step 10 the difference is {in_words(tenth)}" in PAGE


def test_what_was_not_declared_is_printed_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    contrast_checks.main()
    printed = capsys.readouterr().out
    by_step = re.findall(r"\+(\d\.\d) \(step", printed)
    assert f"{', '.join(by_step[:-1])} and {by_step[-1]} points at steps 10 to 40" in PAGE
    for p_value in re.findall(r"p = 0\.\d+", printed):
        assert p_value in PAGE
    # By hand: of the six ways to deal 4 values out in pairs, two are as far apart as 0, 1 and 10, 11.
    assert contrast_checks.permutation_p_value(np.array([0.0, 1.0]), np.array([10.0, 11.0])) == pytest.approx(1 / 3)
