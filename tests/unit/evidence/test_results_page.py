"""What RESULTS.md and its evidence/ say beside their tables is what tools print and what the published runs say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from tools.evidence import chosen_rates, contrast_checks, grouped_methods, one_rate, overview, two_methods, valid_turns
from tools.evidence.published import rows
from tools.pictures import mechanism
from verl_actfocus.experiments.archive import Archive, name_of
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.table_files import tables_folder

FOLDER = tables_folder() / "results"
#: The page of results, and the pages of evidence that it leads to.
PAGES = [tables_folder() / "RESULTS.md", *sorted((tables_folder() / "evidence").glob("*.md"))]
PAGE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
OTHER_METHODS = "other-methods/learning_rates-cpu"
NAMES = {"frozenlake": "FrozenLake", "sokoban": "Sokoban", "sudoku": "Sudoku", "webshop": "WebShop"}


def test_the_page_shows_all_methods_at_one_rate_as_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with patch("sys.argv", ["one_rate"]):
        one_rate.main()
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == 9
    for line in lines:
        if line.startswith("| "):
            assert line in PAGE
    for number in re.findall(r"[+-]\d+\.\d \[[^]]*\], p = 0\.\d+", " ".join(lines[-3:])):
        assert number.replace("-", "−") in PAGE
    (pairs,) = (line.rpartition(": ")[2].rstrip(".") for line in lines if "seed by seed" in line)
    assert f"({pairs.replace(', ', ' and ')} points at step 10)" in PAGE


@pytest.mark.parametrize("rate", ["3e-5", "3e-4"])
def test_the_page_says_of_the_other_rates_what_is_printed(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with patch("sys.argv", ["one_rate", "--rate", rate]):
        one_rate.main()
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "minus the others" in line)
    numbers = re.findall(r"[+-]\d+\.\d \[[^]]*\], p [=<] 0\.\d+", line)
    assert len(numbers) == 2
    for number in numbers:
        assert number.replace("-", "−") in PAGE


def test_every_later_run_with_actfocus_weights_is_above_every_one_without_as_the_page_says() -> None:
    curves: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows(FOLDER / f"{OTHER_METHODS}-runs.csv"):
        method, rate = chosen_rates.split(row["weighting"])
        known = (method, row["seed"]) in {("by-tokens", "101"), ("turn-balanced", "101")}
        if rate == "3e-5" and not known and int(row["step"]) > 0:
            curves[method, row["seed"]].append(float(row["rate"]))
    inside = [np.mean(one) for (method, _), one in curves.items() if method in one_rate.with_actfocus()]
    outside = [np.mean(one) for (method, _), one in curves.items() if method not in one_rate.with_actfocus()]
    assert (len(inside), len(outside)) == (5, 5) and min(inside) > max(outside)
    assert "each of the five with these weights has a larger *area* than each of the five without" in PAGE


def test_the_page_shows_every_difference_of_the_confirmation_and_in_how_many_pairs_actfocus_is_ahead() -> None:
    rates: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for row in rows(FOLDER / "confirmation_actfocus-cpu-runs.csv"):
        rates[row["weighting"], row["seed"]][int(row["step"])] = float(row["rate"])
    seeds = [str(seed) for seed in range(11, 16)]
    steps = [row for row in rows(FOLDER / "confirmation_actfocus-cpu-steps.csv") if row["step"] != "0"]
    assert [row["step"] for row in steps] == ["10", "20", "30", "40"]
    for row in steps:
        ahead = sum(
            rates["actfocus", seed][int(row["step"])] > rates["uniform", seed][int(row["step"])] for seed in seeds
        )
        value, low, high = (f"{100 * float(row[key]):+.1f}".replace("-", "−") for key in ("difference", "low", "high"))
        assert f"| {row['step']} | {value} [{low}, {high}] | {ahead} of 5 |" in PAGE
    area = next(row for row in rows(FOLDER / "confirmation_actfocus-cpu-comparisons.csv") if row["number"] == "area")
    alone, corrected = (float(area[key]) for key in ("p_value", "p_value_corrected"))
    assert f"*Area* alone would have p = {alone:.3f}; over the four comparisons" in PAGE
    assert f"three of them not made yet, it is {corrected:.2f}." in PAGE
    falls = {key: min(np.diff([curve[step] for step in (0, 10, 20, 30, 40)])) for key, curve in rates.items()}
    assert min(falls, key=lambda key: falls[key]) == ("actfocus", "13")
    assert "fell from 69.9 to 57.8 % between steps 30 and 40, the largest fall in any of the ten" in PAGE


def test_what_the_page_says_of_two_methods_of_the_confirmation_is_what_their_runs_say(tmp_path: Path) -> None:
    finals = {
        row["seed"]: 100 * float(row["rate"])
        for row in rows(FOLDER / "confirmation_methods-cpu-runs.csv")
        if (row["weighting"], row["step"]) == ("action-only", "40")
    }
    said = ", ".join(f"{final:.1f} % (seed {seed})" for seed, final in sorted(finals.items()))
    assert f"Action only ended at {said}." in PAGE
    folder = RunFolder(tmp_path / "cpu/frozenlake-grpo-40steps/actfocus-alpha=auto-seed11")
    assert Archive(FOLDER / "confirmation-cpu.tar.xz").restore(name_of(folder), folder)
    assert f"α was measured as {folder.settings['algorithm.actfocus.weighting.alpha']:.3f}," in PAGE


def test_the_page_says_of_gigpo_with_actfocus_weights_what_its_runs_say(capsys: pytest.CaptureFixture[str]) -> None:
    ahead = two_methods.differences("gigpo-actfocus", "uniform", "frozenlake")["area"]
    assert len(ahead) == 5 and min(ahead.values()) > 0 and "ahead in all five pairs; at the end" in PAGE
    told = {row["number"]: row for row in comparisons() if row["weighting"] == "gigpo-actfocus"}
    corrected = f"{float(told['area']['p_value_corrected']):.3f}"
    assert f"in *area***: {in_words(told['area'])}, corrected p = {corrected}," in PAGE
    assert f"it is not ({in_words(told['final'], points='')})" in PAGE
    value, low, high = (f"{100 * float(told['area'][key]):.1f}" for key in ("difference", "low", "high"))
    readme = (tables_folder().parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"(+{value} points, {low} to {high}, corrected p = {corrected})" in readme
    assert f"(+{value} points [+{low}, +{high}], p = {corrected} corrected over 24 comparisons)" in PAGE
    for other, words in (("gigpo", "GiGPO alone is"), ("actfocus", "minus ActFocus alone")):
        two_methods.main(["gigpo-actfocus", other])
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("area"))
        number, p_value = line.removeprefix("area: ").partition(" (")[0].replace("-", "−").split("], ")
        assert f"{words} {number}]" in PAGE and (other != "gigpo" or f"{number}] ({p_value})" in PAGE)


def test_two_methods_without_a_common_seed_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        two_methods.main(["gigpo", "gipgo"])
    assert (
        "no seed of frozenlake has runs of gigpo and gipgo; methods: actfocus, action-only, " in capsys.readouterr().err
    )


def test_the_page_shows_every_method_in_one_table_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    overview.main([])
    printed = capsys.readouterr().out
    assert f"<!-- begin: overview -->\n{printed}<!-- end: overview -->" in PAGE
    with pytest.raises(SystemExit):
        overview.main(["--env", "sokoban"])
    assert "no run of sokoban with grpo is published" in capsys.readouterr().err


def comparisons() -> list[dict[str, str]]:
    return [row for row in rows(FOLDER / "confirmation_methods-cpu-comparisons.csv") if row["p_value"]]


def in_words(row: Mapping[str, str], points: str = " points") -> str:
    value, low, high = (f"{100 * float(row[key]):+.1f}".replace("-", "−") for key in ("difference", "low", "high"))
    return f"{value}{points} [{low}, {high}]"


def test_the_page_has_a_verdict_on_every_other_method_and_shows_their_evaluations() -> None:
    told = [(row["weighting"], row["number"]) for row in comparisons() if float(row["p_value_corrected"]) < 0.05]
    assert told == [("gigpo-actfocus", "area")] and len(comparisons()) == 12
    assert "All other eleven comparisons are inconclusive" in PAGE
    steps = {
        (row["weighting"], row["step"]): in_words(row, points="")
        for row in rows(FOLDER / "confirmation_methods-cpu-steps.csv")
        if row["low"] and row["weighting"] != "uniform"
    }
    for step in ("10", "20", "30", "40"):
        cells = [steps[method, step] for method in ("gigpo-actfocus", "alpha-auto", "gigpo")]
        assert f"| {step} | {' | '.join(cells)} |" in PAGE


def test_the_page_says_of_the_grouped_methods_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    grouped_methods.main([])
    lines = [line.replace("-", "−") for line in capsys.readouterr().out.splitlines()]
    (area,) = (line.removeprefix("area: ") for line in lines if line.startswith("area"))
    assert f"*area* {area[:-1]}; in seed" in " ".join(PAGE.split())
    for name, words in (("final", "*final*"), ("step 10", "step 10")):
        (line,) = (line for line in lines if line.startswith(name))
        assert f"{words} {line.partition(': ')[2].partition(', p')[0]}" in PAGE


def test_the_page_shows_which_runs_lost_their_format_and_that_no_others_fell_as_far(
    capsys: pytest.CaptureFixture[str],
) -> None:
    archives = [FOLDER / "confirmation-cpu.tar.xz", FOLDER / f"{OTHER_METHODS}.tar.xz"]
    valid_turns.main([*map(str, archives)])
    assert f"```text\n{capsys.readouterr().out}```" in PAGE
    runs = [run for path in archives for run in valid_turns.read(path)]
    falls = {run.name: min(np.diff([*run.success.values()])) for run in runs}
    lost = [run.name for run in runs if run.lost]
    assert sorted(falls, key=lambda name: falls[name])[:3] == sorted(lost, key=lambda name: falls[name])
    points = " and ".join(", ".join(f"{-falls[name]:.0f}" for name in lost).rsplit(", ", 1))
    following = -sorted(falls.values())[3]
    assert f"success fell by {points} points between two evaluations" in PAGE
    assert f"the three largest falls of all; the next is {following:.0f}." in PAGE


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
    readme = (tables_folder().parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"+{value} points of mean success over training, 95 % interval {low} to {high}" in readme
    assert p_value in (tables_folder().parents[1] / "docs/why.md").read_text(encoding="utf-8")


def test_the_picture_of_shares_has_what_is_published() -> None:
    found = {one.name: one for one in mechanism.points()}
    assert {"action", "reasoning", "frozenlake", "sokoban", "sudoku", "webshop"} <= found.keys()
    (final,) = (
        row
        for row in rows(FOLDER / "mechanism-cpu-comparisons.csv")
        if (row["model"], row["weighting"], row["number"]) == ("reasoning", "actfocus", "final")
    )
    assert found["reasoning"].difference == pytest.approx(100 * float(final["difference"]))
    assert f"{found['reasoning'].share:.2f} [{found['reasoning'].share_ends[0]:.2f}" in PAGE


def test_what_was_not_declared_is_printed_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    contrast_checks.main()
    printed = capsys.readouterr().out
    by_step = re.findall(r"\+(\d\.\d) \(step", printed)
    assert f"{', '.join(by_step[:-1])} and {by_step[-1]} points at steps 10 to 40" in PAGE
    for p_value in re.findall(r"p = 0\.\d+", printed):
        assert p_value in PAGE
    # By hand: of the six ways to deal 4 values out in pairs, two are as far apart as 0, 1 and 10, 11.
    assert contrast_checks.permutation_p_value(np.array([0.0, 1.0]), np.array([10.0, 11.0])) == pytest.approx(1 / 3)
