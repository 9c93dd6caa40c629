"""The scripts turn environment variables into one call of `actfocus train` and hold no settings of their own."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from verl_actfocus.cli.main import main

ROOT = Path(__file__).resolve().parents[3] / "recipes"
SCRIPTS = sorted(ROOT.glob("*/run_*.sh"))
PARAMETERS = (
    "MODEL", "WEIGHTING", "ALPHA", "BETA", "SIGNAL", "GPUS", "NODES", "SEED", "OUT", "DEVICE", "ATTENTION", "LORA"
)  # fmt: skip
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")


#: In Python's place: says which words the script would have called it with, a line each.
WORDS_ONLY = """#!/usr/bin/env bash
printf '%s\\n' "$@"
"""


def call(script, *arguments, **parameters):
    """Run a script with nothing but these parameters set."""
    environment = {name: value for name, value in os.environ.items() if name not in PARAMETERS}
    environment = {**environment, "PYTHON": sys.executable, **parameters}
    return subprocess.run([script, *arguments], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def run(tmp_path):
    """The same as `call`, but for the seconds that Python takes to import veRL: what it is called with runs here."""
    echo = tmp_path / "python"
    echo.write_text(WORDS_ONLY)
    echo.chmod(0o755)

    def run(script, *arguments, **parameters):
        result = call(script, *arguments, **parameters, PYTHON=str(echo))
        if result.returncode:
            return result
        flag, module, *words = result.stdout.splitlines()
        assert (flag, module) == ("-m", "verl_actfocus.cli.main")
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as complaint:
            try:
                result.returncode = main(words)
            except SystemExit as end:
                result.returncode = end.code
        for number, handler in handlers.items():
            signal.signal(number, handler)
        result.stdout, result.stderr = said.getvalue(), complaint.getvalue()
        return result

    return run


@pytest.fixture
def dry_run(run):
    """What a dry run prints: title, step, and the words of the command."""

    def dry_run(script, *arguments, **parameters):
        result = run(script, "--dry-run", *arguments, **parameters)
        assert result.returncode == 0, result.stderr
        title, step, command, _ = result.stdout.splitlines()
        return title, step, shlex.split(command)

    return dry_run


def script(name):
    return ROOT / name


def test_there_are_three_scripts_for_each_of_the_four_environments():
    found = {str(path.relative_to(ROOT)) for path in SCRIPTS}
    environments = ("sokoban", "frozenlake", "sudoku", "webshop")
    assert found == {f"{env}/run_{kind}.sh" for env in environments for kind in ("ppo", "grpo", "grpo_small")}


@each_script
def test_a_script_trains_its_own_recipe_with_actfocus(script, dry_run):
    title, step, command = dry_run(script)
    recipe = f"{script.parent.name}_{script.stem.removeprefix('run_')}"
    assert title == f"{recipe}/actfocus-seed0: to do"
    assert "128 trajectories played" in step
    assert command[:5] == ["python", "-W", "ignore", "-m", "verl.trainer.main_ppo"]
    assert command[5:7] == ["+actfocus=default", f"+actfocus/recipe={recipe}"]
    assert f"trainer.default_local_dir={Path.cwd()}/outputs/{recipe}/actfocus-seed0/checkpoints" in command


def test_a_trial_on_a_cpu_is_the_same_run_with_one_more_group_and_a_folder_of_its_own(dry_run):
    _, _, gpu = dry_run(script("sokoban/run_ppo.sh"))
    title, step, cpu = dry_run(script("sokoban/run_ppo.sh"), DEVICE="cpu")
    assert title == "sokoban_ppo-trial/actfocus-seed0: to do"
    assert "32 trajectories played" in step and "on each of 1 CPU process(es)" in step
    assert cpu.pop(0) == "VERL_PLATFORM=cpu"
    cpu.remove("+actfocus/device=cpu_trial")
    assert [word.replace("sokoban_ppo-trial", "sokoban_ppo") for word in cpu] == gpu


def test_every_parameter_reaches_the_configuration(compose_recipe, tmp_path, dry_run):
    parameters = {
        "MODEL": "Qwen/Qwen2.5-0.5B-Instruct",
        "ALPHA": "0.3",
        "BETA": "1",
        "SIGNAL": "nll",
        "GPUS": "8",
        "NODES": "2",
        "SEED": "5",
        "OUT": str(tmp_path / "with space"),
        "ATTENTION": "sdpa",
        "LORA": "16",
    }
    _, _, command = dry_run(script("sudoku/run_ppo.sh"), "trainer.save_freq=7", **parameters)
    kept = [word for word in command[5:] if not word.startswith(("hydra.", "+actfocus=", "+actfocus/recipe="))]
    config = compose_recipe("sudoku_ppo", "default", *kept)
    attention = [
        section.model.override_config.attn_implementation for section in (config.actor_rollout_ref, config.critic)
    ]
    assert (attention, config.actor_rollout_ref.model.lora_rank) == (["sdpa", "sdpa"], 16)
    assert config.actor_rollout_ref.rollout.load_format == "safetensors"
    weighting = config.algorithm.actfocus.weighting
    assert config.actor_rollout_ref.model.path == config.critic.model.path == "Qwen/Qwen2.5-0.5B-Instruct"
    assert (weighting.alpha, weighting.beta, weighting.signal) == (0.3, 1, "nll")
    assert (config.trainer.n_gpus_per_node, config.trainer.nnodes, config.data.seed) == (8, 2, 5)
    folder = tmp_path / "with space/actfocus-alpha=0.3-beta=1-signal=nll-seed5"
    assert config.trainer.default_local_dir == str(folder / "checkpoints")
    assert config.trainer.validation_data_dir == str(folder / "evaluations")
    assert config.trainer.save_freq == 7


def test_options_of_actfocus_train_may_stand_among_the_overrides(dry_run):
    title, _, command = dry_run(script("sokoban/run_ppo.sh"), "--steps=9", "trainer.save_freq=7", "--seed=3")
    assert title == "sokoban_ppo/actfocus-seed3: to do"
    assert {"trainer.total_training_steps=9", "trainer.save_freq=7"} <= set(command)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"WEIGHTING": "default"}, "'default' is not a weighting; choose one of ['actfocus'"),
        ({"WEIGHTING": "uniform", "ALPHA": "0.5"}, "algorithm.actfocus.weighting has no setting ['alpha']"),
        ({"GPUS": "3"}, "32 trajectories cannot be shared equally by 3 GPUs"),
        ({"GPUS": "many"}, "trainer.n_gpus_per_node='many' must be a number"),
        ({"DEVICE": "tpu"}, "DEVICE=tpu: choose gpu or cpu"),
        ({"DEVICE": "cpu", "MODEL": "Qwen/Qwen2.5-0.5B-Instruct"}, "unset MODEL"),
        ({"SEED": "-1"}, "argument --seed: '-1' is not a seed"),
    ],
)
def test_a_wrong_parameter_is_named_and_nothing_starts(parameters, message, run):
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
        ("critic.ppo_infer_max_token_len_per_gpu=3599", "critic.ppo_infer_max_token_len_per_gpu=3599 is less than one"),
        (
            "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=99",
            "rollout.log_prob_max_token_len_per_gpu=99 is less",
        ),
        (
            "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=99",
            "ref.log_prob_max_token_len_per_gpu=99 is less than",
        ),
    ],
)
def test_a_wrong_override_is_named_and_nothing_starts(override, message, run):
    result = run(script("sokoban/run_ppo.sh"), override)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""


def test_an_environment_of_the_users_own_is_found_where_verl_is_told_to_look_for_it():
    words = ["--dry-run", "data.environment.name=jugs"]
    told = {"VERL_USE_EXTERNAL_MODULES": "new_environment", "PYTHONPATH": str(ROOT.parent / "examples")}
    result = call(script("frozenlake/run_grpo.sh"), *words, DEVICE="cpu", **told)
    assert result.returncode == 0, result.stderr
    assert "data.environment.name=jugs" in result.stdout
    assert "unknown environment 'jugs'" in call(script("frozenlake/run_grpo.sh"), *words, DEVICE="cpu").stderr


def test_a_step_is_described_in_trajectories(run):
    """8 prompts × 16, a quarter of the groups kept: 2 × 16 = 32; 0.3 keeps 3 groups: 48, filled up to 2 × 32."""
    quarter = run(script("sokoban/run_ppo.sh"), "--dry-run").stdout
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
