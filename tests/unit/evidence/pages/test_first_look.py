"""What evidence/first_look.md says is what `tools.evidence.one_rate` prints and what the runs say."""

from __future__ import annotations

import re
from collections import defaultdict
from unittest.mock import patch

import numpy as np
import pytest

from tests.unit.evidence.pages import FOLDER, OTHER_METHODS, text
from tools.evidence import chosen_rates, one_rate
from tools.evidence.published import rows

PAGE = text("first_look")


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


@pytest.mark.parametrize("rate", ["1e-4", "3e-4"])
def test_the_page_says_of_the_first_evaluation_what_is_printed(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with patch("sys.argv", ["one_rate", "--rate", rate]):
        one_rate.main()
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "success at the first evaluation" in line)
    means = [one.rpartition(" ")[2] for one in line.partition("evaluation: ")[2].rstrip(".").split(", ")]
    assert len(means) == 8 and f"| {rate} | {' | '.join(means)} |" in PAGE


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
