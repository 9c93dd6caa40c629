"""The command line finds its subcommands, answers fast, and tells users what they can correct."""

from __future__ import annotations

import subprocess
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from verl_actfocus.cli import main as module
from verl_actfocus.cli.main import COMMANDS, main

RecordRun = Callable[..., Path]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_arguments_and_a_run_function(name: str) -> None:
    command = import_module(f"verl_actfocus.cli.{COMMANDS[name][0]}")
    command.add_arguments(ArgumentParser())
    assert callable(command.run)


def test_help_lists_every_subcommand_without_importing_any(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_help_imports_no_subcommand_no_verl_and_no_matplotlib() -> None:
    code = (
        "import sys\n"
        "from verl_actfocus.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'verl', 'ray', 'matplotlib', 'scipy', 'verl_actfocus.cli.compare', 'verl_actfocus.cli.play'}\n"
        "print('imported', sorted(heavy & sys.modules.keys()))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "imported []"


def test_without_a_subcommand_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "compare" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--env", "chess"], "no profile for 'chess': choose one of frozenlake"),
        (["compare", "--algorithm", "dpo"], "unknown algorithm 'dpo'"),
        (["compare", "--weightings", "uniform", "magic"], "'magic' is not a weighting; choose one of ['actfocus'"),
        (["compare", "--profile", "cpu_chess"], "unknown profile 'cpu_chess': choose one of cpu_frozenlake"),
        (["train", "sokobann_ppo"], "unknown profile 'sokobann_ppo': choose one of cpu_frozenlake"),
        (["train", "cpu_sokoban", "--weighting", "actfocus alpha=3"], "alpha=3 must lie in [0, 1]"),
        (["train", "cpu_sokoban", "--trial"], "a trial is made of a recipe"),
        (["compare", "--steps", "2", "--", "trainer.total_training_steps=3"], "cannot be overridden"),
        (["compare", "--", "data.trian_batch_size=3"], "data.trian_batch_size"),
        (["report", "no-such-folder"], "no-such-folder holds no runs"),
        (["play", "chess"], "unknown environment 'chess'"),
    ],
)
def test_what_a_user_can_correct_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert error.startswith(f"actfocus {arguments[0]}: ")
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["compare", "--steps", "0"], ["compare", "--seeds", "x"], ["dance"]])
def test_bad_arguments_end_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_traceback_can_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="holds no runs"):
        main(["--traceback", "report", str(tmp_path)])


def test_a_programming_error_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(arguments: object) -> int:
        raise TypeError("a bug")

    monkeypatch.setattr("verl_actfocus.cli.report.run", broken)
    with pytest.raises(TypeError, match="a bug"):
        main(["report", str(tmp_path)])


def test_ctrl_c_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("verl_actfocus.cli.report.run", interrupted)
    assert main(["report", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_report_prints_the_sentences_and_the_files(
    tmp_path: Path, record_run: RecordRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for weighting, solved in {"uniform": 6, "actfocus": 16}.items():
        start = {task: [int(task < 5)] for task in range(20)}
        final = {task: [int(task < solved)] for task in range(20)}
        record_run(tmp_path, weighting, 0, {0: start, 1: final})
    assert main(["report", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "ActFocus: training worked: success went from 25.0 % to 80.0 %" in printed
    assert "+50.0 points" in printed and "One training seed" in printed
    for name in ("report.md", "report.html", "learning_curves.png"):
        assert str(tmp_path / name) in printed and (tmp_path / name).exists()


def test_the_module_runs_as_a_script() -> None:
    result = subprocess.run(
        [sys.executable, "-m", module.__name__, "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: actfocus" in result.stdout


def test_engines_of_verl_that_are_not_installed_are_no_news():
    """Its text: `tests/contract/test_verl_names.py`."""
    with warnings.catch_warnings(record=True) as heard:
        main([])
        warnings.warn("megatron engine is not available: ModuleNotFoundError", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(one.message) for one in heard] == ["something else"]
