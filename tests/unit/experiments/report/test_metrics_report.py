"""The report of any veRL runs says what they recorded, and "not recorded" of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from verl_actfocus.cli.main import main
from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.report.metrics_report import grids, write_metrics_report
from verl_actfocus.experiments.report.runs import grouped, read_logged

from .pages import RecordRun, outcomes, parse

ACCURACY = "val-core/gsm8k/acc/mean@4"


def stock(path: Path, accuracy: dict[int, float], steps: int = 20, **more: Any) -> Path:
    """The file of veRL's `file` logger of a run without this package."""
    with path.open("w") as file:
        for step in range(steps + 1):
            data: dict[str, Any] = (
                {} if step == 0 else {"actor/entropy": 1.0 / step, "response_length/mean": 50.0 + step}
            )
            data |= {ACCURACY: accuracy[step]} if step in accuracy else {}
            file.write(json.dumps({"step": step, "data": {**data, **(more if step else {})}}) + "\n")
    return path


def table(words: list[str], title: str) -> list[list[str]]:
    return next(grid for grid in grids(grouped(read_logged(words))) if grid.title == title).rows


def cells(words: list[str], title: str, name: str) -> list[str]:
    return next(row[1:] for row in table(words, title) if row[0] == name)


def test_a_stock_runs_file_shows_its_score_with_peak_and_fall(tmp_path: Path) -> None:
    file = stock(tmp_path / "grpo.jsonl", {0: 0.1, 10: 0.4, 20: 0.3})
    (row,) = table([str(file)], "Evaluation")
    assert row == [ACCURACY, "grpo", "1", "10.0 %", "30.0 %", "40.0 % (10)", "10.0 %"]
    # The first and the last two of twenty steps: 1 and 1/2, 1/19 and 1/20.
    assert cells([str(file)], "Signs of collapse", "entropy of the policy (nats a token)") == ["0.75 → 0.0513"]


def test_what_no_run_recorded_is_said_and_never_a_number(tmp_path: Path) -> None:
    file = stock(tmp_path / "grpo.jsonl", {}, **{"actor/grad_norm": None})
    found = {grid.title: grid for grid in grids(grouped(read_logged([str(file)])))}
    for title in ("Evaluation", "Training", "The exact gradient", "How episodes end"):
        assert (found[title].rows, found[title].note) == ([], "Not recorded.")
    assert cells([str(file)], "Signs of collapse", "responses identical to a sibling's (%)") == ["not recorded"]


def test_a_step_that_is_not_a_number_is_left_out_of_the_mean(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    values = [0.5, None, 0.25]  # veRL writes NaN as null
    file.write_text("".join(json.dumps({"step": n, "data": {"actor/entropy": v}}) + "\n" for n, v in enumerate(values)))
    assert cells([str(file)], "Signs of collapse", "entropy of the policy (nats a token)") == ["0.5 → 0.25"]


def test_runs_of_one_name_are_seeds_with_a_t_interval_and_the_mean_fall(tmp_path: Path) -> None:
    finals = (0.3, 0.5, 0.55)
    words = [f"mine={stock(tmp_path / f'{n}.jsonl', {0: 0.1, 10: 0.6, 20: end})}" for n, end in enumerate(finals)]
    (row,) = table(words, "Evaluation")
    low, high = stats.t.interval(0.95, 2, loc=sum(finals) / 3, scale=stats.sem(finals))
    assert row[1:3] == ["mine", "3"]
    assert row[4] == f"45.0 [{100 * low:.1f}, {100 * high:.1f}] %"
    assert row[5].endswith("(10, 10, 10)")
    assert row[6].startswith("15.0 [")


def test_run_folders_that_differ_in_their_seed_alone_are_one_group(tmp_path: Path, record_run: RecordRun) -> None:
    for seed in (0, 1):
        for weighting in ("actfocus", "uniform"):
            record_run(
                tmp_path, weighting, seed, {0: outcomes(8), 2: outcomes(14 + seed)}, settings={"data.seed": seed}
            )
    groups = grouped(read_logged([str(tmp_path)]))
    assert [(group.label, len(group.runs)) for group in groups] == [("Uniform", 2), ("ActFocus", 2)]
    names = [row[0] for row in table([str(tmp_path)], "Settings that differ")]
    assert "algorithm.actfocus.weighting.alpha" in names and "data.seed" not in names
    assert table([str(tmp_path)], "Evaluation")[0][:3] == ["val/success", "Uniform", "2"]


def test_a_setting_is_shown_beside_a_file_that_records_none(tmp_path: Path, record_run: RecordRun) -> None:
    for rate in (1e-4, 3e-5):
        record_run(
            tmp_path / str(rate), "uniform", 0, {0: outcomes(8), 2: outcomes(9)}, settings={"learning.rate": rate}
        )
    words = [str(tmp_path / "0.0001"), str(tmp_path / "3e-05"), f"stock={stock(tmp_path / 'x.jsonl', {})}"]
    assert cells(words, "Settings that differ", "learning.rate") == ["0.0001", "3e-05", "not recorded"]
    # Both are Uniform: the folder tells them apart.
    labels = [group.label for group in grouped(read_logged(words))]
    assert len(set(labels)) == 3 and labels[0] == f"Uniform ({tmp_path}/0.0001/uniform-seed0)"


def test_the_exact_gradient_is_shown_where_it_was_recorded(tmp_path: Path) -> None:
    recorded = {"actfocus/gradient_norm/action": 0.25, "actfocus/gradient_cosine": -0.5}
    words = [f"with={stock(tmp_path / 'a.jsonl', {}, **recorded)}", f"without={stock(tmp_path / 'b.jsonl', {})}"]
    assert cells(words, "The exact gradient", "gradient norm: action") == ["0.25 → 0.25", "not recorded"]
    name = "cosine of reasoning's and action's gradient"
    assert cells(words, "The exact gradient", name) == ["-0.5 → -0.5", "not recorded"]


def test_the_report_is_markdown_a_picture_and_a_page_that_loads_nothing(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    words = [f"{name}={stock(tmp_path / 'a.jsonl', {0: 0.1, 20: 0.5})}"]
    assert main(["report", *words, "--out", str(tmp_path / "out")]) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"metrics.md", "metrics.html", "metrics.png"}
    assert (tmp_path / "out/metrics.png").read_bytes().startswith(b"\x89PNG")
    page = parse(tmp_path / "out/metrics.html")
    assert not [tag for tag, _ in page.found if tag == "script"]
    sources = [attributes["src"] for tag, attributes in page.found if tag == "img"]
    assert len(sources) == 1 and str(sources[0]).startswith("data:image/png;base64,")
    assert name in page.text and "<script>" not in (tmp_path / "out/metrics.md").read_text().split("```")[0]


def test_runs_that_record_nothing_of_interest_make_a_report_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text('{"step": 1, "data": {"train/loss": 2.0}}\n')
    assert len(write_metrics_report(grouped(read_logged([str(file)])), tmp_path / "out", [str(file)])) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: ["nowhere.jsonl"], "nowhere.jsonl does not exist; name run folders or metrics files"),
        (lambda folder: [str(folder)], r"holds no run: there is no run\.json"),
        (lambda folder: [str(folder / "empty.jsonl")], r"empty\.jsonl holds no metrics\. veRL writes them"),
        (lambda folder: [str(folder / "text.jsonl")], "line 1: not a metrics record"),
        (lambda folder: [f"a={folder / 'run.jsonl'}", f"b={folder / 'run.jsonl'}"], "is named twice"),
    ],
)
def test_what_is_no_run_is_refused_by_name(tmp_path: Path, make, message: str) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "text.jsonl").write_text("hello\n")
    stock(tmp_path / "run.jsonl", {})
    with pytest.raises(ExperimentError, match=message):
        read_logged(make(tmp_path))


def test_without_a_folder_for_the_report_only_a_comparison_is_reported_on(tmp_path: Path, capsys) -> None:
    file = stock(tmp_path / "run.jsonl", {})
    assert main(["report", str(file)]) == 2
    assert "needs --out DIR" in capsys.readouterr().err
