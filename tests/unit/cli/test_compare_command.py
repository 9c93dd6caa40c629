"""``actfocus compare`` turns its arguments into a comparison, and ends as shells expect."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from verl_actfocus.experiments.comparison import Comparison

from verl_actfocus.cli import _training, compare
from verl_actfocus.cli.main import main
from verl_actfocus.experiments import requirements
from verl_actfocus.experiments.errors import RunFailedError

RecordRun = Callable[..., Path]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, record_run: RecordRun) -> list[Comparison]:
    """Records what would be trained and leaves its results."""
    seen: list[Comparison] = []

    def record(comparison: Comparison) -> None:
        seen.append(comparison)
        for run in comparison.runs():
            outcomes = {0: {0: [0], 1: [1]}, comparison.steps: {0: [1], 1: [run.seed % 2]}}
            record_run(comparison.out, run.method, run.seed, outcomes)

    monkeypatch.setattr(compare, "run_comparison", record)
    return seen


def test_the_arguments_become_the_comparison(tmp_path: Path, asked: list[Comparison]) -> None:
    words = "--algorithm ppo --env sokoban --steps 5 --seeds 2 --methods uniform actfocus --out"
    extra = ["data.train_batch_size=8", "+trainer.note=[a, b]"]
    assert main(["compare", *words.split(), str(tmp_path / "o"), "--", *extra]) == 0
    (comparison,) = asked
    assert comparison == Comparison(
        algorithm="ppo",
        env="sokoban",
        steps=5,
        seeds=2,
        methods=("uniform", "actfocus"),
        out=tmp_path / "o",
        extra=tuple(extra),
    )
    assert (tmp_path / "o/report.html").exists()


def test_without_arguments_both_methods_are_compared_on_frozenlake(
    tmp_path: Path, asked: list[Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare"]) == 0
    (comparison,) = asked
    assert (comparison.env, comparison.algorithm, comparison.seeds) == ("frozenlake", "grpo", 1)
    assert comparison.methods == ("uniform", "actfocus")
    assert (tmp_path / "outputs/grpo-frozenlake/report.md").exists()


@pytest.mark.parametrize(
    ("words", "env", "algorithm"),
    [
        ("--profile cpu_sokoban", "sokoban", "grpo"),
        ("--profile cpu_sokoban --algorithm ppo", "sokoban", "ppo"),
        ("--profile sudoku_ppo", "sudoku", "ppo"),
    ],
)
def test_a_profile_says_what_is_trained(
    tmp_path: Path, asked: list[Comparison], monkeypatch: pytest.MonkeyPatch, words: str, env: str, algorithm: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert main(["compare", *words.split(), "--out", str(tmp_path / "o")]) == 0
    (comparison,) = asked
    assert (comparison.env, comparison.algorithm) == (env, algorithm)


def test_a_profile_of_another_environment_or_algorithm_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("verl_actfocus.experiments.comparison.execute", lambda *_, **__: pytest.fail("it was trained"))
    out = ["--out", str(tmp_path / "o")]
    assert main(["compare", "--profile", "cpu_sokoban", "--env", "frozenlake", *out]) == 2
    assert "the run profile cpu_sokoban trains sokoban, not frozenlake" in capsys.readouterr().err
    assert main(["compare", "--profile", "sokoban_ppo", "--algorithm", "grpo", *out]) == 2
    assert "the run profile sokoban_ppo is for ppo, not for grpo" in capsys.readouterr().err
    assert main(["compare", "--profile", "sokobann", *out]) == 2
    assert "unknown run profile 'sokobann': choose one of cpu_frozenlake" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_recipe_is_refused_where_there_is_no_gpu(
    tmp_path: Path, asked: list[Comparison], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["compare", "--profile", "sokoban_ppo", "--out", str(tmp_path / "o")]) == 2
    assert "torch finds no GPU here" in capsys.readouterr().err and asked == []


def test_a_failed_run_is_explained_and_ends_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(comparison: Comparison) -> None:
        raise RunFailedError("grpo uniform seed 0 failed", ["ValueError: no"], tmp_path / "log.txt")

    monkeypatch.setattr(compare, "run_comparison", fail)
    assert main(["compare", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "ValueError: no" in error and str(tmp_path / "log.txt") in error and "continues" in error


def test_ctrl_c_says_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(comparison: Comparison) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "run_comparison", interrupt)
    assert main(["compare", "--out", str(tmp_path)]) == 130
    assert "the same command continues" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_comparison_cleans_up_like_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    cleaned = []

    def terminated(comparison: Comparison) -> None:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)

    monkeypatch.setattr(compare, "run_comparison", terminated)
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--out", str(tmp_path)])
    assert ended.value.code == 128 + number and cleaned == [True]


def test_little_memory_is_warned_about(
    tmp_path: Path, asked: list[Comparison], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_training, "free_memory", lambda: 2_000_000_000)
    main(["compare", "--out", str(tmp_path / "o")])
    assert "2.0 GB of memory are free" in capsys.readouterr().err


def test_a_missing_verl_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(requirements, "installed_version", lambda requirement: None)
    assert main(["compare", "--out", str(tmp_path)]) == 2
    assert "training needs verl==0.9.1, found none; pip install 'verl==0.9.1'" in capsys.readouterr().err


def test_the_commands_process_does_not_import_verl() -> None:
    code = "import sys; from verl_actfocus.cli import compare; print(sorted({'verl', 'ray'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
