"""Pairs early in training: each once, with the rate that its table gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.evidence import early_lead
from tools.evidence.published import RESULTS

LINES = (RESULTS / "confirmation_actfocus-cpu-runs.csv").read_text(encoding="utf-8").splitlines()


def files(tmp_path: Path) -> list[Path]:
    """The published evaluations of question 1, twice."""
    paths = [tmp_path / folder / "confirmation_actfocus-cpu-runs.csv" for folder in ("one", "other")]
    for path in paths:
        path.parent.mkdir()
        path.write_text("\n".join(LINES), encoding="utf-8")
    return paths


def test_a_pair_that_two_files_have_is_counted_once_and_not_if_they_differ(tmp_path: Path) -> None:
    paths = files(tmp_path)
    found = early_lead.pairs(10, paths)
    (seeds,) = (seeds for key, seeds in found.items() if (key.environment, key.algorithm) == ("frozenlake", "grpo"))
    assert sorted(seeds) == [11, 12, 13, 14, 15]
    changed = [line.replace(",10,0.", ",10,1.") if ",actfocus," in line else line for line in LINES]
    paths[1].write_text("\n".join(changed), encoding="utf-8")
    with pytest.raises(ValueError, match="has another result in another file"):
        early_lead.pairs(10, paths)


@pytest.mark.parametrize(
    ("table", "environment", "weighting", "rate"),
    [
        ("confirmation_methods", "frozenlake", "turn-balanced", "3e-4"),
        ("learning_rates", "sudoku", "actfocus-3e-5", "3e-5"),
        ("table6", "frozenlake", "uniform", "1e-4"),
    ],
)
def test_a_rate_is_the_one_that_a_table_gives(table: str, environment: str, weighting: str, rate: str) -> None:
    row = {"environment": environment, "algorithm": "grpo", "model": "tiny", "weighting": weighting}
    assert early_lead.written(early_lead.rate(early_lead.read_table(early_lead.find_table(table)), row)) == rate


def test_a_pair_of_two_rates_says_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_lead, "rate", lambda _, row: 3e-4 if row["weighting"] == "uniform" else 1e-4)
    found = early_lead.pairs(10, files(tmp_path)[:1])
    assert {key.rate for key in found} == {"1e-4 and Uniform 3e-4"}


def test_no_file_is_no_pair_and_a_step_without_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert early_lead.pairs(10, []) == {}
    with pytest.raises(SystemExit):
        early_lead.main(["--step", "11"])
    assert "no published pair was evaluated at step 11" in capsys.readouterr().err
