"""How one method learns: by hand, and a sentence where nothing can be said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.evidence import one_method, published

HEADER = "environment,algorithm,outcome,model,weighting,seed,step,rate"


def written(path: Path, *runs: tuple[int, dict[int, float]], outcome: str = "success") -> Path:
    """Evaluations of Uniform: seed, and step → success."""
    lines = [
        f"lake,grpo,{outcome},tiny,uniform,{seed},{step},{rate}" for seed, curve in runs for step, rate in curve.items()
    ]
    path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    return path


def test_changes_are_means_over_seeds_and_the_least_one_is_named() -> None:
    lines = [*one_method.lines({2: {0: 40, 10: 60, 20: 54}, 1: {0: 40, 10: 50, 20: 52}})]
    # By hand: half the distance of two values times 12.706 is Student's interval; the falls are -6 and +2.
    assert lines == [
        "seed 1: step 0 40.0 %, step 10 50.0 %, step 20 52.0 %",
        "seed 2: step 0 40.0 %, step 10 60.0 %, step 20 54.0 %",
        "step 0 to 10: +15.0 [-48.5, +78.5], p = 0.205",
        "step 10 to 20: -2.0 [-52.8, +48.8], p = 0.705",
        "least rise, or largest fall: -6.0 points (seed 2, 60.0 to 54.0 % between steps 10 and 20)",
    ]


@pytest.mark.parametrize("runs", [{1: {0: 40.0}}, {1: {0: 40.0, 10: 50.0}, 2: {0: 40.0, 20: 50.0}}])
def test_runs_that_cannot_be_compared_are_refused(runs: dict[int, dict[int, float]]) -> None:
    with pytest.raises(ValueError, match="one evaluation, or not at the same steps"):
        [*one_method.lines(runs)]


def test_a_method_without_runs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        one_method.main(["unifrom"])
    said = "no run of unifrom on frozenlake with grpo in confirmation_methods, confirmation_actfocus, "
    assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        one_method.main(["uniform", "--table", "formt"])
    assert "no runs of formt are published; tables: confirmation_actfocus, " in capsys.readouterr().err


def test_a_run_in_two_files_must_be_the_same_and_other_outcomes_are_left_out(tmp_path: Path) -> None:
    one = written(tmp_path / "one.csv", (1, {0: 0.4, 10: 0.5}))
    purchases = written(tmp_path / "purchases.csv", (1, {0: 0.9, 10: 0.9}), outcome="purchase")
    assert published.merged([one, purchases, one], "lake") == {"uniform": {1: {10: 50.0}}}
    assert published.merged([one], "lake", since=0) == {"uniform": {1: {0: 40.0, 10: 50.0}}}
    other = written(tmp_path / "other.csv", (1, {0: 0.4, 10: 0.6}))
    with pytest.raises(ValueError, match=r"other.csv: uniform, seed 1 has other results in another file"):
        published.merged([one, other], "lake")
