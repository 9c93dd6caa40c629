"""A wrong value is refused before veRL is started, by a sentence with the setting, the value and what it may be."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus.cli.main import main
from verl_actfocus.config.environment import EnvironmentSettings
from verl_actfocus.envs.frozenlake.env import FrozenLakeEnv
from verl_actfocus.experiments.runs.composed_run import compose_run
from verl_actfocus.experiments.runs.run import Conditions, Run
from verl_actfocus.experiments.runs.weightings import WeightingChoice
from verl_actfocus.storage.errors import ExperimentError


def run(folder: Path, weighting: str = "actfocus", *extra: str, profile: str = "cpu_frozenlake") -> Run:
    algorithm = "ppo" if profile.endswith("ppo") else "grpo"
    conditions = Conditions(profile=profile, algorithm=algorithm, folder=folder, extra=extra)
    return Run(conditions=conditions, weighting=WeightingChoice.parse(weighting), seed=0)


@pytest.mark.parametrize(
    ("weighting", "message"),
    [
        ("actfocus alpha=nan", r"weighting\.alpha=nan must be a finite number"),
        ("actfocus alpha=.inf", r"weighting\.alpha=.*inf'? must be a finite number"),
        ("actfocus alpha=autoo", r"weighting\.alpha='autoo' must be a finite number; auto, which measures it, is for"),
        ("actfocus alpha=2", r"weighting\.alpha=2 must lie in \[0, 1\]"),
        ("actfocus alpah=3", r"weighting has no setting \['alpah'\]; ActFocus has \['alpha'"),
        ("actfocus eps=0", r"weighting\.eps=0 must be positive"),
        ("actfocus signal=foo", r"weighting\.signal='foo' is not a signal; choose one of"),
        ("nope", r"weighting\.name='nope' is not a weighting; choose one of"),
    ],
)
def test_a_weighting_is_checked_before_anything_is_started(tmp_path: Path, weighting: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        compose_run(run(tmp_path, weighting))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.actfocus.keep_groups=2", r"keep_groups=2 must lie in \(0, 1\]"),
        ("algorithm.actfocus.keep_groups=nan", r"keep_groups=nan must be a finite number"),
        ("++algorithm.actfocus.alpha=2", r"algorithm\.actfocus has no setting \['alpha'\]"),
        ("algorithm.actfocus.tags.action=foo", r"algorithm\.actfocus\.tags: action must be .*'foo'"),
        ("algorithm.actfocus.trajectories.every=0", r"every=0 and groups=2 must be at least 1"),
        ("data.environment.nmae=x", r"nmae"),
        ("data.environment.train_size=abc", r"data\.environment\.train_size='abc' must be a whole number"),
        ("data.environment.val_seed=-2", r"data\.environment\.val_seed=-2 must be at least 0"),
        ("data.environment.format_penalty=inf", r"format_penalty=inf must be a finite number"),
        ("data.environment.format_penalty=0.1", r"format_penalty=0\.1: a penalty is zero or negative"),
        ("data.environment.train_size=400", r"steps=30, but trainer\.total_epochs=1 of 25 steps each .*train_size=400"),
        ("trainer.total_training_steps=6251", r"total_training_steps=6251, but trainer\.total_epochs=1 of 6250 steps"),
        ("actor_rollout_ref.rollout.top_p=1.5", r"rollout\.top_p=1\.5 must be above 0 and at most 1"),
        ("actor_rollout_ref.rollout.val_kwargs.top_p=0", r"val_kwargs\.top_p=0 must be above 0"),
        ("actor_rollout_ref.rollout.top_k=0", r"rollout\.top_k=0 must be -1 \(all\) or at least 1"),
        ("actor_rollout_ref.rollout.val_kwargs.temperature=1e-6", r"temperature=1e-06 must be 0 or at least 1e-05"),
        ("data.environment.limits.turns=-3", r"data\.environment\.limits: .*turns = -3: every budget is a positive"),
        ("++data.environment.limits.trns=3", r"data\.environment\.limits has no setting \['trns'\]"),
        ("data.environment.limits=3", r"data\.environment\.limits=3 must be a section"),
        ("++data.environment.kwargs.foo=3", r"data\.environment\.kwargs=.*'foo'.*its arguments are size"),
        ("++data.environment.kwargs.success_rate=7", r"success_rate 7: a probability lies in \[0, 1\]"),
        ("++data.environment.kwargs.size=abc", r"data\.environment\.kwargs=.*'size': 'abc'.*correct that argument"),
        ("++data.environment.val_kwargs.foo=3", r"data\.environment\.val_kwargs=.*'foo'"),
        ("data.train_batch_size=-4", r"data\.train_batch_size=-4 must be"),
        ("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=-4", r"per_gpu=-4 must be a whole number of at least 1"),
        ("actor_rollout_ref.rollout.val_kwargs.n=0", r"val_kwargs\.n=0 must be a whole number of at least 1"),
        ("trainer.total_training_steps=0", r"total_training_steps=0 must be a whole number of at least 1"),
        ("actor_rollout_ref.rollout.temperature=nan", r"rollout\.temperature=nan must be a finite number"),
        ("actor_rollout_ref.rollout.temperature=-1", r"rollout\.temperature=-1 must be a number of at least 0"),
        ("actor_rollout_ref.actor.optim.lr=abc", r"optim\.lr='abc' must be a number \(it is 0\.0001 unless"),
        (
            "actor_rollout_ref.actor.loss_agg_mode=token-sum",
            r"loss_agg_mode=token-sum cannot be weighted",
        ),
        ("actor_rollout_ref.actor.policy_loss.loss_mode=gspo", r"loss_mode=gspo would ignore the token weights"),
        ("trainer.balance_batch=3", r"trainer\.balance_batch=3 must be true or false"),
        ("actor_rollout_ref.model.path=/no/model", r"model\.path=/no/model: there is no such folder"),
        (
            "actor_rollout_ref.model.path=~/model",
            r"path=~/model' is not in the grammar .* \"actor_rollout_ref\.model\.path='~/model'\"",
        ),
        ("actor_rollout_ref.model.path='~/model'", r"model\.path=~/model: veRL does not expand ~; write /.*/model"),
        ("actor_rollout_ref.model.tokenizer_path=./no", r"model\.tokenizer_path=\./no: there is no such folder"),
    ],
)
def test_an_override_is_checked_before_anything_is_started(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        compose_run(run(tmp_path, "actfocus", override))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "sudoku", "kwargs": {"unique": True, "empty_cells": 14}},
            "sudoku cannot begin the task of seed 1000000",
        ),
        (
            {"name": "sudoku", "val_kwargs": {"unique": True, "empty_cells": 14}},
            "sudoku cannot begin the task of seed 7: ",
        ),
    ],
)
def test_an_environment_whose_first_task_cannot_be_begun_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnvironmentSettings(**settings, val_seed=7).check(begin=True)


def test_a_task_that_takes_too_long_to_begin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrozenLakeEnv, "reset", lambda self, **_: time.sleep(60))
    with pytest.raises(ValueError, match=r"frozenlake cannot begin the task of seed 1000000: .*0\.2 s"):
        EnvironmentSettings(name="frozenlake", step_timeout=0.2).check(begin=True)


def test_the_critics_model_counts_where_there_is_a_critic(tmp_path: Path) -> None:
    override = "critic.model.path=/no/critic"
    compose_run(run(tmp_path, "actfocus", override))
    with pytest.raises(ExperimentError, match=r"critic\.model\.path=/no/critic: there is no such folder"):
        compose_run(run(tmp_path, "actfocus", override, profile="sokoban_ppo"))


@pytest.mark.parametrize(
    "words",
    [
        ["train", "cpu_frozenlake", "--weighting", "actfocus alpha=nan"],
        ["compare", "--weightings", "uniform", "actfocus alpha=nan"],
        ["train", "cpu_frozenlake", "--", "data.environment.val_size=x"],
        ["compare", "--", "data.environment.val_size=x"],
        ["reproduce", "table2", "--scale", "cpu", "--", "data.environment.val_size=x"],
    ],
)
def test_every_command_that_trains_says_so_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    end = words.index("--") if "--" in words else len(words)
    assert main([*words[:end], "--dry-run", "--out", str(tmp_path / "o"), *words[end:]]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"actfocus {words[0]}: ")
    assert "=nan must be" in error or "='x' must be" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_the_checks_load_no_verl(tmp_path: Path) -> None:
    code = (
        "import sys; from verl_actfocus.cli.main import main; "
        f"main(['train', 'cpu_frozenlake', '--dry-run', '--out', {str(tmp_path)!r}]); "
        "sys.exit('verl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
