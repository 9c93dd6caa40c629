"""The learning curves are compared step by step, over the seeds that weighting and baseline share."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from verl_actfocus.experiments.report import curves
from verl_actfocus.experiments.report.figures import lines
from verl_actfocus.experiments.report.plots import COLOURS
from verl_actfocus.experiments.report.writing import write_table
from verl_actfocus.experiments.tables.grid import Request, cells

from ..declared import TABLE, finished
from .test_writing import outcomes

MakeRequest = Callable[..., Request]
Finish = Callable[..., None]
#: Solved episodes of four tasks at each step, by (weighting, seed); one has an evaluation more, as after resuming.
CURVES = {
    ("uniform", 1): {0: 1, 2: 3, 4: 2},
    ("uniform", 2): {0: 1, 2: 1, 3: 1, 4: 2},
    ("uniform", 3): {0: 1, 2: 2, 4: 1},
    ("actfocus", 1): {0: 1, 2: 2, 4: 4},
    ("actfocus", 2): {0: 1, 2: 3, 3: 3, 4: 3},
    ("actfocus", 4): {0: 1, 2: 4, 4: 4},
}


def step_rows(request: Request, folder: Path) -> list[dict[str, str]]:
    paths = write_table(request, finished(request), folder)
    assert folder / "mine-cpu-steps.csv" in paths
    with (folder / "mine-cpu-steps.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def compared(make_request: MakeRequest, finish: Finish) -> Request:
    """FrozenLake with seeds 1 and 2 of both weightings and one more seed of each; nothing of Sokoban."""
    request = make_request(seeds=4)
    for cell in cells(request):
        for run in cell.runs:
            if run.conditions.env == "frozenlake" and (run.weighting.name, run.seed) in CURVES:
                curve = CURVES[run.weighting.name, run.seed]
                finish(run, {step: outcomes(solved) for step, solved in curve.items()})
    return request


def test_every_step_has_the_paired_difference_with_students_interval(compared: Request, tmp_path: Path) -> None:
    rows = step_rows(compared, tmp_path)
    assert {(row["environment"], row["weighting"], row["baseline"], row["model"]) for row in rows} == {
        ("frozenlake", "actfocus", "uniform", "tiny")
    }
    found = {int(row["step"]): row for row in rows}
    for step, values in {2: np.array([-0.25, 0.5]), 4: np.array([0.5, 0.25])}.items():
        assert found[step]["seeds"] == "2"
        assert float(found[step]["difference"]) == pytest.approx(values.mean())
        low, high = stats.t.interval(0.95, 1, values.mean(), stats.sem(values))
        assert (float(found[step]["low"]), float(found[step]["high"])) == pytest.approx((max(-1, low), min(1, high)))
        assert found[step]["interval"] == "t interval over 2 seeds"


def test_the_last_step_is_the_difference_of_the_table(compared: Request, tmp_path: Path) -> None:
    last = step_rows(compared, tmp_path)[-1]
    with (tmp_path / "mine-cpu.csv").open() as file:
        (row,) = [r for r in csv.DictReader(file) if r["number"] == "difference" and r["value"]]
    assert (last["step"], last["difference"], last["low"], last["high"]) == ("4", row["value"], row["low"], row["high"])


def test_a_step_that_few_seeds_have_says_so_and_one_without_an_interval_has_none(
    compared: Request, tmp_path: Path
) -> None:
    found = {int(row["step"]): row for row in step_rows(compared, tmp_path)}
    assert sorted(found) == [0, 2, 3, 4]
    assert (found[3]["seeds"], found[3]["difference"]) == ("1", "0.5")
    assert found[3]["interval"] == "interval over the 4 tasks, paired"
    assert (found[0]["seeds"], found[0]["difference"], found[0]["low"], found[0]["high"]) == ("2", "0.0", "", "")
    assert found[0]["interval"] == "no interval: all 2 seeds gave the same value"


def test_without_a_pair_there_are_no_rows_and_a_table_of_tokens_has_no_steps(
    make_request: MakeRequest, finish: Finish, tmp_path: Path
) -> None:
    request = make_request(seeds=1, only=("frozenlake", "actfocus"))
    (run,) = cells(request)[0].runs
    finish(run, {0: outcomes(1), 4: outcomes(2)})
    names = {path.name for path in write_table(request, finished(request), tmp_path / "one")}
    assert "mine-cpu-steps.csv" not in names and "mine-cpu-runs.csv" in names
    tokens = make_request(TABLE.replace("algorithm: grpo", "algorithm: grpo\nquantity: action_tokens"))
    assert tmp_path / "t/mine-cpu-steps.csv" not in write_table(tokens, finished(tokens), tmp_path / "t")


def test_what_is_drawn_has_colours_of_its_own_however_many_weightings_are_not(
    make_request: MakeRequest, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = "".join(f"  other{n}: {{label: other {n}, weighting: actfocus alpha=0.{n}}}\n" for n in range(2, 9))
    request = make_request(TABLE.replace("  actfocus: {label", f"{others}  actfocus: {{label"), seeds=1)
    for cell in cells(request):
        if cell.weighting in ("uniform", "other7", "actfocus"):
            finish(cell.runs[0], {step: outcomes(1) for step in (0, 4)})
    drawn = []
    monkeypatch.setattr(curves, "draw_success", lambda axes, runs, label, *style: drawn.append((label, style)))
    monkeypatch.setattr(curves, "finish", lambda *given: None)
    monkeypatch.setattr(curves, "make_room_for_legends", lambda figure: None)
    write_table(request, finished(request), request.out)
    styles = dict(drawn)
    assert len(drawn) == 6 and len(styles) == 3 and len({style[0] for style in styles.values()}) == 3


@pytest.mark.parametrize(
    ("order", "places"),
    [
        (("uniform", "actfocus", "turns"), (0, 1, 2)),
        (("turns", "actfocus", "uniform"), (2, 1, 0)),
        (("turns", "uniform"), (2, 0)),
        (("turns", "slow"), (2, 3)),
    ],
)
def test_uniform_and_actfocus_have_their_colours_wherever_they_stand_in_a_table(
    order: tuple[str, ...],
    places: tuple[int, ...],
    make_request: MakeRequest,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weightings = {
        "uniform": "weighting: uniform",
        "actfocus": "weighting: actfocus",
        "turns": "weighting: uniform, learning_rate: 1",
        "slow": "weighting: uniform, learning_rate: 0.1",
    }
    listed = "".join(f"  {name}: {{label: {name}, {weightings[name]}}}\n" for name in order)
    header = f"baseline: {order[0]}\n" + TABLE.partition("  uniform:")[0]
    request = make_request(header + listed + "rows:\n  - env: frozenlake\n")
    for cell in cells(request):
        for run in cell.runs:
            finish(run, {0: outcomes(1), 4: outcomes(3)})
    drawn: dict[str, str] = {}
    monkeypatch.setattr(curves, "draw_success", lambda _, runs, label, colour, marker: drawn.update({label: colour}))
    curves.picture(request.table, lines(request.table, cells(request), finished(request)))
    found = {label.split()[0]: colour for label, colour in drawn.items()}
    assert found == {name: COLOURS[place] for name, place in zip(order, places, strict=True)}
