"""`actfocus bench`: what is refused before anything starts, what is resumed, what is written."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from verl_actfocus.benchmarks import step
from verl_actfocus.benchmarks.runs import BenchmarkRun
from verl_actfocus.cli.main import main

CONDITIONS = {
    "date": "2026-01-02T03:04:05+00:00",
    "hardware": {"cpu": "A CPU", "cores": 2, "memory_gb": 8.0},
    "load": 0.25,
    "free_memory_gb": 4.0,
    "versions": dict.fromkeys(("verl", "torch", "transformers", "ray", "python"), "1.0"),
    "commit": "0123456789abcdef+changes",
}
TITLES = {"stock-kl": 10.0, "actfocus-kl": 11.0}


@pytest.fixture
def plan(tmp_path):
    return step.Plan(
        folder=tmp_path,
        variants=("stock-kl", "actfocus-kl"),
        algorithms=("grpo",),
        sizes=("tiny",),
        rounds=2,
        steps=3,
        drop=1,
    )


@pytest.fixture
def trained(monkeypatch):
    """Runs that cost nothing: steps of 10 s in stock veRL, of 11 s here, 1 s more in round 2; the first takes 99 s."""
    executed = []

    def execute(run, display):
        executed.append(run.folder)
        seconds = TITLES[run.folder.name] + (run.folder.parent.name == "round-2")
        run.folder.mkdir(parents=True)
        lines = [
            {"step": number, "data": {"timing_s/step": taken, "timing_s/ref": 2.0, step.TOKENS: 500}}
            for number, taken in ((1, 99.0), (2, seconds), (3, seconds))
        ]
        (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        peak = {"all_processes": 4000.0, "training_worker": 100 * TITLES[run.folder.name]}
        done = {"overrides": run.overrides, "conditions": CONDITIONS, "seconds": 60.0, "peak_megabytes": peak}
        (run.folder / "done.json").write_text(json.dumps(done))

    monkeypatch.setattr(BenchmarkRun, "execute", execute)
    return executed


def test_rounds_alternate_and_every_other_one_runs_backwards(plan):
    assert [(number, variant.name) for _, _, number, variant, _ in plan.runs()] == [
        (1, "stock-kl"),
        (1, "actfocus-kl"),
        (2, "actfocus-kl"),
        (2, "stock-kl"),
    ]


def test_the_tables_hold_medians_ratios_and_memory_without_the_first_steps(plan, trained, tmp_path):
    step.measure(plan)
    (table,) = json.loads((tmp_path / "step.json").read_text())["tables"]
    ours = table["variants"]["actfocus-kl"]
    assert ours["rounds"]["step"] == [[11.0, 11.0], [12.0, 12.0]]
    assert (ours["spread"]["step"]["median"], ours["spread"]["step"]["least"]) == (11.5, 11.0)
    ratios = table["ratios"]["actfocus-kl"]
    assert ratios["step"]["value"] == pytest.approx(11.5 / 10.5)
    assert ratios["step"]["of_least"] == pytest.approx(11 / 10)
    assert ratios["step"]["interval"] == pytest.approx([12 / 11, 11 / 10])
    assert ratios["training_worker"]["value"] == pytest.approx(1.1)
    text = (tmp_path / "step.md").read_text()
    assert "### GRPO, tiny model" in text and "Tokens of a step, median: 500." in text
    header = "|  | reference | whole step | peak memory, all processes | peak memory, training worker |"
    assert header in text
    stock, ours, ratio = text.partition(header)[2].splitlines()[2:5]
    assert (
        stock
        == "| stock veRL, KL on | 2.00 (2.00) [2.00, 2.00] | 10.50 (10.00) [10.00, 11.00] | 4000 (4000) | 1000 (1000) |"
    )
    assert ours.startswith("| ActFocus, KL on |") and "11.50 (11.00) [11.00, 12.00]" in ours
    assert ratio.startswith(
        "| **ActFocus, KL on / stock veRL, KL on** | 1.00 (1.00) [1.00, 1.00] | 1.10 (1.10) [1.09, 1.10] |"
    )
    assert "2026-01-02, A CPU, 2 cores, 8.0 GB; load at the start 0.25; commit `0123456+changes`" in text


def test_finished_runs_are_not_repeated(plan, trained):
    step.measure(plan)
    assert len(trained) == 4
    step.measure(plan)
    assert len(trained) == 4


def test_a_folder_of_other_settings_is_refused_before_anything_starts(plan, trained, tmp_path, capsys):
    step.measure(plan)
    words = [
        "bench",
        "step",
        "--out",
        str(tmp_path),
        "--variants",
        "stock-kl",
        "--algorithms",
        "grpo",
        "--sizes",
        "tiny",
    ]
    assert main([*words, "--rounds", "2", "--steps", "4", "--drop", "1"]) == 2
    error = capsys.readouterr().err
    assert "holds a run with other settings (trainer.total_training_steps=3, trainer.total_training_steps=4)" in error
    assert len(trained) == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--variants", "actfocus"], "the variant actfocus is compared with stock, which is missing"),
        (["--steps", "3", "--drop", "3"], "--drop 3 of --steps 3 leaves no step to measure"),
        (["--profile", "cpu_chess"], "cpu_chess"),
        (["--", "data.train_batch_sise=4"], "data.train_batch_sise"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_before_anything_starts(words, sentence, tmp_path, trained, capsys):
    front, _, overrides = " ".join(words).partition("-- data")
    words = [*front.split(), *(["--", f"data{overrides}"] if overrides else [])]
    assert main(["bench", "step", "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1
    assert not trained


@pytest.mark.parametrize(
    "words",
    [
        ["bench"],
        ["bench", "steps"],
        ["bench", "step", "--rounds", "0"],
        ["bench", "step", "--variants", "mine"],
        ["bench", "tagging", "--lengths", "-4"],
    ],
)
def test_words_that_mean_nothing_are_refused(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "usage: actfocus bench" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["prefixes", "--response", "1"], "--response 1: the first token of a response is predicted by the prompt"),
        (["transport", "--tokens", "100", "--prompt", "100"], "--prompt 100 leaves nothing of --tokens 100"),
    ],
)
def test_lengths_that_leave_nothing_to_measure_are_refused(words, sentence, tmp_path, capsys):
    assert main(["bench", *words, "--out", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_dry_run_lists_every_run_and_its_overrides(tmp_path, capsys):
    words = ["--variants", "stock", "actfocus", "--algorithms", "ppo", "--sizes", "tiny", "--rounds", "2"]
    assert main(["bench", "step", "--out", str(tmp_path / "out"), *words, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == [
        "tiny ppo round 1 stock: to do",
        "tiny ppo round 1 actfocus: to do",
        "tiny ppo round 2 actfocus: to do",
        "tiny ppo round 2 stock: to do",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "works"),
    [
        (["step"], "verl_actfocus.benchmarks.step.measure"),
        (["transport"], "verl_actfocus.benchmarks.transport.count"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_of_batch_systems_end_what_the_command_has_started(arguments, works, number, tmp_path, monkeypatch):
    ended = []

    def train(*_: object) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            ended.append(True)

    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(works, train)
    signal.signal(number, signal.SIG_DFL)  # whatever the tests were started with
    try:
        with pytest.raises(SystemExit) as error:
            main(["bench", *arguments, "--out", str(tmp_path / "out")])
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert error.value.code == 128 + number and ended
