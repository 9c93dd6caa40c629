"""All methods at one rate: means, differences and scatter against plain NumPy, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tools.one_rate import compared, labels, read, scatter, table

#: Weighting → seed → success at steps 0, 10, 20.
CURVES = {
    "uniform-1e-4": {1: [0.5, 0.6, 0.7], 2: [0.5, 0.5, 0.6]},
    "actfocus-1e-4": {1: [0.5, 0.7, 0.8], 2: [0.5, 0.6, 0.8]},
    "actfocus-3e-4": {1: [0.5, 0.0, 0.0], 2: [0.5, 0.0, 0.0]},
    "gigpo-actfocus-1e-4": {1: [0.5, 0.6, 0.6], 2: [0.5, 0.8, 0.8]},
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
    found = read(written(tmp_path / "runs.csv", CURVES), "frozenlake")
    assert {name: list(map(pytest.approx, values)) for name, values in found["final"].items()} == {
        "uniform": [70, 60], "actfocus": [80, 80], "gigpo-actfocus": [60, 80],
    }  # fmt: skip
    assert found["area"]["gigpo-actfocus"] == pytest.approx([60, 80])
    assert found["area"]["uniform"] == pytest.approx([65, 55])
    lines = table(tmp_path / "runs.csv")
    assert lines[2] == "| Uniform | 65.0 |  | 60.0 |  |"
    assert lines[3].startswith("| ActFocus | 80.0 | +15.0 [") and lines[4].startswith(
        "| GiGPO and ActFocus | 70.0 | +5.0 ["
    )
    deviation = np.sqrt((50 + 0 + 200) / 3)
    assert f"2 seeds; standard deviation of a run, all methods together: {deviation:.1f} (final)" in lines[-1]


def test_one_method_against_uniform_is_students_test() -> None:
    values = {"uniform": [70.0, 60.0, 65.0], "actfocus": [80.0, 79.0, 71.0]}
    _, row = compared(values, labels())
    student = stats.ttest_ind(values["actfocus"], values["uniform"]).confidence_interval(0.95)
    assert (row.low, row.high) == pytest.approx((student.low, student.high), abs=0.2)
    assert row.p_value == pytest.approx(stats.ttest_ind(values["actfocus"], values["uniform"]).pvalue, abs=0.01)
    assert row.difference == pytest.approx(np.mean(values["actfocus"]) - 65)
    assert scatter(values) == pytest.approx(np.sqrt((25 + np.var(values["actfocus"], ddof=1)) / 2))


@pytest.mark.parametrize(
    "curves",
    [
        {name: curve for name, curve in CURVES.items() if not name.startswith("uniform")},
        {"uniform-1e-4": CURVES["uniform-1e-4"]},
        {**CURVES, "actfocus-1e-4": {1: [0.5, 0.7, 0.8]}},
    ],
)
def test_a_missing_run_is_named(tmp_path: Path, curves: dict[str, dict[int, list[float]]]) -> None:
    with pytest.raises(ValueError, match=r"runs.csv, frozenlake: methods at 1e-4 and their seeds are"):
        read(written(tmp_path / "runs.csv", curves), "frozenlake")


def test_every_method_of_the_protocol_is_one_of_the_table() -> None:
    assert list(labels()) == [
        "uniform", "actfocus", "by-tokens", "action-only", "entropy-top", "turn-balanced", "gigpo", "gigpo-actfocus",
    ]  # fmt: skip
