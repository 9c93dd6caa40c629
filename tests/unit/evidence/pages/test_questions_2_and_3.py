"""What the pages say of the other methods of stage 2 is what tools print and what their runs say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.evidence.pages import FOLDER, README, in_words, text
from tools.evidence import grouped_methods, two_methods
from tools.evidence.published import over_seeds, rows
from verl_actfocus.experiments.results.archive import Archive, name_of
from verl_actfocus.experiments.results.folder import RunFolder

PAGE = text("confirmation")


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
    assert f"(+{value} points, {low} to {high}, corrected p = {corrected})" in README
    assert f"(+{value} points [+{low}, +{high}], p = {corrected} corrected over 24 comparisons)" in PAGE
    for other, words in (("gigpo", "GiGPO alone is"), ("actfocus", "minus ActFocus alone")):
        two_methods.main(["gigpo-actfocus", other])
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("area"))
        number, p_value = line.removeprefix("area: ").partition(" (")[0].replace("-", "−").split("], ")
        assert f"{words} {number}]" in PAGE and (other != "gigpo" or f"{number}] ({p_value.partition(';')[0]})" in PAGE)


def test_two_methods_without_a_common_seed_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        two_methods.main(["gigpo", "gipgo"])
    assert (
        "no seed of frozenlake with grpo has runs of gigpo and gipgo; methods: actfocus, action-only, "
        in capsys.readouterr().err
    )


def test_the_page_says_of_actfocus_by_tokens_what_its_runs_say() -> None:
    told = {
        (row["weighting"], row["number"]): row
        for row in rows(FOLDER / "confirmation_normalizer-cpu-comparisons.csv")
        if row["p_value"]
    }
    assert {key for key, row in told.items() if row["conclusion"] != "inconclusive"} == {("uniform", "area")}
    area, final = told["uniform", "area"], told["uniform", "final"]
    assert float(area["p_value_corrected"]) < 0.001
    assert f"in *area***: {in_words(area)}, corrected p < 0.001 over the eight comparisons" in PAGE
    assert f"at the end of training it is not ({in_words(final, points='')})" in PAGE
    value, low, high = (f"{-100 * float(area[key]):+.1f}" for key in ("difference", "high", "low"))
    assert (
        f"({value} points [{low}, {high}], p < 0.001 corrected over eight comparisons; the interval is too narrow"
        in PAGE
    )
    assert f"({value} points, {low[1:]} to {high[1:]}, corrected p < 0.001; the interval is too narrow)" in README
    found = {other: two_methods.differences("by-tokens", other, "frozenlake") for other in ("uniform", "actfocus")}
    for step in ("10", "20", "30", "40"):
        cells = [over_seeds(one[step]).rpartition(",")[0].replace("-", "−") for one in found.values()]
        assert f"| {step} | {' | '.join(cells)} |" in PAGE
    own, expected = two_methods.widths(found["uniform"])
    assert f"some ±{expected:.1f} points, not ±{own:.1f} (" in PAGE
    areas = found["uniform"]["area"].values()
    assert f"({min(areas):.1f} to {max(areas):.1f} points)" in PAGE


def comparisons() -> list[dict[str, str]]:
    return [row for row in rows(FOLDER / "confirmation_methods-cpu-comparisons.csv") if row["p_value"]]


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
