"""The report of any veRL runs says what they recorded, and "not recorded" of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy import stats

from tests.documented_metrics import documented
from verl_actfocus.cli.main import main
from verl_actfocus.experiments.report.logged_runs import grouped, read_logged
from verl_actfocus.experiments.report.metrics_report import grids, notes, write_metrics_report
from verl_actfocus.experiments.report.quantities import OUTCOMES
from verl_actfocus.storage.errors import ExperimentError

from .pages import RecordRun, outcomes, parse
from .recorded import ACCURACY, cells, logged, note, stock, table


def test_a_stock_runs_file_shows_its_score_with_peak_and_fall(tmp_path: Path) -> None:
    file = stock(tmp_path / "grpo.jsonl", {0: 0.1, 10: 0.4, 20: 0.3})
    (row,) = table([str(file)], "Evaluation")
    assert row == [ACCURACY, "grpo", "1", "10.0 %", "30.0 %", "40.0 % (10)", "10.0 %"]
    # The first and the last two of twenty steps: 1 and 1/2, 1/19 and 1/20.
    assert cells([str(file)], "Signs of collapse", "entropy of the policy (nats a token)") == ["0.75 → 0.0513"]


def test_what_no_run_recorded_is_said_and_never_a_number(tmp_path: Path) -> None:
    file = stock(tmp_path / "grpo.jsonl", {}, **{"actor/grad_norm": None})
    found = {grid.title: grid for grid in grids(grouped(read_logged([str(file)])[0]))}
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
    groups = grouped(read_logged([str(tmp_path)])[0])
    assert [(group.label, len(group.runs)) for group in groups] == [("Uniform", 2), ("ActFocus", 2)]
    names = [row[0] for row in table([str(tmp_path)], "Settings that differ")]
    assert "algorithm.actfocus.weighting.alpha" in names and "data.seed" not in names
    assert table([str(tmp_path)], "Evaluation")[0][:3] == ["val/success", "Uniform", "2"]


def test_one_training_seed_is_not_counted_as_two(tmp_path: Path, record_run: RecordRun) -> None:
    for folder in ("a", "b"):
        record_run(tmp_path / folder, "uniform", 3, {0: outcomes(8), 2: outcomes(9)}, settings={"data.seed": 3})
    paths = [str(tmp_path / folder / "uniform-seed3") for folder in ("a", "b")]
    for words in (paths, [f"mine={path}" for path in paths]):
        with pytest.raises(
            ExperimentError, match="uniform-seed3 have the same training seed, 3, and would count as two"
        ):
            grouped(read_logged(words)[0])
    assert len(grouped(read_logged([f"one={paths[0]}", f"other={paths[1]}"])[0])) == 2


def test_a_setting_is_shown_beside_a_file_that_records_none(tmp_path: Path, record_run: RecordRun) -> None:
    for rate in (1e-4, 3e-5):
        record_run(
            tmp_path / str(rate), "uniform", 0, {0: outcomes(8), 2: outcomes(9)}, settings={"learning.rate": rate}
        )
    words = [str(tmp_path / "0.0001"), str(tmp_path / "3e-05"), f"stock={stock(tmp_path / 'x.jsonl', {})}"]
    assert cells(words, "Settings that differ", "learning.rate") == ["0.0001", "3e-05", "not recorded"]
    # Both are Uniform: the folder tells them apart.
    labels = [group.label for group in grouped(read_logged(words)[0])]
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
    assert len(write_metrics_report(grouped(read_logged([str(file)])[0]), tmp_path / "out", [str(file)])) == 3


def test_seeds_of_unequal_length_are_compared_at_the_steps_that_all_have(tmp_path: Path) -> None:
    done = stock(tmp_path / "0.jsonl", {0: 0.1, 10: 0.6, 20: 0.3})
    begun = stock(tmp_path / "1.jsonl", {0: 0.3, 10: 0.4}, steps=12)
    words = [f"mine={done}", f"mine={begun}"]
    (row,) = table(words, "Evaluation")
    # At steps 0 and 10, the interval of ±12.7 standard errors cut at 0 and 1.
    low, high = stats.t.interval(0.95, 1, loc=0.5, scale=stats.sem([0.6, 0.4]))
    assert low < 0 and high > 1
    assert row[2:] == ["2", "20.0 [0.0, 100.0] %", "50.0 [0.0, 100.0] %", "50.0 [0.0, 100.0] % (10, 10)", "0.0 %"]
    # The first and the last of twelve steps, 1/step in both.
    assert cells(words, "Signs of collapse", "entropy of the policy (nats a token)") == ["1 → 0.0833"]
    (sentence,) = notes(grouped(read_logged(words)[0]))
    assert sentence.startswith("mine: its seeds end at the steps 20, 12. ") and "up to 12;" in sentence
    assert notes(grouped(read_logged([f"a={done}", f"b={begun}"])[0])) == []


def test_seeds_without_a_step_in_common_are_not_averaged(tmp_path: Path) -> None:
    words = [f"mine={stock(tmp_path / f'{step}.jsonl', {step: 0.5})}" for step in (5, 10)]
    (row,) = table(words, "Evaluation")
    assert row[2:] == ["2", *["no step in common"] * 4]


def test_the_log_files_of_a_resumed_run_are_one_seed_once_they_are_one_file(tmp_path: Path) -> None:
    attempts = [
        [{"step": step, "data": {"actor/entropy": value}} for step in steps]
        for steps, value in (((1, 2, 3), 1.0), ((3, 4), 0.5))
    ]
    file = tmp_path / "whole.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for records in attempts for record in records))
    (run,) = read_logged([str(file)])[0]
    assert run.series("actor/entropy") == {1: 1.0, 2: 1.0, 3: 0.5, 4: 0.5}


def test_intervals_of_shares_end_at_0_and_1_and_others_do_not(tmp_path: Path) -> None:
    words = []
    for seed, rate in enumerate((0.8, 0.9)):
        metrics = {ACCURACY: rate, "rollout/success": rate, "actor/entropy": rate, "actfocus/gradient_cosine": rate}
        words.append(f"mine={logged(tmp_path / f'{seed}.jsonl', metrics)}")
    low, high = (f"{end:.3g}" for end in stats.t.interval(0.95, 1, loc=0.85, scale=stats.sem([0.8, 0.9])))
    assert (low, high) == ("0.215", "1.49")
    assert table(words, "Evaluation")[0][4] == "85.0 [21.5, 100.0] %"
    assert cells(words, "Training", "success in training (%)") == ["85 → 85 [21.5, 100]"]
    name = "cosine of reasoning's and action's gradient"
    assert cells(words, "The exact gradient", name) == ["0.85 → 0.85 [0.215, 1]"]
    name = "entropy of the policy (nats a token)"
    assert cells(words, "Signs of collapse", name) == ["0.85 → 0.85 [0.215, 1.49]"]


def test_every_data_source_and_outcome_is_shown_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    shown = {
        "val-core/openai/gsm8k/acc/mean@8": 0.25,
        "val-core/code/reward/mean@8": -2.0,
        "val-aux/only/here/score/mean@8": 3.0,
        "val-core/mine": 7.0,
        "val/success": 0.5,
        "val/purchase": 0.75,
    }
    hidden = {
        "val-core/openai/gsm8k/acc/best@8/mean": 0.9,
        "val-aux/openai/gsm8k/reward/mean@8": 0.1,
        "val-aux/openai/gsm8k/reward/std@8": 0.1,
        "val-aux/num_turns/mean": 3.0,
        "val/reward": 0.1,
        "val/success_peak_step": 1.0,
        "val/stop/success": 0.5,
    }
    words = [str(logged(tmp_path / "run.jsonl", {**shown, **hidden}))]
    found = {row[0]: row[4] for row in table(words, "Evaluation")}
    assert found == {
        "val-core/openai/gsm8k/acc/mean@8": "25.0 %",
        "val-core/code/reward/mean@8": "-2",
        "val-aux/only/here/score/mean@8": "3",
        "val-core/mine": "7",
        "val/success": "50.0 %",
        "val/purchase": "75.0 %",
    }
    assert note(words, "Evaluation").endswith(
        " Recorded and not shown: val-aux/num_turns/* (1), val-aux/openai/gsm8k/reward/* (2), "
        "val-core/openai/gsm8k/acc/* (1), val/reward, val/stop/* (1), val/success_peak_step."
    )


def test_an_accuracy_beyond_1_is_no_share(tmp_path: Path) -> None:
    words = [str(logged(tmp_path / "run.jsonl", {ACCURACY: 0.5}, {ACCURACY: 62.0}))]
    assert table(words, "Evaluation")[0][4] == "62"


def test_outcomes_are_what_an_environment_declares_and_no_documented_metric_of_another_kind(tmp_path: Path) -> None:
    others = {name: 0.5 for name in documented() if name.startswith(("rollout/", "val/")) and "<" not in name}
    assert len(others) > 15
    file = logged(tmp_path / "run.jsonl", {**others, "rollout/purchase": 0.25, "val/purchase": 0.5})
    groups = grouped(read_logged([str(file)])[0])
    assert OUTCOMES.recorded(groups) == ["rollout/purchase"]
    assert cells([str(file)], "Training", "outcome in training: purchase (%)") == ["25 → 25"]
    assert [row[0] for row in table([str(file)], "Evaluation")] == ["val/purchase", "val/success"]
    # An environment without outcomes lacks nothing.
    assert not [row for row in table([str(logged(file, others))], "Training") if row[0].startswith("outcome")]


def test_runs_without_a_first_step_are_left_out_of_a_comparison_and_named(
    tmp_path: Path, record_run: RecordRun
) -> None:
    record_run(tmp_path, "uniform", 0, {0: outcomes(8), 2: outcomes(14)})
    begun = record_run(tmp_path, "actfocus", 0, {0: outcomes(8), 2: outcomes(14)}, done=False)
    (begun / "metrics-1.jsonl").write_text("")
    runs, left_out = read_logged([str(tmp_path)])
    assert ([run.label for run in runs], left_out) == (["Uniform"], [begun])
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    for name in ("metrics.md", "metrics.html"):
        assert f"they have not finished their first step: {begun}." in (tmp_path / "out" / name).read_text()
    with pytest.raises(ExperimentError, match="the run has not finished its first step"):
        read_logged([str(begun)])
    (tmp_path / "uniform-seed0/metrics-1.jsonl").write_text("")
    with pytest.raises(ExperimentError, match="none of its runs has finished its first step"):
        read_logged([str(tmp_path)])


def test_what_is_said_of_settings_is_what_was_recorded(tmp_path: Path, record_run: RecordRun) -> None:
    file = str(stock(tmp_path / "x.jsonl", {}))
    folders = [str(record_run(tmp_path, "uniform", seed, {0: outcomes(8), 2: outcomes(9)})) for seed in (0, 1)]
    title = "Settings that differ"
    without = "A metrics file holds no settings: not recorded for 1 of"
    assert note([file], title) == f"Not recorded. {without} 1 runs."
    assert note([file, folders[0]], title) == (
        f"One run alone has recorded its settings: there is nothing to compare them with. {without} 2 runs."
    )
    assert note(folders, title) == "The settings that 2 runs have recorded do not differ, but for seeds."


def test_the_command_in_markdown_stays_in_its_block_whatever_it_holds(tmp_path: Path) -> None:
    file = stock(tmp_path / "a.jsonl", {})
    word = f"a```\n# b={file}"
    assert main(["report", word, "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/metrics.md").read_text()
    command = f"actfocus report 'a```\n# b={file}' --out {tmp_path / 'out'}"
    assert text.endswith(f"\n````sh\n{command}\n````\n") or text.endswith(f"\n````sh\n{command}\n````")
    assert text.count("````") == 2
    headings = [line for line in text.replace(command, "").splitlines() if line.startswith("#")]
    assert headings[0].startswith("# Metrics of a") and all(line.startswith("## ") for line in headings[1:])
    assert len(headings) == 1 + len(grids(grouped(read_logged([word])[0])))


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
