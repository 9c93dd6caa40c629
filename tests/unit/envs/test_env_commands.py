"""`actfocus experts` and `actfocus bench environments`: what they measure, and the speeds that are promised."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from verl_actfocus import envs
from verl_actfocus.benchmarks import environments
from verl_actfocus.cli import experts as experts_command
from verl_actfocus.cli._environment_arguments import parse_option
from verl_actfocus.cli.main import main

FAST = environments.Timing(environments=1, resets_seconds=0.0, step_microseconds=1.0)


def run(command: ModuleType, *words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return int(command.run(parser.parse_args(words)))


def test_the_expert_command_counts_wins_actions_and_rewards() -> None:
    answers = iter(["Right", "Right", "Up", "Right"])

    class Corridor(envs.TextEnv):
        """Solved by walking right; an episode is over after one more step."""

        rules = "Walk right."

        def legal_actions(self) -> list[str]:
            return ["Right", "Up"]

        def render(self) -> str:
            return ""

        def reset(self, *, seed=None, options=None):
            return "", {}

        def step(self, action: str):
            won = action == "Right"
            return "", 2.0 * won, True, False, {"valid": True, "effective": True, "success": won}

    record = experts_command.measure("sokoban", Corridor(), lambda env: next(answers), 4)
    assert (record.episodes, record.successes, record.actions, record.reward) == (4, 3, 1.0, 1.5)
    assert record.success_rate == 0.75
    assert record.standard_error == pytest.approx((0.75 * 0.25 / 4) ** 0.5)


def test_the_expert_command_prints_a_line_for_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--env", "frozenlake", "--episodes", "20", "--option", "success_rate=1.0")
    assert run(experts_command, *words) == 0
    assert "100.0% +- 0.0" in capsys.readouterr().out.split("\n")[1]


def test_the_environments_of_the_paper_are_the_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "textworld", None)  # as if the extra were not installed
    paper = ["sokoban", "frozenlake", "sudoku", "webshop"]
    assert run(experts_command, "--episodes", "1") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == paper
    assert main(["bench", "environments", "--environments", "2", "--steps", "2", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "environments.json").read_text())["rows"]
    names = dict.fromkeys(row["environment"] for row in rows)
    assert list(names) == ["gymnasium FrozenLake-v1", *paper]


@pytest.mark.parametrize("command", ["play", "experts", "bench"])
def test_the_help_of_a_command_imports_neither_torch_nor_verl_and_says_nothing_else(command: str) -> None:
    code = (
        "import sys, verl_actfocus.cli.main as cli\n"
        f"try: cli.main([{command!r}, '--help'])\n"
        "except SystemExit: print([name for name in ('torch', 'transformers', 'verl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["play", "sokoban", "--option", "walls=3"], "--option walls=3: environment 'sokoban': got an unexpected"),
        (["play", "sokoban", "--option", "size=3"], "--option size=3: "),
        (["experts", "--env", "sokoban", "--option", "boxes=x"], "--option boxes='x': "),
        (["play", "textworld"], "pip install 'verl_actfocus[textworld]'"),
        (["bench", "environments", "--env", "textworld"], "pip install 'verl_actfocus[textworld]'"),
    ],
)
def test_what_can_be_corrected_is_one_sentence_and_no_traceback(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "textworld", None)  # as if the extra were not installed
    assert main(words) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1


def test_options_for_all_environments_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="--option belongs to one environment"):
        run(experts_command, "--option", "size=5")


def test_an_option_is_a_python_literal_or_a_bare_word() -> None:
    assert parse_option("size=(7,7)") == ("size", (7, 7))
    assert parse_option("success_rate=0.8") == ("success_rate", 0.8)
    assert parse_option("split=test") == ("split", "test")
    for malformed in ("size", "=5", "a b=1"):
        with pytest.raises(argparse.ArgumentTypeError, match="KEY=VALUE"):
            parse_option(malformed)


def test_the_benchmark_has_the_reference_and_one_and_many_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    half = environments.Timing(environments=8, resets_seconds=0.0, step_microseconds=0.5)
    monkeypatch.setattr(environments, "measure_plain_frozenlake", lambda count, steps: FAST if count == 1 else half)
    rows = environments.measure_all(["sokoban"], 8, 50)
    reference = "gymnasium FrozenLake-v1"
    assert [(name, timing.environments) for name, timing, _ in rows] == [
        (reference, 1),
        (reference, 8),
        ("sokoban", 1),
        ("sokoban", 8),
    ]
    assert [ratio for _, _, ratio in rows[:2]] == [1.0, 0.5]
    assert environments.markdown(rows).splitlines()[2] == f"| {reference} | 1 | 0.0 | 1000000 | 1.00 | 1.00 |"


@pytest.mark.parametrize("name", ["frozenlake", "sokoban", "sudoku"])
def test_one_environment_and_several_that_take_turns_are_measured(name: str) -> None:
    # How fast they are is what `actfocus bench environments` says: a test of times fails on a busy machine.
    for count in (1, 8):
        timing = environments.measure_text_environment(name, count, 64)
        assert timing.environments == count
        assert timing.resets_seconds > 0 and timing.step_microseconds > 0
    assert environments.measure_plain_frozenlake(2, 64).step_microseconds > 0
