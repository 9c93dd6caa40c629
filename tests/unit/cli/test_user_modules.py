"""What is the user's own: every command knows it by its name once its module is named."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest
from hydra import compose, initialize_config_dir
from ray._private.utils import update_envs

from verl_actfocus import envs, models
from verl_actfocus.cli.main import main
from verl_actfocus.experiments.runs.hydra_words import MODULES_VARIABLE, modules_overrides
from verl_actfocus.experiments.tables.files import find_table, tables_folder
from verl_actfocus.weighting import WEIGHTINGS

ROOT = Path(__file__).parents[3]
MODULE = ("--module", "new_environment")


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work beside `examples/new_environment.py` and the other examples; forget them afterwards."""
    monkeypatch.chdir(ROOT / "examples")
    monkeypatch.delenv(MODULES_VARIABLE, raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), "relative"]))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    envs.ENVIRONMENTS.pop("jugs", None)
    gymnasium.registry.pop("Tutorial/Jugs-v0", None)
    WEIGHTINGS.pop("penalised_turns", None)
    for name in ("new_environment", "new_weighting"):
        sys.modules.pop(name, None)
    os.environ.pop(MODULES_VARIABLE, None)  # which a command has set


@pytest.mark.parametrize("words", [[*MODULE, "play", "jugs"], ["play", *MODULE, "jugs"], ["play", "jugs", *MODULE]])
def test_it_is_played_by_its_expert_wherever_the_option_stands(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--policy", "expert", "--seed", "1"]) == 0
    assert capsys.readouterr().out.endswith("success yes ==\n")


def test_it_is_found_through_the_variable_that_verl_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MODULES_VARIABLE, "json, new_environment")
    assert main(["experts", "--env", "jugs", "--episodes", "5"]) == 0
    assert "100.0%" in capsys.readouterr().out


def test_its_option_is_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    """It would be accepted behind a subcommand, and the module not be imported."""
    with pytest.raises(SystemExit):
        main(["play", "sokoban", "--mod", "new_environment"])
    assert "unrecognized arguments: --mod" in capsys.readouterr().err


def test_every_process_of_a_run_imports_it_also_in_a_cluster_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "cpu_frozenlake", "--out", "nowhere", "--dry-run"]
    variables = "ray_kwargs.ray_init.runtime_env.env_vars"
    assert main([*MODULE, *words]) == 0
    command = capsys.readouterr().out
    assert f"++{variables}.{MODULES_VARIABLE}=new_environment" in command
    assert f"++{variables}.PYTHONPATH=" in command and str(ROOT / "examples") in command
    os.environ.pop(MODULES_VARIABLE)
    assert main(words) == 0
    assert variables not in capsys.readouterr().out


def test_the_printed_command_begins_with_the_variables_as_a_shell_reads_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}/of the/user")
    assert main([*MODULE, "train", "cpu_frozenlake", "--out", "nowhere", "--dry-run"]) == 0
    words = shlex.split(next(line for line in capsys.readouterr().out.splitlines() if "main_ppo" in line))
    variables = dict(word.split("=", 1) for word in words[: words.index("python")])
    assert variables[MODULES_VARIABLE] == "new_environment"
    assert variables["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/of the/user", str(ROOT / "examples")]


def test_a_nodes_own_path_stays_behind_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As veRL reads the word, and as Ray sets the variable of a worker on a node that has one."""
    monkeypatch.setenv(MODULES_VARIABLE, "new_environment")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/of the user")
    with initialize_config_dir(str(tmp_path), version_base=None):
        (tmp_path / "empty.yaml").touch()
        read = dict(compose("empty", overrides=modules_overrides()).ray_kwargs.ray_init.runtime_env.env_vars)
    monkeypatch.setenv("PYTHONPATH", "/of/the/node")
    update_envs(read)
    assert os.environ["PYTHONPATH"] == f"{tmp_path}/of the user:/of/the/node"
    assert os.environ[MODULES_VARIABLE] == "new_environment"
    # A node without one has the name of a folder that does not exist.
    monkeypatch.delenv("PYTHONPATH")
    update_envs(read)
    assert os.environ["PYTHONPATH"] == f"{tmp_path}/of the user:$PYTHONPATH"


@pytest.mark.parametrize("command", ["play", "eval", "experts"])
def test_the_help_of_a_command_lists_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, *MODULE, "--help"])
    assert "jugs" in capsys.readouterr().out


def test_a_model_is_evaluated_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", *MODULE, "--env", "jugs", "--model", str(models.folder("frozenlake")), "--device", "cpu"]
    words += ["--episodes", "2", "--samples-per-task", "1", "--turns", "1", "--response-tokens", "4"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert "jugs" in capsys.readouterr().err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["evaluation"]["environment"] == "jugs"
    assert summary["episodes"]["finished"] == 2


def test_its_speed_and_its_prompts_are_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--env", "jugs", "--environments", "2", "--steps", "10", "--out", str(tmp_path)]
    assert main([*MODULE, "bench", "environments", *words]) == 0
    assert capsys.readouterr().out.count("\n| jugs ") == 2
    tokenizer = str(models.folder("frozenlake") / "tokenizer")
    assert main([*MODULE, "prompt-lengths", "--env", "jugs", "--tokenizer", tokenizer, "--episodes", "1"]) == 0
    assert capsys.readouterr().out.count("\njugs ") == 3


def test_the_command_under_a_table_names_the_modules_of_its_own_runs(tmp_path: Path) -> None:
    """Also of those that it is still to train."""
    shutil.copy(tables_folder() / "_scales.yaml", tmp_path)
    own, column = tmp_path / "own.yaml", "{label: own, weighting: penalised_turns factor=3}"
    own.write_text(find_table("table6").read_text().replace("{label: ActFocus}", column))
    words = ["--scale", "cpu", "--seeds", "1", "--only", "frozenlake", "--no-training", "--out", str(tmp_path / "out")]
    assert main(["--module", "new_weighting", "reproduce", str(own), "table6", *words]) == 0
    for name, command in (("own", f"--module new_weighting reproduce {own}"), ("table6", "reproduce table6")):
        for ending in ("md", "tex"):
            written = (tmp_path / f"out/cpu/{name}-cpu.{ending}").read_text()
            assert f"actfocus {command} --scale cpu --seeds 1 --only frozenlake\n" in written


def test_processes_that_a_command_starts_import_it_too_wherever_they_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def train(arguments: object) -> int:
        code = "import verl; from verl_actfocus import envs; print(envs.make('jugs').reset(seed=0)[0])"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert "5-litre jug: 0 litres" in run.stdout, run.stderr
        return 0

    monkeypatch.setattr("verl_actfocus.cli.doctor.run", train)
    assert main(["doctor", *MODULE]) == 0


def test_a_second_module_adds_to_those_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODULES_VARIABLE, "json,csv")
    monkeypatch.setattr("verl_actfocus.cli.doctor.run", lambda arguments: 0)
    assert main(["--module", "csv", "doctor", *MODULE]) == 0
    assert os.environ[MODULES_VARIABLE] == "json,csv,new_environment"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("no_such_module", None, "No module named 'no_such_module'"),
        ("needs_another", "import no_such_module", "No module named 'no_such_module'"),
        (
            "taken",
            "from verl_actfocus import envs; envs.register_environment('sokoban', envs.spec('sokoban'))",
            "environment name 'sokoban' is taken",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_sentence_before_anything_begins(
    name: str,
    text: str | None,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / f"{name}.py").write_text(text)
    assert main(["play", "sokoban", "--policy", "random", "--module", name]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert f"--module {name}" in printed.err and why in printed.err
    # Where it was looked for helps only where it was not found.
    assert (str(tmp_path) in printed.err) == (name != "taken")


def test_without_modules_the_environment_of_the_process_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    assert main(["play", "sokoban", "--policy", "random"]) == 0
    assert dict(os.environ) == before
