"""What the pages say of question 1, whether ActFocus helps, is what tools print and what its runs say."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.unit.evidence.pages import FOLDER, README, in_words, text
from tools.evidence import early_lead, one_method, two_methods, valid_turns
from tools.evidence.published import over_seeds, rows
from verl_actfocus.experiments.results.archive import Archive

PAGE = text("confirmation")
MODELS = ("action", "both", "reasoning")
ENVIRONMENTS = {"frozenlake": "FrozenLake", "sokoban": "Sokoban", "sudoku": "Sudoku", "webshop": "WebShop"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_page_shows_every_difference_of_question_1_and_in_how_many_pairs_actfocus_is_ahead(
    environment: str,
) -> None:
    found = two_methods.differences("actfocus", "uniform", environment)
    section = PAGE[PAGE.index(f"### {ENVIRONMENTS[environment]}\n") :]
    steps = [
        row
        for row in rows(FOLDER / "confirmation_actfocus-cpu-steps.csv")
        if (row["environment"], row["algorithm"]) == (environment, "grpo") and row["step"] != "0"
    ]
    assert [row["step"] for row in steps] == ["10", "20", "30", "40"]
    lines = section[section.index("| 10 | ") :].splitlines()
    for row, line in zip(steps, lines, strict=False):
        # The tool and `actfocus reproduce` come to the same differences.
        cell = over_seeds(found[row["step"]]).rpartition(",")[0].replace("-", "−")
        assert in_words(row, points="") == cell
        ahead = sum(value > 0 for value in found[row["step"]].values())
        assert line == f"| {row['step']} | {cell} | {ahead} of 5 |"


def test_the_page_has_question_1s_conclusions_and_p_values() -> None:
    told = {
        (row["environment"], row["number"]): row
        for row in rows(FOLDER / "confirmation_actfocus-cpu-comparisons.csv")
        if row["p_value"] and row["algorithm"] == "grpo"
    }
    assert len(told) == 8 and {row["conclusion"] for row in told.values()} == {"inconclusive"}
    before = {key for key, row in told.items() if float(row["p_value"]) < 0.05}
    assert before == {("webshop", "final"), ("webshop", "area"), ("frozenlake", "area")}
    assert "three of the eight numbers would be: WebShop's two, lower, and FrozenLake's *area*, higher" in PAGE
    area = told["frozenlake", "area"]
    alone, corrected = (float(area[key]) for key in ("p_value", "p_value_corrected"))
    assert (
        f"*Area* alone would have p = {alone:.3f}; corrected over the four comparisons it is {corrected:.2f}." in PAGE
    )
    for environment, name in ENVIRONMENTS.items():
        cells = [
            f"{in_words(row, points='')}, p = {float(row['p_value_corrected']):.2g}"
            for row in (told[environment, "area"], told[environment, "final"])
        ]
        ahead = sum(
            value > 0 for value in two_methods.differences("actfocus", "uniform", environment)["final"].values()
        )
        assert f"| {name} | {cells[0]} | {cells[1]} | {ahead} of 5; " in PAGE
    pooled = {
        row["number"]: row
        for row in rows(FOLDER / "confirmation_actfocus-cpu-pooled.csv")
        if row["algorithm"] == "grpo"
    }
    chance = {
        number: "{:.0f} % [{:.0f}, {:.0f}]".format(
            *(100 * float(row[f"probability_of_improvement{end}"]) for end in ("", "_low", "_high"))
        )
        for number, row in pooled.items()
    }
    assert {number: row["conclusion"] for number, row in pooled.items()} == {"final": "harms", "area": ""}
    assert "**ActFocus harms in success at the end, by the declared rule.**" in PAGE
    assert f"below it *harms*. It is {chance['final']}: of two runs" in PAGE
    assert PAGE.count(f"for this answer, it is {chance['area']}.") == 2
    assert f"that a run of ActFocus ends above one of Uniform is {chance['final']}, below a half" in PAGE
    assert f"a run of it ends above one of Uniform with a probability of {chance['final']}. That comes from" in PAGE
    said = f"(a run of it ends above one of Uniform with a probability of {chance['final']})"
    assert f"with GRPO, over four environments, it harms at the end by the rule declared beforehand {said}" in README


def test_the_page_says_how_often_a_run_of_actfocus_ends_above_one_of_uniform_in_every_environment() -> None:
    finals = {
        (environment, method): [
            float(row["rate"])
            for row in rows(FOLDER / "confirmation_actfocus-cpu-runs.csv")
            if (row["environment"], row["algorithm"], row["weighting"], row["step"])
            == (environment, "grpo", method, "40")
        ]
        for environment in ENVIRONMENTS
        for method in ("actfocus", "uniform")
    }
    above = {
        environment: 100
        * np.mean(
            [
                (one > other) + (one == other) / 2
                for one in finals[environment, "actfocus"]
                for other in finals[environment, "uniform"]
            ]
        )
        for environment in ENVIRONMENTS
    }
    said = [f"{value:.0f} % on {ENVIRONMENTS[environment]}" for environment, value in above.items()]
    assert f"By environment the probability is {', '.join(said[:-1])} and {said[-1]}." in PAGE


def test_the_declared_lead_on_sokoban_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    two_methods.main(["actfocus", "uniform", "--env", "sokoban", "--seeds", "12", "13", "14", "15"])
    printed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    numbers = printed["step 10"].partition(";")[0].replace("-", "−")
    difference, p_value = numbers.rsplit(", ", 1)
    assert float(p_value.removeprefix("p = ")) < 0.05 and "ahead in 4 of 4 pairs" in printed["step 10"]
    with_unit = difference.replace(" [", " points [")
    assert f"over seeds 12 to 15 {with_unit}, {p_value}, ahead in 4 of 4 pairs" in PAGE
    assert PAGE.count(f"{with_unit}, {p_value}") == 2
    final = printed["final"].rpartition(", p")[0].replace("-", "−")
    by_seed = two_methods.differences("actfocus", "uniform", "sokoban")["final"]
    assert f"Their difference at the end is {final}: what is positive there is seed 11's {by_seed[11]:+.1f};" in PAGE
    assert "ActFocus ends lower in three of five pairs" in PAGE and sum(value < 0 for value in by_seed.values()) == 3
    assert f"2 of 5; without one seed of {by_seed[11]:+.1f} it is {final.partition(' ')[0]} |" in PAGE


def test_what_was_declared_on_sudoku_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    two_methods.main(["actfocus", "uniform", "--env", "sudoku"])
    printed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    p_values = [float(printed[f"step {step}"].partition(", p = ")[2].partition(";")[0]) for step in (10, 20)]
    assert min(p_values) > 0.025
    assert "**Neither of the two comparisons that were [declared]" in PAGE
    assert f"step 10, p = {p_values[0]:.3f}, and step 20, p = {p_values[1]:.3f}, each at 0.025" in PAGE
    step = printed["step 10"].partition(", p")[0].replace("-", "−")
    assert f"| Sudoku | 4 of 5 at the chosen rate | before any run: {step}, not shown |" in PAGE
    assert "ahead in 4 of 5" in printed["step 10"]
    pairs = two_methods.differences("actfocus", "uniform", "sudoku")["final"].values()
    falling = [f"{value:+.1f}".replace("-", "−") for value in sorted(pairs, reverse=True)]
    assert f"({', '.join(falling[:-1])} and {falling[-1]})" in PAGE
    for method, said in (("uniform", "ends between {} and {} %"), ("actfocus", "other three rise to {}, {} and {} %")):
        one_method.main([method, "--env", "sudoku"])
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed ")]
        ends_of_runs = sorted(float(line.split()[-2]) for line in lines)
        assert (
            said.format(*(ends_of_runs[:: len(ends_of_runs) - 1] if method == "uniform" else ends_of_runs[2:])) in PAGE
        )


def test_what_was_declared_on_webshop_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    two_methods.main(["actfocus", "uniform", "--env", "webshop"])
    printed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    p_value = printed["step 10"].partition(", p = ")[2].partition(";")[0]
    assert float(p_value) > 0.05
    assert f"that was [declared](../PROTOCOL.md#changes), step 10, is not told from zero**: p = {p_value}." in PAGE
    assert "on Sudoku and WebShop it was declared, too, and is not shown." in PAGE
    step = printed["step 10"].partition(", p")[0].replace("-", "−")
    assert f"| WebShop | 1 of 5 at the chosen rates | before any run: {step}, not shown |" in PAGE
    assert "ahead in 1 of 5" in printed["step 10"]
    mean = printed["final"].partition(" ")[0]
    assert f"ends lower in all five pairs, by {mean.removeprefix('-')} points in the mean" in PAGE
    assert "ahead in 0 of 5" in printed["final"]


def test_the_page_says_of_webshops_purchases_and_format_what_its_runs_say(capsys: pytest.CaptureFixture[str]) -> None:
    bought: dict[str, dict[str, list[float]]] = {"uniform": {}, "actfocus": {}}
    for name, metrics in Archive(FOLDER / "confirmation-cpu.tar.xz").metrics().items():
        if "webshop" in name:
            method, seed = name.rpartition("/")[2].split("-seed")
            bought[method][seed] = [
                100 * one["val/purchase"] for _, one in sorted(metrics.items()) if "val/success" in one
            ]
    assert all(bought["actfocus"][seed][-1] < curve[-1] for seed, curve in bought["uniform"].items())
    ends = {place: [curve[place] for curves in bought.values() for curve in curves.values()] for place in (0, -1)}
    by_method = [sorted(curve[-1] for curve in bought[method].values()) for method in ("uniform", "actfocus")]
    assert len(ends[-1]) == 10
    assert (
        f"from {min(ends[0]):.0f} to {max(ends[0]):.0f} % before training they rise to {by_method[0][0]:.0f} to "
        f"{by_method[0][-1]:.0f} % with Uniform and to {by_method[1][0]:.0f} to {by_method[1][-1]:.0f} % with ActFocus"
    ) in PAGE
    valid_turns.main([str(FOLDER / "confirmation-cpu.tar.xz"), "--env", "webshop"])
    kept, *_ = capsys.readouterr().out.splitlines()
    assert kept.startswith("10 of 10 runs lost less than 5 points, never fewer than ")
    least = kept.rpartition("than ")[2].removesuffix(" % well-formed turns")
    assert f"at no evaluation of the ten fewer than {least} % of the turns were well-formed" in PAGE


def test_the_page_says_of_sokobans_ends_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    ends = {}
    for method in ("actfocus", "uniform"):
        one_method.main([method, "--env", "sokoban"])
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed ")]
        curves = {line[5:7]: [float(one.split()[2]) for one in line.partition(": ")[2].split(", ")] for line in lines}
        ends[method] = sorted(curve[-1] for curve in curves.values())
        if method == "actfocus":
            falls = [f"{curves[seed][-2] - curves[seed][-1]:.0f}" for seed in ("12", "14")]
    said = "ActFocus ends between {} and {} %, Uniform between {} and {} %."
    assert said.format(ends["actfocus"][0], ends["actfocus"][-1], ends["uniform"][0], ends["uniform"][-1]) in PAGE
    assert f"seeds 12 and 14 fell by {falls[0]} and {falls[1]} points between steps 30 and 40" in PAGE


def test_the_page_says_of_rise_and_fall_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    one_method.main(["uniform"])
    *_, rise, least_of_uniform = capsys.readouterr().out.splitlines()
    words = rise.removeprefix("step 30 to 40: ").rpartition(", p")[0].replace(" [", " points [")
    assert words and PAGE.count(words) == 2
    one_method.main(["actfocus"])
    least = capsys.readouterr().out.splitlines()[-1]
    assert "(seed 13, 69.9 to 57.8 % between steps 30 and 40)" in least
    said = "ActFocus's seed 13 fell from 69.9 to 57.8 % between steps 30 and 40 (`… one_method actfocus`), the largest"
    assert said in PAGE
    falls = [float(line.partition(": ")[2].partition(" points")[0]) for line in (least, least_of_uniform)]
    assert falls[0] < falls[1]


def test_the_page_says_in_how_many_pairs_actfocus_is_ahead_early(capsys: pytest.CaptureFixture[str]) -> None:
    early_lead.main([])
    ahead = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    together = {
        place: "{} of {}".format(*re.findall(r"\d+", ahead[f"{place}, 1e-4 together"]))
        for place in ("frozenlake, tiny", "sokoban, tiny", *(f"frozenlake, {one}" for one in MODELS))
    }
    by_algorithm = [ahead[f"frozenlake, tiny, 1e-4, {one}"].split("; ahead in ")[1] for one in ("grpo", "ppo")]
    assert [one.partition(" pairs")[0] for one in by_algorithm] == ["12 of 12", "12 of 12"]
    assert (
        f"| FrozenLake | {together['frozenlake, tiny']} at the rate 1e-4, twelve of GRPO, twelve of PPO | for PPO's "
    ) in PAGE
    assert f"| Sokoban | {together['sokoban, tiny']} at 1e-4 | for the last four," in PAGE
    counts = ", ".join(together[f"frozenlake, {one}"] for one in MODELS)
    assert f"| FrozenLake, `action`, `both`, `reasoning` | {counts} | no |" in PAGE
