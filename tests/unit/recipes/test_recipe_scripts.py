"""The scripts turn parameters into one veRL command, check it first, and hold no settings of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3] / "recipes"
SCRIPTS = sorted(ROOT.glob("*/run_*.sh"))
PARAMETERS = ("MODEL", "WEIGHTING", "ALPHA", "BETA", "SIGNAL", "GPUS", "NODES", "SEED", "OUT", "DEVICE")
COMMAND = ["-m", "verl.trainer.main_ppo"]
METRICS = "++ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH"

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")


def run(script, *arguments, **parameters):
    """Run a script with nothing but these parameters set."""
    environment = {name: value for name, value in os.environ.items() if name not in PARAMETERS}
    environment = {**environment, "PYTHON": sys.executable, **parameters}
    return subprocess.run([script, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def printed_overrides(result):
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout.splitlines()[-1])
    assert words[:3] == [sys.executable, *COMMAND]
    return words[3:]


def script(name):
    return ROOT / name


def test_there_are_two_scripts_for_each_of_the_four_environments():
    found = {str(path.relative_to(ROOT)) for path in SCRIPTS}
    environments = ("sokoban", "frozenlake", "sudoku", "webshop")
    assert found == {f"{env}/run_{algorithm}.sh" for env in environments for algorithm in ("ppo", "grpo")}


@each_script
def test_a_dry_run_composes_and_prints_the_command_of_the_scripts_own_recipe(script):
    result = run(script, "--dry-run")
    recipe = f"{script.parent.name}_{script.stem.removeprefix('run_')}"
    out = Path.cwd() / "outputs" / f"{recipe}-default-seed0"
    assert printed_overrides(result) == [
        "+actfocus=default",
        f"+actfocus/recipe={recipe}",
        "data.seed=0",
        f"trainer.experiment_name='{recipe}-default-seed0'",
        f"trainer.default_local_dir='{out}'",
        f"hydra.run.dir='{out}/hydra'",
        f"{METRICS}='{out}/metrics-1.jsonl'",
    ]
    assert "128 trajectories played" in result.stdout


@each_script
def test_a_trial_on_a_cpu_is_the_same_command_with_one_more_group_and_a_folder_of_its_own(script):
    result = run(script, "--dry-run", DEVICE="cpu")
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout.splitlines()[-1])
    assert words[:5] == ["env", "VERL_PLATFORM=cpu", sys.executable, *COMMAND]
    gpu, cpu = printed_overrides(run(script, "--dry-run")), words[5:]
    assert cpu.pop(2) == "+actfocus/device=cpu_trial"
    assert [item.replace("seed0-cpu", "seed0") for item in cpu] == gpu != cpu
    assert "32 trajectories played" in result.stdout and "on each of 1 CPU process(es)" in result.stdout


def test_every_parameter_reaches_the_configuration(compose_recipe, tmp_path):
    out = tmp_path / "with space"
    parameters = {
        "MODEL": "Qwen/Qwen2.5-0.5B-Instruct",
        "ALPHA": "0.3",
        "BETA": "1",
        "SIGNAL": "nll",
        "GPUS": "8",
        "NODES": "2",
        "SEED": "5",
        "OUT": str(out),
    }
    overrides = printed_overrides(run(script("sudoku/run_ppo.sh"), "trainer.save_freq=7", "--dry-run", **parameters))
    kept = [item for item in overrides[2:] if not item.startswith("hydra.")]
    config = compose_recipe("sudoku_ppo", "default", *kept)
    actfocus = config.algorithm.actfocus
    assert config.actor_rollout_ref.model.path == config.critic.model.path == "Qwen/Qwen2.5-0.5B-Instruct"
    assert (actfocus.alpha, actfocus.beta, actfocus.signal) == (0.3, 1, "nll")
    assert (config.trainer.n_gpus_per_node, config.trainer.nnodes, config.data.seed) == (8, 2, 5)
    assert config.trainer.default_local_dir == str(out)
    assert config.trainer.validation_data_dir == f"{out}/evaluations"
    assert config.trainer.save_freq == 7
    variables = config.ray_kwargs.ray_init.runtime_env.env_vars
    assert variables["VERL_FILE_LOGGER_PATH"] == f"{out}/metrics-1.jsonl"


def test_a_run_that_is_started_again_keeps_the_metrics_of_the_attempts_before(tmp_path):
    """veRL's file logger empties the file that it is given."""
    for number in (1, 2):
        (tmp_path / f"metrics-{number}.jsonl").touch()
    overrides = printed_overrides(run(script("sokoban/run_ppo.sh"), "--dry-run", OUT=str(tmp_path)))
    assert f"{METRICS}='{tmp_path}/metrics-3.jsonl'" in overrides


def test_runs_with_different_parameters_do_not_share_a_folder(tmp_path):
    """veRL resumes from the folder's checkpoint, which must be the same run's."""
    first = run(script("sokoban/run_ppo.sh"), "--dry-run", ALPHA="0.3")
    second = run(script("sokoban/run_ppo.sh"), "--dry-run", ALPHA="0.5")
    folders = [
        next(item for item in printed_overrides(result) if item.startswith("trainer.default_local_dir="))
        for result in (first, second)
    ]
    assert folders[0] != folders[1]


def test_the_printed_command_is_the_one_that_is_started(tmp_path):
    """A stand-in for Python writes down what it is called with."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done >> "$CALLS"\n')
    python.chmod(0o755)
    calls = tmp_path / "calls"
    chosen = {"WEIGHTING": "uniform", "OUT": str(tmp_path / "out")}
    result = run(script("webshop/run_grpo.sh"), PYTHON=str(python), CALLS=str(calls), **chosen)
    assert result.returncode == 0, result.stderr
    words = calls.read_text().splitlines()
    start = words.index("-m")
    assert words[0].endswith("check.py")
    assert words[start : start + 2] == COMMAND
    assert words[start + 2 :] == words[1:start] == shlex.split(result.stdout.splitlines()[-1])[3:]
    assert "+actfocus=uniform" in words


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"WEIGHTING": "actfocus"}, "WEIGHTING=actfocus: choose default"),
        ({"WEIGHTING": "uniform", "ALPHA": "0.5"}, "unset ALPHA"),
        ({"GPUS": "3"}, "32 trajectories cannot be shared equally by 3 GPUs"),
        ({"GPUS": "many"}, "trainer.n_gpus_per_node='many' must be an integer"),
        ({"DEVICE": "tpu"}, "DEVICE=tpu: choose gpu or cpu"),
        ({"DEVICE": "cpu", "MODEL": "Qwen/Qwen2.5-0.5B-Instruct"}, "unset MODEL"),
        ({"SEED": "-1"}, "data.seed=-1 must be an integer of at least 0"),
    ],
)
def test_a_wrong_parameter_is_named_and_nothing_starts(parameters, message):
    result = run(script("sokoban/run_grpo.sh"), **parameters)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.nonsense=1", "data.nonsense"),
        ("algorithm.actfocus.keep_groups=2", "keep_groups=2 must lie in"),
        ("data.max_response_length=4000", "4400 tokens exceed"),
        ("actor_rollout_ref.actor.ppo_max_token_len_per_gpu=1000", "less than one trajectory of 3600 tokens"),
    ],
)
def test_a_wrong_override_is_named_and_nothing_starts(override, message):
    result = run(script("sokoban/run_ppo.sh"), override)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""


def test_an_environment_of_the_users_own_is_found_where_verl_is_told_to_look_for_it():
    words = ["--dry-run", "data.environment.name=jugs"]
    told = {"VERL_USE_EXTERNAL_MODULES": "new_environment", "PYTHONPATH": str(ROOT.parent / "examples")}
    result = run(script("frozenlake/run_grpo.sh"), *words, DEVICE="cpu", **told)
    assert result.returncode == 0, result.stderr
    assert "data.environment.name=jugs" in result.stdout
    assert "unknown environment 'jugs'" in run(script("frozenlake/run_grpo.sh"), *words, DEVICE="cpu").stderr


def test_a_step_is_described_in_trajectories():
    """8 prompts × 16, a quarter of the groups kept: 2 × 16 = 32; 0.3 keeps 3 groups: 48, filled up to 2 × 32."""
    quarter = run(script("sokoban/run_ppo.sh"), "--dry-run", "data.seed=1").stdout
    assert "128 trajectories played, 32 trained on, 1 optimizer step(s) of 32 trajectories, 8 on each of 4" in quarter
    assert "fills up" not in quarter
    third = run(script("sokoban/run_ppo.sh"), "--dry-run", "algorithm.actfocus.keep_groups=0.3").stdout
    assert "48 trained on, 2 optimizer step(s)" in third and "16 empty trajectories" in third
    # 0.28 of 25 groups are 7, also where 0.28 * 25 is 7.000000000000001.
    sizes = ["data.train_batch_size=25", "algorithm.actfocus.keep_groups=0.28"]
    assert "112 trained on" in run(script("sokoban/run_ppo.sh"), "--dry-run", *sizes).stdout


@pytest.mark.parametrize("path", [ROOT / "launch.sh", *SCRIPTS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_are_short_executable_and_clean(path):
    assert len(path.read_text().splitlines()) < 40
    assert os.access(path, os.X_OK)
    # The extra `dev` brings it.
    shellcheck = Path(sysconfig.get_path("scripts")) / "shellcheck"
    result = subprocess.run([shellcheck, str(path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
