"""What the pages say of question 1 with PPO is what tools print and what its runs say."""

from __future__ import annotations

import pytest

from tests.unit.evidence.pages import FOLDER, README, in_words, text
from tools.evidence import overview, two_methods, valid_turns
from tools.evidence.published import over_seeds, rows

RESULTS, PAGE = text(), text("confirmation")
SECTION = PAGE[PAGE.index("## Question 1, PPO\n") : PAGE.index("## Question 2 on FrozenLake")]


def told() -> dict[str, dict[str, str]]:
    """Number → ActFocus against Uniform on FrozenLake with PPO."""
    return {
        row["number"]: row
        for row in rows(FOLDER / "confirmation_actfocus-cpu-comparisons.csv")
        if (row["environment"], row["algorithm"]) == ("frozenlake", "ppo")
    }


def test_the_pages_have_the_conclusions_and_p_values() -> None:
    area, final = told()["area"], told()["final"]
    assert (area["conclusion"], final["conclusion"]) == ("higher", "inconclusive")
    assert float(area["p_value_corrected"]) < 0.001
    # Two are declared with PPO: Holm doubles the smaller p-value, and Sokoban's has not been made.
    assert float(area["p_value_corrected"]) == pytest.approx(2 * float(area["p_value"]))
    assert f"in *area***: {in_words(area)}, corrected p < 0.001 over the two comparisons" in SECTION
    at_the_end = f"({in_words(final, points='')}, p = {float(final['p_value_corrected']):.2f})"
    assert f"In *final* it is inconclusive {at_the_end}." in SECTION
    assert f"higher in *area* ({in_words(area)}, p < 0.001 corrected over two comparisons" in RESULTS
    assert f"inconclusive in *final* {at_the_end}." in RESULTS
    assert f"**it is higher in mean success over training** ({in_words(area)}), and at the end" in RESULTS
    value, low, high = (f"{100 * float(area[key]):.1f}" for key in ("difference", "low", "high"))
    assert f"(+{value} points, {low} to {high}, corrected p < 0.001), and at the end no difference is shown;" in README
    # Nothing is pooled before Sokoban has been run.
    assert {row["algorithm"] for row in rows(FOLDER / "confirmation_actfocus-cpu-pooled.csv")} == {"grpo"}


def test_the_page_shows_every_evaluation_and_the_declared_step(capsys: pytest.CaptureFixture[str]) -> None:
    found = two_methods.differences("actfocus", "uniform", "frozenlake", algorithm="ppo")
    assert [*found["area"]] == [11, 12, 13, 14, 15] and min(found["area"].values()) > 0
    assert "ahead in all five pairs. In *final*" in SECTION
    for step in ("10", "20", "30", "40"):
        cell = over_seeds(found[step]).rpartition(",")[0].replace("-", "−")
        ahead = sum(value > 0 for value in found[step].values())
        assert f"| {step} | {cell} | {ahead} of 5 |" in SECTION
    two_methods.main(["actfocus", "uniform", "--env", "frozenlake", "--algorithm", "ppo"])
    printed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    step = printed["step 10"].partition(";")[0]
    assert step.endswith("p < 0.001") and "step 10, is *higher***: p < 0.001, on seeds" in SECTION
    assert f"which the others had suggested: {step.replace(' [', ' points [')}, *higher* |" in RESULTS
    own, expected = two_methods.widths(found)
    assert f"(±{own:.1f}, expected ±{expected:.1f} points)" in SECTION


def test_the_page_says_of_the_format_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    archive = str(FOLDER / "confirmation-cpu.tar.xz")
    valid_turns.main([archive, "--env", "frozenlake", "--algorithm", "ppo"])
    kept, *_ = capsys.readouterr().out.splitlines()
    assert kept.startswith("10 of 10 runs lost less than 5 points, never fewer than ")
    least = kept.rpartition("than ")[2].removesuffix(" % well-formed turns")
    assert f"at no evaluation of the ten fewer than {least} % of the turns were well-formed" in SECTION


def test_the_pages_say_of_the_checkpoints_evaluated_otherwise_what_is_published() -> None:
    cells = {
        row["evaluation"]: in_words(row | {"difference": row["value"]}, points="")
        for row in rows(FOLDER / "confirmation_actfocus-cpu-robustness.csv")
        if (row["environment"], row["algorithm"], row["number"]) == ("frozenlake", "ppo", "difference") and row["value"]
    }
    declared = cells["cooler"]
    value, _, ends = declared.partition(" ")
    assert value.startswith("−") and "+" in ends, "The interval holds zero."
    assert f"temperature 0.5, is not shown**: {value} points {ends}" in SECTION
    assert f"evaluated once more ({cells['again']}), at 0.5 and greedily ({cells['greedy']}, not corrected)" in SECTION
    order = [cells[one] for one in ("training", "again", "unseen", "greedy", "cooler")]
    assert f"in the same order: {', '.join(order[:-1])} and {order[-1]};" in RESULTS


def test_the_page_shows_both_in_one_table_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    overview.main(["--algorithm", "ppo"])
    printed = capsys.readouterr().out
    assert f"<!-- begin: overview frozenlake ppo -->\n{printed}<!-- end: overview frozenlake ppo -->" in RESULTS
