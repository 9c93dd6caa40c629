"""The interval of a mean of evaluations, and what it would be if they were independent."""

from __future__ import annotations

import pytest

from tools.evidence import two_methods


def test_the_width_to_expect_is_that_of_a_mean_of_independent_evaluations() -> None:
    # By hand: two seeds d apart have a standard error of d / 2, and Student's t with one degree of freedom is 12.706.
    found = {
        "area": {1: 1.0, 2: 1.0},
        "final": {1: 4.0, 2: 0.0},
        "10": {1: -2.0, 2: 2.0},
        "20": {1: 4.0, 2: 0.0},
    }
    own, expected = two_methods.widths(found)
    assert own == pytest.approx(0)
    # Either step has 12.706 * 2; the root of the sum of the squares over two.
    assert expected == pytest.approx(12.7062 * 2 * 2**0.5 / 2, rel=1e-4)


def test_seeds_are_chosen_and_one_that_lacks_a_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    every = two_methods.differences("actfocus", "uniform", "frozenlake")["area"]
    chosen = two_methods.differences("actfocus", "uniform", "frozenlake", [13, 12])["area"]
    assert chosen == {seed: every[seed] for seed in (12, 13)} and list(chosen) == [12, 13]
    with pytest.raises(SystemExit):
        two_methods.main(["actfocus", "uniform", "--seeds", "12", "16"])
    assert "seeds [16] of frozenlake lack a run of actfocus or uniform; both have [11, 12, 13, 14, 15]" in (
        capsys.readouterr().err
    )
