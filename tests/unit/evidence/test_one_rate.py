"""All methods at one rate: means, differences and scatter against plain NumPy, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tools.evidence.one_rate import compared, grouped, labels, read, scatter, table, with_actfocus

#: Weighting → seed → success at steps 0, 10, 20.
CURVES = {
    "uniform-1e-4": {1: [0.5, 0.6, 0.7], 2: [0.5, 0.5, 0.6]},
    "actfocus-1e-4": {1: [0.5, 0.7, 0.8], 2: [0.5, 0.6, 0.8]},
    "actfocus-3e-4": {1: [0.5, 0.0, 0.0], 2: [0.5, 0.0, 0.0]},
    "gigpo-actfocus-1e-4": {1: [0.5, 0.6, 0.6], 2: [0.5, 0.8, 0.8]},
    **{
        f"{name}-1e-4": {1: [0.5, 0.6, 0.6], 2: [0.5, 0.7, 0.7]}
        for name in ("by-tokens", "action-only", "entropy-top", "turn-balanced", "gigpo")
    },
}


def written(path: Path, curves: dict[str, dict[int, list[float]]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["environment", "weighting", "seed", "step", "rate"])
        for weighting, seeds in curves.items():
            for seed, rates in seeds.items():
                for step, rate in zip((0, 10, 20), rates, strict=True):
                    out.writerow(["frozenlake", weighting, seed, step, rate])
    return path


def test_only_the_one_rate_counts_and_the_evaluation_before_training_does_not(tmp_path: Path) -> None:
    found = read([written(tmp_path / "runs.csv", CURVES)], "frozenlake")
    for name, values in {"uniform": [70, 60], "actfocus": [80, 80], "gigpo-actfocus": [60, 80]}.items():
        assert found["final"][name] == pytest.approx(values)
    assert found["area"]["gigpo-actfocus"] == pytest.approx([60, 80])
    assert found["area"]["uniform"] == pytest.approx([65, 55])
    halves = [{name: curve for name, curve in CURVES.items() if ("gigpo" in name) == half} for half in (True, False)]
    lines = table([written(tmp_path / f"{place}.csv", half) for place, half in enumerate(halves)])
    assert lines[2] == "| Uniform | 65.0 |  | 60.0 |  |"
    assert lines[3].startswith("| ActFocus | 80.0 | +15.0 [")
    assert lines[9].startswith("| GiGPO and ActFocus | 70.0 | +5.0 [")
    deviation = np.sqrt((50 + 0 + 200 + 5 * 50) / 8)
    assert f"2 seeds; standard deviation of a run, all methods together: {deviation:.1f} (final)" in lines[-4]
    # 80, 65, 65 and 70 with ActFocus's weights, 65 three times without and Uniform's 65.
    assert "minus the others: final +5.0 [" in lines[-3]
    # Uniform's first evaluations are 60 and 50, ActFocus's 70 and 60.
    assert "success at the first evaluation: Uniform 55.0, ActFocus 65.0, " in lines[-2]
    assert lines[-1].endswith("at the first evaluation, seed by seed: +10.0, +10.0.")


def test_another_rate_has_its_own_runs(tmp_path: Path) -> None:
    smaller = {name.replace("1e-4", "3e-5"): curve for name, curve in CURVES.items() if "1e-4" in name}
    smaller["uniform-3e-5"] = {1: [0.5, 0.5, 0.55], 2: [0.5, 0.5, 0.5]}
    path = written(tmp_path / "runs.csv", {**CURVES, **smaller})
    assert read([path], "frozenlake", "3e-5")["final"]["uniform"] == pytest.approx([55, 50])
    assert table([path], rate="3e-5")[2] == "| Uniform | 52.5 |  | 51.2 |  |"
    assert table([path])[2] == "| Uniform | 65.0 |  | 60.0 |  |"


def test_all_methods_share_one_scatter_and_the_intervals_hold_together() -> None:
    values = {name: [60.0 + place, 66.0 + 3 * place] for place, name in enumerate(labels())}
    rows = compared(values, labels())[1:]
    widths = [row.high - row.low for row in rows if row.difference is not None]
    assert len(widths) == 7 and widths == pytest.approx([widths[0]] * 7, rel=1e-6)
    for row in rows:
        assert row.difference is not None and (row.high + row.low) / 2 == pytest.approx(row.difference, rel=1e-6)
    # Two runs each leave eight degrees of freedom. Wider than for one comparison, at most as wide as Bonferroni's.
    unit = scatter(values) * np.sqrt(2 / 2)
    single, bonferroni = (stats.t.ppf(1 - 0.025 / number, 8) * unit for number in (1, 7))
    assert 1.1 * single < widths[0] / 2 < 1.005 * bonferroni


def test_two_sides_of_one_method_each_are_compared_by_students_test() -> None:
    values = {"uniform": [70.0, 60.0, 65.0], "actfocus": [80.0, 79.0, 71.0]}
    row = grouped(values, ["actfocus"])
    student = stats.ttest_ind(values["actfocus"], values["uniform"])
    interval = student.confidence_interval(0.95)
    assert (row.low, row.high, row.p_value) == pytest.approx((interval.low, interval.high, student.pvalue))
    assert with_actfocus() == ["actfocus", "by-tokens", "action-only", "gigpo-actfocus"]


def test_one_method_against_uniform_is_students_test() -> None:
    values = {"uniform": [70.0, 60.0, 65.0], "actfocus": [80.0, 79.0, 71.0]}
    _, row = compared(values, {name: label for name, label in labels().items() if name in values})
    student = stats.ttest_ind(values["actfocus"], values["uniform"]).confidence_interval(0.95)
    assert (row.low, row.high) == pytest.approx((student.low, student.high), abs=0.2)
    assert row.p_value == pytest.approx(stats.ttest_ind(values["actfocus"], values["uniform"]).pvalue, abs=0.01)
    assert row.difference == pytest.approx(np.mean(values["actfocus"]) - 65)
    assert scatter(values) == pytest.approx(np.sqrt((25 + np.var(values["actfocus"], ddof=1)) / 2))


@pytest.mark.parametrize(
    "curves",
    [
        {name: curve for name, curve in CURVES.items() if not name.startswith("uniform")},
        {name: curve for name, curve in CURVES.items() if not name.startswith("gigpo-1e-4")},
        {**CURVES, "random-1e-4": CURVES["gigpo-1e-4"]},
        {**CURVES, "actfocus-1e-4": {1: [0.5, 0.7, 0.8]}},
    ],
)
def test_a_missing_run_is_named(tmp_path: Path, curves: dict[str, dict[int, list[float]]]) -> None:
    with pytest.raises(ValueError, match=r"runs.csv, frozenlake: methods at 1e-4 and their seeds are"):
        read([written(tmp_path / "runs.csv", curves)], "frozenlake")


def test_a_run_counts_once(tmp_path: Path) -> None:
    path = written(tmp_path / "runs.csv", CURVES)
    with pytest.raises(ValueError, match="seed 1, is in two of the files"):
        read([path, path], "frozenlake")


def test_every_method_of_the_protocol_is_one_of_the_table() -> None:
    assert list(labels()) == [
        "uniform", "actfocus", "by-tokens", "action-only", "entropy-top", "turn-balanced", "gigpo", "gigpo-actfocus",
    ]  # fmt: skip
