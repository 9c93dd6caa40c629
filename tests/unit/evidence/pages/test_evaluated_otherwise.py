"""What the pages say of stage 2's checkpoints evaluated otherwise is what is published and printed."""

from __future__ import annotations

import re

import pytest

from tests.unit.evidence.pages import FOLDER, README, in_words, text
from tools.evidence import pooled_otherwise
from tools.evidence.published import rows
from verl_actfocus import models

PAGE = text("confirmation")
WITH_GRPO = [row for row in rows(FOLDER / "confirmation_actfocus-cpu-robustness.csv") if row["algorithm"] == "grpo"]


def test_the_page_says_whose_sign_stays_under_other_evaluations() -> None:
    signs = {
        environment: [
            float(row["value"])
            for row in WITH_GRPO
            if (row["environment"], row["weighting"], row["number"]) == (environment, "actfocus", "difference")
        ]
        for environment in ("sokoban", "sudoku", "webshop")
    }
    assert {name: len(values) for name, values in signs.items()} == {"sokoban": 5, "sudoku": 5, "webshop": 5}
    assert [value > 0 for value in signs["webshop"]] == [False, False, True, True, False]
    assert min(signs["sokoban"]) > 0 > max(signs["sudoku"])
    assert "The sign stays positive in all five columns of Sokoban and negative in all five of Sudoku" in PAGE


def test_the_page_says_of_webshop_evaluated_otherwise_and_of_untrained_models_what_is_published() -> None:
    rates = {(row["environment"], row["weighting"], row["evaluation"], row["number"]): row for row in WITH_GRPO}
    cells = {
        (environment, evaluation): in_words(row | {"difference": row["value"]}, points="")
        for (environment, method, evaluation, number), row in rates.items()
        if (method, number) == ("actfocus", "difference") and row["value"]
    }
    for environment, label in (("sokoban", "Sokoban"), ("sudoku", "Sudoku"), ("webshop", "WebShop")):
        line = " | ".join(cells[environment, one] for one in ("training", "again", "unseen", "greedy", "cooler"))
        assert f"| {label} | {line} |" in PAGE
    for evaluation in ("greedy", "cooler"):
        cell = cells["webshop", evaluation]
        assert f"({cell})" in PAGE or f"({cell.replace(' [', ' points [')})" in PAGE
    before = {}
    for environment in ("webshop", "sokoban", "sudoku"):
        card = (models.folder(environment) / "README.md").read_text(encoding="utf-8")
        (before[environment],) = re.findall(r"^\| 0 \| ([\d.]+)%", card, re.MULTILINE)
    assert (
        "{webshop} % of episodes on WebShop, {sokoban} % on Sokoban and {sudoku} % on Sudoku".format(**before) in PAGE
    )
    after = [
        f"{100 * float(rates[environment, method, 'greedy', 'final']['value']):.1f}"
        for environment in ("webshop", "sokoban", "sudoku")
        for method in ("uniform", "actfocus")
    ]
    assert (
        "it is {} % with Uniform and {} % with ActFocus on WebShop, {} and {} % on Sokoban, {} and {} % on Sudoku"
    ).format(*after) in PAGE


def test_the_page_shows_the_pooled_answer_under_other_evaluations_as_it_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pooled_otherwise.main()
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.startswith("over sokoban, sudoku, webshop; in brackets over frozenlake, sokoban, sudoku, webshop,")
    told = {}
    for line in lines:
        evaluation, numbers = line.split(": ")
        told[evaluation], bounds = numbers.rstrip(")").split(" (")
        assert f"| {evaluation} | {told[evaluation]} | {bounds} |" in PAGE
    assert len(told) == 5
    assert (
        f"the paper's ({told['greedy']} and {told['temperature 0.5']} over the three environments whose checkpoints"
    ) in README
    share, again = (told[evaluation].partition(" [")[0] for evaluation in ("in training", "once more"))
    others = (told[evaluation] for evaluation in ("64 other tasks", "greedy", "temperature 0.5"))
    said = "{} in training, {} once more and {} on 64 other tasks, but {} greedily and {} at temperature 0.5"
    assert said.format(share, again, *others) in PAGE
    # What the page says of the table: whole intervals below a half, and intervals on both sides of it.
    ends = {one: [int(end) for end in re.findall(r"\d+", cell)[1:]] for one, cell in told.items()}
    assert all(ends[one][1] < 50 for one in ("in training", "once more", "64 other tasks"))
    assert all(ends[one][0] < 50 < ends[one][1] for one in ("greedy", "temperature 0.5"))


def test_an_environment_with_a_run_that_was_not_evaluated_is_not_pooled() -> None:
    both = {"lake": {"uniform": [0.5, 0.6], "actfocus": [0.7, 0.8]}, "shop": {"uniform": [0.5], "actfocus": [0.7]}}
    half = {"lake": {"uniform": [0.5, 0.6], "actfocus": [0.7]}, "shop": {"uniform": [0.5], "actfocus": [0.7]}}
    assert pooled_otherwise.complete({"in training": both, "greedy": both}) == ["lake", "shop"]
    assert pooled_otherwise.complete({"in training": both, "greedy": both, "other tasks": half}) == ["shop"]
