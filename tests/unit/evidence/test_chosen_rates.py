"""Stage 1's rule: the larger mean, within one point the smaller rate, and nothing before all runs are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.evidence import chosen_rates

HEADER = "environment,algorithm,weighting,number,value,seeds"


@pytest.mark.parametrize(
    ("finals", "rate"),
    [
        ({"3e-5": 60.0, "1e-4": 67.0, "3e-4": 64.0}, "1e-4"),
        ({"3e-5": 60.0, "1e-4": 67.0, "3e-4": 68.0}, "1e-4"),  # a point apart: the smaller rate
        ({"3e-5": 60.0, "1e-4": 67.0, "3e-4": 68.1}, "3e-4"),
        ({"3e-5": 67.4, "1e-4": 68.3, "3e-4": 69.2}, "1e-4"),  # within a point of the best, not of its neighbour
        ({"3e-5": 67.4, "1e-4": 68.2, "3e-4": 68.3}, "3e-5"),
        ({"3e-5": None, "1e-4": 68.2, "3e-4": 68.3}, None),
    ],
)
def test_the_larger_mean_chooses_and_within_a_point_the_smaller_rate(
    finals: dict[str, float | None], rate: str
) -> None:
    assert chosen_rates.Choice(finals).rate == rate


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    return path


def test_a_rate_with_one_of_two_seeds_is_not_there_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = written(
        tmp_path / "table.csv",
        "sokoban,grpo,gigpo-3e-5,final,0.5,2",
        "sokoban,grpo,gigpo-1e-4,final,0.625,2",
        "sokoban,grpo,gigpo-3e-4,final,0.75,1",
        "sokoban,grpo,gigpo-3e-4,peak,0.75,2",
    )
    chosen_rates.main(["--tables", str(table)])
    lines = capsys.readouterr().out.splitlines()
    assert "| sokoban | grpo | GiGPO | 50.0 | 62.5 |  | – |" in lines
    assert not [line for line in lines if "frozenlake" in line]


def test_a_run_in_two_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (written(tmp_path / name, "sokoban,grpo,gigpo-3e-5,final,0.5,2") for name in ("one.csv", "two.csv"))
    with pytest.raises(SystemExit):
        chosen_rates.main(["--tables", str(one), str(two)])
    assert f"{two}: ('sokoban', 'grpo', 'gigpo-3e-5') is there twice" in capsys.readouterr().err


def test_an_algorithm_chooses_by_its_own_runs(tmp_path: Path) -> None:
    table = written(
        tmp_path / "table.csv",
        *(
            f"sokoban,{algorithm},uniform-{rate},final,{final},2"
            for algorithm, finals in {"grpo": (0.5, 0.7, 0.6), "ppo": (0.5, 0.6, 0.7)}.items()
            for rate, final in zip(("3e-5", "1e-4", "3e-4"), finals, strict=True)
        ),
    )
    chosen = chosen_rates.choices([table])
    assert chosen["sokoban", "grpo"]["uniform"].rate == "1e-4"
    assert chosen["sokoban", "ppo"]["uniform"].rate == "3e-4"
    assert chosen["sokoban", "ppo"]["actfocus"].rate is None
    # GiGPO is an estimator of GRPO's kind.
    assert "gigpo" not in chosen["sokoban", "ppo"] and ("webshop", "ppo") not in chosen
