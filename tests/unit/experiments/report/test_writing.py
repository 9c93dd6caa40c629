"""A table says what its runs say, beside the paper's numbers, and leaves blank what was not run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from verl_actfocus.experiments.report.figures import Line, lines
from verl_actfocus.experiments.report.writing import verdict, write_table
from verl_actfocus.experiments.results.statistics import Estimate
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs
from verl_actfocus.storage.errors import ExperimentError

from ..declared import TABLE, finished

MakeRequest = Callable[..., Request]
Finish = Callable[..., None]
#: Solved episodes of four tasks with one episode each, at steps 0, 2 and 4, by (weighting, seed).
SOLVED = {
    ("uniform", 1): (1, 3, 2),
    ("uniform", 2): (1, 1, 2),
    ("uniform", 3): (1, 2, 1),
    ("actfocus", 1): (1, 2, 4),
    ("actfocus", 2): (1, 3, 3),
    ("actfocus", 3): (1, 2, 3),
}


def outcomes(solved: int) -> dict[int, list[int]]:
    return {task: [int(task < solved)] for task in range(4)}


@pytest.fixture
def played(make_request: MakeRequest, finish: Finish) -> Request:
    """A request with three seeds of FrozenLake finished and nothing of Sokoban."""
    request = make_request(seeds=3)
    for cell in cells(request):
        for run in cell.runs:
            if run.conditions.env == "frozenlake":
                solved = SOLVED[run.weighting.name, run.seed]
                finish(run, {step: outcomes(n) for step, n in zip((0, 2, 4), solved, strict=True)})
    return request


def by_place(request: Request) -> dict[tuple[str, str], Line]:
    found = lines(request.table, cells(request), finished(request))
    return {(line.cell.row.env, line.cell.weighting): line for line in found}


def test_final_and_peak_are_means_over_seeds_with_students_interval(played: Request) -> None:
    line = by_place(played)["frozenlake", "uniform"]
    finals, peaks = np.array([0.5, 0.5, 0.25]), np.array([0.75, 0.5, 0.5])
    for estimate, values in ((line.first, finals), (line.second, peaks)):
        assert estimate is not None and estimate.interval is not None
        assert estimate.value == pytest.approx(values.mean())
        expected = stats.t.interval(0.95, 2, values.mean(), values.std(ddof=1) / np.sqrt(3))
        assert estimate.interval == pytest.approx((max(0, expected[0]), min(1, expected[1])))


def test_the_difference_is_paired_by_seed(played: Request) -> None:
    line = by_place(played)["frozenlake", "actfocus"]
    values = np.array([0.5, 0.25, 0.5])
    assert line.difference is not None and line.difference.interval is not None
    assert line.difference.value == pytest.approx(values.mean())
    expected = stats.t.interval(0.95, 2, values.mean(), values.std(ddof=1) / np.sqrt(3))
    assert line.difference.interval == pytest.approx((expected[0], min(1, expected[1])))
    assert line.paired_seeds == (1, 2, 3)


def test_what_was_not_run_stays_blank_and_is_counted(played: Request, tmp_path: Path) -> None:
    line = by_place(played)["sokoban", "actfocus"]
    assert (line.first, line.second, line.difference, line.missing) == (None, None, None, 3)
    text = write_table(played, finished(played), tmp_path / "t")
    markdown = (tmp_path / "t/mine-cpu.md").read_text()
    (row,) = [row for row in markdown.splitlines() if row.startswith("| Sokoban") and "ActFocus" in row]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "Sokoban, GRPO",
        "tiny",
        "ActFocus",
        "",
        "",
        "",
        "",
        "",
    ]
    assert "6 of the runs asked for are not finished" in markdown
    ends = (".md", ".csv", ".tex", "-runs.csv", "-steps.csv", ".png")
    assert {path.name for path in text} == {f"mine-cpu{end}" for end in ends}


def test_a_tiny_model_stands_beside_all_sizes_of_the_paper_and_a_gpu_model_beside_its_own(
    played: Request, make_request: MakeRequest
) -> None:
    assert by_place(played)["frozenlake", "uniform"].paper == {"large": [12.5, 26.2], "small": [None, 23.8]}
    request = make_request(scale="gpu")
    small = [line for line in lines(request.table, cells(request), finished(request)) if line.cell.size == "small"]
    assert [line.paper for line in small] == [{"small": [None, 23.8]}, {"large": [6.8, None]}]


def test_the_files_hold_the_same_numbers(played: Request, tmp_path: Path) -> None:
    write_table(played, finished(played), tmp_path)
    with (tmp_path / "mine-cpu.csv").open() as file:
        rows = {(r["environment"], r["weighting"], r["number"]): r for r in csv.DictReader(file)}
    assert float(rows["frozenlake", "actfocus", "final"]["value"]) == pytest.approx(10 / 12)
    assert rows["frozenlake", "actfocus", "final"]["paper_large"] == "6.8"
    assert rows["frozenlake", "actfocus", "final"]["paper_small"] == ""
    assert float(rows["frozenlake", "actfocus", "difference"]["value"]) == pytest.approx(5 / 12)
    assert rows["sokoban", "actfocus", "final"]["value"] == ""
    assert "83.3 [" in (tmp_path / "mine-cpu.md").read_text()
    latex = (tmp_path / "mine-cpu.tex").read_text()
    assert "83.3 [" in latex and r"\toprule" in latex and "−" not in latex
    with (tmp_path / "mine-cpu-runs.csv").open() as file:
        evaluations = list(csv.DictReader(file))
    assert len(evaluations) == 6 * 3
    assert {r["commit"] for r in evaluations} == {"abc123"}
    (peak,) = [r for r in evaluations if (r["weighting"], r["seed"], r["step"]) == ("uniform", "1", "2")]
    assert float(peak["rate"]) == 0.75


def test_the_command_under_the_table_names_what_was_asked_for(make_request: MakeRequest, tmp_path: Path) -> None:
    write_table(make_request(only=("sokoban",), extra=("trainer.test_freq=2",)), {}, tmp_path)
    command = "actfocus reproduce mine --scale cpu --seeds 2 --only sokoban -- trainer.test_freq=2"
    text = (tmp_path / "mine-cpu.md").read_text()
    # The same runs make the same page wherever they are: where is not in the command, but said.
    said = "This command trains what is blank and writes the table again, with the `--out` or `--archive` of its runs"
    assert said in text and f":\n\n```sh\n{command}\n```" in text


def test_the_command_under_a_table_of_ones_own_names_its_file(make_request: MakeRequest, tmp_path: Path) -> None:
    write_table(make_request(asked_for="my tables/mine.yaml"), {}, tmp_path)
    command = "actfocus reproduce 'my tables/mine.yaml' --scale cpu --seeds 2\n"
    assert command in (tmp_path / "mine-cpu.md").read_text()


def test_no_file_of_an_earlier_table_stays_beside_one_that_has_no_run(
    make_request: MakeRequest, finish: Finish, tmp_path: Path
) -> None:
    request = make_request(seeds=1)
    for run in distinct_runs(cells(request)):
        finish(run, {0: outcomes(1), 4: outcomes(2)})
    folder = tmp_path / "written"
    before = {path.name for path in write_table(request, finished(request), folder)}
    other = {folder / "mine-cpu-robustness.csv", folder / "another-cpu.png"}
    for path in other:
        path.touch()
    after = {path.name for path in write_table(request, {}, folder)}
    assert "mine-cpu.png" in before - after
    assert {path.name for path in folder.iterdir()} == after | {"another-cpu.png"}


def test_a_rate_that_a_row_gives_stands_under_the_table(make_request: MakeRequest, tmp_path: Path) -> None:
    given = TABLE.replace("  - env: sokoban\n", "  - env: sokoban\n    learning_rates: {uniform: 1e-5}\n")
    for text, words in ((given, "Learning rates that rows give: Sokoban, GRPO, tiny: uniform 1e-05."), (TABLE, "")):
        (written,) = (path for path in write_table(make_request(text), {}, tmp_path) if path.suffix == ".md")
        assert ("Learning rates" in written.read_text()) == bool(words) and words in written.read_text()


def test_the_command_under_a_complete_table_trains_nothing(
    make_request: MakeRequest, finish: Finish, tmp_path: Path
) -> None:
    request = make_request(seeds=1, only=("frozenlake", "uniform"))
    for run in cells(request)[0].runs:
        finish(run, {0: outcomes(1), 4: outcomes(2)})
    write_table(request, finished(request), tmp_path)
    text = (tmp_path / "mine-cpu.md").read_text()
    assert "writes the table again" in text and "trains what is blank" not in text


def test_a_difference_without_an_interval_is_not_called_undecided() -> None:
    """Inconclusive is what an interval that includes zero says."""
    assert verdict(Estimate(0.1, None, "no interval: all 2 seeds gave the same value")) == "no interval"
    assert verdict(Estimate(0.1, (-0.1, 0.3), "")) == "inconclusive"
    assert verdict(Estimate(0.1, (0.05, 0.3), "")) == "higher"
    assert verdict(Estimate(-0.1, (-0.3, -0.05), "")) == "lower"


def test_the_intervals_of_all_numbers_are_named(make_request: MakeRequest, finish: Finish, tmp_path: Path) -> None:
    request = make_request(seeds=1, only=("frozenlake",))
    for cell in cells(request):
        (run,) = cell.runs
        finish(run, {0: outcomes(1), 2: outcomes(4), 4: outcomes(2 if run.weighting.name == "uniform" else 3)})
    write_table(request, finished(request), tmp_path)
    text = (tmp_path / "mine-cpu.md").read_text()
    assert "(beta-binomial interval over the 4 tasks; interval over the 4 tasks, paired)" in text


def test_tokens_and_their_action_share_are_those_of_the_first_step(make_request: MakeRequest, finish: Finish) -> None:
    table = TABLE.replace("algorithm: grpo", "algorithm: grpo\nquantity: action_tokens\nsteps: 1")
    request = make_request(table, only=("frozenlake", "uniform"))
    for run in cells(request)[0].runs:
        finish(run, {0: outcomes(1), 1: outcomes(2)})
    line = by_place(request)["frozenlake", "uniform"]
    # What the stand-in runs write at step 1: 90 − 1 tokens, a share of 0.08.
    assert line.first is not None and line.first.value == 89.0
    assert line.second is not None and line.second.value == pytest.approx(0.08)
    write_table(request, finished(request), request.out)
    assert "success" not in (request.out / "mine-cpu.tex").read_text()
    # Killed in its last evaluation and resumed behind the step, whose metrics veRL had not written yet.
    path = cells(request)[0].runs[0].folder / "metrics-1.jsonl"
    records = [json.loads(text) for text in path.read_text().splitlines()]
    del records[1]["data"]["rollout/response_length"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(
        ExperimentError, match=r"uniform-seed1 .*no rollout/response_length of step 1.*delete the folder"
    ):
        by_place(request)
