"""What RESULTS.md says of all methods at once, and what the small pages beside it say."""

from __future__ import annotations

import re

import pytest

from tests.unit.evidence.pages import FOLDER, text
from tools.evidence import chosen_rates, early_lead, overview, valid_turns
from tools.evidence.published import merged, rows
from verl_actfocus.experiments.results.archive import Archive

PAGE = text("learning_rates", "pretrained")


def test_the_page_shows_every_method_in_one_table_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for environment in ("frozenlake", "sokoban", "sudoku", "webshop"):
        overview.main(["--env", environment])
        printed = capsys.readouterr().out
        assert f"<!-- begin: overview {environment} -->\n{printed}<!-- end: overview {environment} -->" in PAGE
    with pytest.raises(SystemExit):
        overview.main(["--env", "textworld"])
    assert "no run of textworld with grpo is published" in capsys.readouterr().err


def test_the_page_shows_the_rates_that_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    chosen_rates.main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 4 * 8 + 4
    assert "\n".join(lines) in PAGE


def test_the_page_says_of_sokobans_rates_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    of_stage_1 = early_lead.pairs(10, [FOLDER / "sokoban/learning_rates-cpu-runs.csv"])
    ahead = {key.rate: [value > 0 for value in seeds.values()] for key, seeds in of_stage_1.items()}
    assert {rate: (sum(one), len(one)) for rate, one in ahead.items()} == {
        "1e-4": (2, 2),
        "3e-5": (2, 2),
        "3e-4": (1, 2),
    }
    said = "at step 10 ActFocus is ahead in both pairs at 1e-4 and at 3e-5 and in one of two at 3e-4"
    assert said in " ".join(PAGE.split())
    valid_turns.main([str(FOLDER / "sokoban/learning_rates-cpu.tar.xz")])
    kept, *_, falls = capsys.readouterr().out.splitlines()
    assert kept.startswith("12 of 12 runs lost less than 5 points") and "all twelve kept their format" in PAGE
    assert (
        "falls of success between two evaluations: 12 points (sokoban-grpo-20steps-lr=0.0003/actfocus-seed102)" in falls
    )
    finals = [
        round(100 * float(row["rate"]))
        for name in ("uniform-3e-4", "actfocus-3e-4")
        for row in rows(FOLDER / "sokoban/learning_rates-cpu-runs.csv")
        if (row["weighting"], row["step"]) == (name, "20")
    ]
    assert "({1} and {0} % with Uniform, {3} and {2} % with ActFocus)".format(*finals) in PAGE


def test_the_page_says_of_ppos_rates_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    name = "ppo/learning_rates_ppo-cpu"
    of_stage_1 = early_lead.pairs(10, [FOLDER / f"{name}-runs.csv"])
    ahead = {key.rate: [value > 0 for value in seeds.values()] for key, seeds in of_stage_1.items()}
    assert ahead == {rate: [True, True] for rate in ("1e-4", "3e-4", "3e-5")}
    assert "at step 10 ActFocus is ahead in all six pairs, two at each rate" in PAGE
    runs = valid_turns.read(FOLDER / f"{name}.tar.xz")
    lost = sorted([*run.held.values()][-1] for run in runs if run.lost)
    assert {run.name for run in runs if run.lost} == {
        f"frozenlake-ppo-20steps-lr=0.0003/actfocus-seed{seed}" for seed in (101, 102)
    }
    assert len(runs) == 12 and "({:.1f} and {:.1f} % well-formed turns at the end)".format(*lost) in PAGE
    curves = merged([FOLDER / f"{name}-runs.csv"], "frozenlake", algorithm="ppo")
    said = [
        "{:.0f} and {:.0f} to {:.0f} and {:.0f} %".format(
            *(curves[f"{method}-3e-4"][seed][step] for step in (10, 20) for seed in (101, 102))
        )
        for method in ("uniform", "actfocus")
    ]
    assert "Uniform from {}, ActFocus from {}.".format(*said) in PAGE


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
    for names, algorithm in (
        (["table6"], "grpo"),
        (["confirmation_actfocus", "confirmation_methods"], "grpo"),
        (["table2"], "ppo"),
        (["confirmation_actfocus"], "ppo"),
    ):
        wanted = environment.lower(), algorithm, "success", "final"
        found = {
            row["seeds"]
            for name in names
            for row in rows(FOLDER / f"{name}-cpu.csv")
            if (row["environment"], row["algorithm"], row["outcome"], row["number"]) == wanted and row["value"]
        }
        assert len(found) <= 1
        cells.append(found.pop() if found else None)
    said = {one: "–" if one is None else f"{one} seed{'' if one == '1' else 's'}" for one in cells}
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {environment} | Uniform, ActFocus: "))
    assert [cell.strip().rpartition(": ")[2] for cell in line.strip("|").split("|")[1:]] == [said[one] for one in cells]


def test_the_page_shows_what_every_run_of_webshop_did(capsys: pytest.CaptureFixture[str]) -> None:
    labels = {"uniform": "Uniform", "actfocus": "ActFocus"}
    risen: dict[str, list[float]] = {"uniform": [], "actfocus": []}
    runs = Archive(FOLDER / "webshop/learning_rates-cpu.tar.xz").metrics()
    for name, metrics in runs.items():
        conditions, run = name.split("/")[1:]
        rate = {"": "1e-4", "3e-05": "3e-5", "0.0003": "3e-4"}[conditions.partition("lr=")[2]]
        weighting, seed = run.split("-seed")
        shares = [
            (100 * one["val/success"], 100 * one["val/purchase"]) for one in metrics.values() if "val/success" in one
        ]
        cells = " | ".join(f"{strict:.1f} ({purchase:.1f})" for strict, purchase in shares)
        assert f"| {labels[weighting]}, {rate}, seed {seed} | {cells} |" in PAGE
        assert shares[-1][1] > shares[0][1], "Purchases rise in all twelve."
        if (weighting, rate) != ("uniform", "3e-5"):
            risen[weighting].append(shares[-1][0] - shares[0][0])
    ends = {weighting: (min(values), max(values)) for weighting, values in risen.items()}
    assert "ends {:.1f} to {:.1f} points above its start with Uniform at 1e-4 and 3e-4".format(*ends["uniform"]) in PAGE
    low, high = ends["actfocus"]
    assert f"with ActFocus, at its three rates, from {-low:.1f} below to {high:.1f} above" in PAGE
    valid_turns.main([str(FOLDER / "webshop/learning_rates-cpu.tar.xz")])
    assert capsys.readouterr().out.startswith("12 of 12 runs lost less than 5 points")
    assert "None lost five points of valid turns" in PAGE and len(runs) == 12
