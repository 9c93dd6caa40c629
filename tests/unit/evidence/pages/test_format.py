"""What RESULTS.md and evidence/format.md say of valid turns and of stage 6 is what its runs say."""

from __future__ import annotations

import re

import pytest

from tests.unit.evidence.pages import FOLDER, OTHER_METHODS, in_words, text
from tools.evidence import two_methods, valid_turns
from tools.evidence.published import over_seeds, rows

PAGE = text("format")


def test_the_page_shows_which_runs_lost_their_format_and_that_no_others_fell_as_far(
    capsys: pytest.CaptureFixture[str],
) -> None:
    archives = [FOLDER / "confirmation-cpu.tar.xz", FOLDER / f"{OTHER_METHODS}.tar.xz"]
    valid_turns.main(["--env", "frozenlake", "--algorithm", "grpo", *map(str, archives)])
    assert f"```text\n{capsys.readouterr().out}```" in PAGE
    runs = [run for path in archives for run in valid_turns.read(path, "frozenlake", algorithm="grpo")]
    assert f"three of {len(runs)} archived runs" in PAGE and sum(run.lost for run in runs) == 3
    inside, outside, p_value = re.findall(r"\d of \d+|p = 0\.\d+", valid_turns.sides(runs))
    assert f"({inside} against {outside} without, {p_value})" in PAGE
    largest = sorted(runs, key=lambda run: -run.fall)
    assert {run.name for run in largest[:3]} == {run.name for run in runs if run.lost}
    points = "{:.0f}, {:.0f} and {:.0f}".format(*(run.fall for run in largest))
    assert f"success fell by {points} points between two evaluations" in PAGE
    assert f"the three largest falls among these runs; the next is {largest[3].fall:.0f}." in PAGE


def test_the_page_says_of_weight_on_the_tags_what_its_runs_say() -> None:
    told = {row["number"]: row for row in rows(FOLDER / "format-cpu-comparisons.csv")}
    assert told["final"]["conclusion"] == "inconclusive"
    final, p_value = in_words(told["final"]), float(told["final"]["p_value_corrected"])
    finals = two_methods.differences("tags", "action-only", "frozenlake")["final"].values()
    by_seed = ", ".join(f"{one:+.1f}" for one in finals).replace("-", "−")
    assert f"*final* {final}, p = {p_value:.2f}; {by_seed} seed by seed" in PAGE
    assert f"(final {final}, p = {p_value:.2f})" in PAGE
    minus_uniform = over_seeds(two_methods.differences("tags", "uniform", "frozenlake")["final"])
    assert f"minus Uniform *final* is {minus_uniform.rpartition(',')[0].replace('-', '−')}" in PAGE
    runs = [run for run in valid_turns.read(FOLDER / "confirmation-cpu.tar.xz") if "alpha=0-" in run.name]
    tags = [run for run in runs if "other=1" in run.name]
    assert (len(tags), sum(run.lost for run in tags), max(max(run.cut.values()) for run in tags)) == (5, 0, 0)
    assert (len(runs), sum(run.lost for run in runs)) == (10, 1)
