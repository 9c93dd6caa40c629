"""Stage 2's look at methods with ActFocus's weights: by hand, and nothing before a seed has all methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.evidence import grouped_methods
from verl_actfocus.experiments.tables.files import find_table, read_table

HEADER = "environment,algorithm,outcome,weighting,seed,step,rate"
#: Method → success at steps 10 and 20, in per cent.
CURVES = {
    "uniform": (0, 0),
    "action-only": (60, 70),
    "gigpo-actfocus": (66, 76),
    "alpha-auto": (69, 70),
    "entropy-top": (50, 71),
    "turn-balanced": (55, 72),
    "gigpo": (60, 76),
}


def written(path: Path, *seeds: tuple[int, float], without: str = "") -> Path:
    """Evaluations of all methods; those with the weights are so many points higher than `CURVES`."""
    lines = [HEADER]
    inside, _ = grouped_methods.sides(read_table(find_table(grouped_methods.TABLE)))
    for seed, more in seeds:
        for name, curve in CURVES.items():
            for step, success in ((0, 44), (10, curve[0]), (20, curve[1])):
                if name != without or seed != seeds[-1][0]:
                    rate = (success + (more if name in inside else 0)) / 100
                    lines.append(f"frozenlake,grpo,success,{name},{seed},{step},{rate}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_means_of_both_sides_are_compared_seed_by_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grouped_methods.main(["--runs", str(written(tmp_path / "runs.csv", (11, 0.0), (12, 2.0)))])
    # At step 10 65 and 55, at step 20 72 and 73; seed 12 two points more. t = 0.975 of one degree of freedom is 12.706.
    assert capsys.readouterr().out.splitlines() == [
        "action only; GiGPO and ActFocus; ActFocus, α measured minus entropy-top; turn-balanced; GiGPO",
        "seeds 11, 12 of 5: nothing is concluded",
        "area: +5.5 [-7.2, +18.2], p = 0.114 (seed by seed +4.5, +6.5)",
        "final: +0.0 [-12.7, +12.7], p = 1.000 (seed by seed -1.0, +1.0)",
        "step 10, not declared: +11.0 [-1.7, +23.7], p = 0.058",
        "step 20, not declared: +0.0 [-12.7, +12.7], p = 1.000",
    ]


def test_a_seed_counts_once_all_methods_have_run_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grouped_methods.main(["--runs", str(written(tmp_path / "runs.csv", (11, 0.0), (12, 2.0), without="gigpo"))])
    assert "seeds 11 of 5: nothing is concluded\narea: +4.5 (one seed)" in capsys.readouterr().out
    grouped_methods.main(["--runs", str(written(tmp_path / "runs.csv", (11, 0.0), without="gigpo"))])
    assert capsys.readouterr().out.splitlines()[1:] == ["no seed has runs of all 6 methods yet"]


def test_all_declared_seeds_allow_a_conclusion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [(seed, float(seed % 2)) for seed in range(11, 16)]
    grouped_methods.main(["--runs", str(written(tmp_path / "runs.csv", *seeds))])
    assert "\nseeds 11, 12, 13, 14, 15\narea: +5.1 [+4.4, +5.8], p < 0.001" in capsys.readouterr().out


def test_a_file_that_is_not_there_and_a_run_twice_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "runs.csv", (11, 0.0))
    path.write_text(path.read_text() + "\nfrozenlake,grpo,success,gigpo,11,20,0.5", encoding="utf-8")
    (tmp_path / "other.csv").write_text("environment,step\nfrozenlake,10", encoding="utf-8")
    for given, message in (
        (path, "gigpo, seed 11, step 20 is there twice"),
        (tmp_path / "no.csv", "no.csv"),
        (tmp_path / "other.csv", "other.csv has no algorithm, outcome, weighting, seed, rate: name a file"),
    ):
        with pytest.raises(SystemExit):
            grouped_methods.main(["--runs", str(given)])
        assert message in capsys.readouterr().err
