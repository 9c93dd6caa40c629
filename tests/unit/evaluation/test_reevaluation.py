"""`actfocus reproduce --evaluate`: finished runs are played once more, each evaluation once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from verl_actfocus import models
from verl_actfocus.cli.main import main
from verl_actfocus.envs.frozenlake.env import FrozenLakeEnv
from verl_actfocus.evaluation import reevaluation
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.runs.run import Run

TINY = models.folder("frozenlake")
TABLE = """
title: A comparison
source: Nobody 2026
algorithm: grpo
quantity: area
weightings:
  uniform: {label: Uniform, weighting: uniform}
  actfocus: {label: ActFocus}
rows:
  - env: frozenlake
evaluations:
  greedy: {label: greedy, temperature: 0}
  unseen: {label: other tasks, first_task: 64}
"""
SCALES = 'cpu: {summary: small, run: "cpu_{env}", first_seed: 1, seeds: 1, steps: 1, size: tiny}\n'
#: Two tasks with two episodes each.
SMALL = ("--", "data.environment.val_size=2", "actor_rollout_ref.rollout.val_kwargs.n=2")


def words(folder: Path, *options: str) -> list[str]:
    path = folder / "mine.yaml"
    if not path.exists():
        path.write_text(TABLE, encoding="utf-8")
        (folder / "_scales.yaml").write_text(SCALES, encoding="utf-8")
    return ["reproduce", str(path), "--scale", "cpu", "--out", str(folder / "out"), *options, *SMALL]


def give_checkpoint(run: Path, sharded: bool = False) -> None:
    """The tiny model as a checkpoint: as veRL's FSDP engine saves it on one rank, or with whole weights."""
    described = run / "checkpoints/global_step_1/actor/huggingface"
    shutil.copytree(TINY / "tokenizer", described)
    shutil.copytree(TINY / "model", described, dirs_exist_ok=True)
    (described.parent / "fsdp_config.json").write_text('{"FSDP_version": 1, "world_size": 1}')
    if sharded:
        (described / "model.safetensors").unlink()
        model = AutoModelForCausalLM.from_pretrained(TINY / "model")
        torch.save(model.state_dict(), described.parent / "model_world_size_1_rank_0.pt")
    (run / "checkpoints/latest_checkpointed_iteration.txt").write_text("1")


@pytest.fixture
def trained(tmp_path: Path, trainer: dict[str, bool]) -> Path:
    """A table whose two runs have finished; folder of the runs."""
    assert main(words(tmp_path)) == 0
    runs = tmp_path / "out/cpu/frozenlake-grpo"
    for run in ("uniform-seed1", "actfocus-seed1"):
        give_checkpoint(runs / run)
    return runs


def test_every_run_plays_as_declared_and_the_table_has_it(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(trained / "uniform-seed1/checkpoints")
    give_checkpoint(trained / "uniform-seed1", sharded=True)
    assert main(words(tmp_path, "--no-training", "--evaluate")) == 0
    for run in ("uniform-seed1", "actfocus-seed1"):
        for name, temperature, tasks in (("greedy", 0, {0, 1}), ("unseen", 1, {64, 65})):
            folder = RunFolder(trained / run).reevaluation(name)
            played = json.loads((folder / "summary.json").read_text())["evaluation"]
            assert (played["temperature"], played["samples"], played["seed"]) == (temperature, 2, 1)
            outcomes = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
            assert {one["seed"] for one in outcomes} == tasks and len(outcomes) == 4
    text = (tmp_path / "out/cpu/mine-cpu.md").read_text(encoding="utf-8")
    assert "| in training" in text and "| greedy" in text and "| other tasks" in text
    error = capsys.readouterr().err
    assert "[1/2] frozenlake-grpo/uniform-seed1 merging the checkpoint" in error
    assert "[2/2] frozenlake-grpo/actfocus-seed1 unseen" in error


def test_what_was_evaluated_is_not_played_again_also_without_its_checkpoint(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(words(tmp_path, "--evaluate", "--delete-checkpoints")) == 0
    assert not list(trained.rglob("checkpoints"))

    def not_again(*_: object) -> None:
        raise AssertionError("loaded a second time")

    monkeypatch.setattr(reevaluation, "_load", not_again)
    assert main(words(tmp_path, "--evaluate")) == 0


def test_a_run_without_a_checkpoint_is_named_and_the_others_are_evaluated(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(trained / "uniform-seed1/checkpoints")
    assert main(words(tmp_path, "--no-training", "--evaluate")) == 1
    error = capsys.readouterr().err
    assert "frozenlake-grpo/uniform-seed1 cannot be evaluated again: its checkpoints are deleted" in error
    assert RunFolder(trained / "actfocus-seed1").outcomes("greedy").exists()


def test_an_evaluation_that_the_table_now_declares_otherwise_is_refused_and_not_shown(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = ("--archive", str(tmp_path / "runs.tar.xz"))
    main(words(tmp_path, "--no-training", "--evaluate", *archive))
    (tmp_path / "mine.yaml").write_text(TABLE.replace("temperature: 0", "temperature: 0.25"), encoding="utf-8")
    # Before anything is played: it would come back out of the archive whenever its folder is deleted.
    assert main(words(tmp_path, "--no-training", "--evaluate", *archive)) == 2
    assert "'greedy' of cpu/frozenlake-grpo/" in (error := capsys.readouterr().err) and "made otherwise" in error
    assert main(words(tmp_path, "--no-training", "--evaluate")) == 1
    error = capsys.readouterr().err
    assert "temperature was 0.0, is 0.25" in error and "delete the folder, the same command makes it again" in error
    assert "2 of the other evaluations were not made" in (tmp_path / "out/cpu/mine-cpu.md").read_text(encoding="utf-8")


class Diverged:
    """A policy that cannot be sampled from, or whose user presses Ctrl-C."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def close(self) -> None:
        """Nothing to let go of."""

    def identity(self) -> dict[str, str]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("cannot be sampled from"), 1),
        (OSError("cannot be sampled from"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_could_not_be_evaluated_keeps_its_checkpoint(
    error: BaseException,
    code: int,
    tmp_path: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load = reevaluation._load

    def diverged(run: Run, say: Callable[[str], None]) -> object:
        return Diverged(error) if run.weighting.name == "uniform" else load(run, say)

    monkeypatch.setattr(reevaluation, "_load", diverged)
    assert main(words(tmp_path, "--no-training", "--evaluate", "--delete-checkpoints")) == code
    assert (trained / "uniform-seed1/checkpoints").exists()
    # The other run is evaluated all the same, unless the user ended it.
    assert (trained / "actfocus-seed1/checkpoints").exists() == (code == 130)
    if code == 1:
        expected = "frozenlake-grpo/uniform-seed1 cannot be evaluated again: cannot be sampled from"
        assert expected in capsys.readouterr().err


def test_episodes_that_failed_do_not_count_and_are_played_by_the_same_command(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step, broken = FrozenLakeEnv.step, [True]

    def breaks(env: FrozenLakeEnv, action: str) -> object:
        if broken[0]:
            raise OSError("no space")
        return step(env, action)

    monkeypatch.setattr(FrozenLakeEnv, "step", breaks)
    assert main(words(tmp_path, "--no-training", "--evaluate", "--only", "actfocus")) == 1
    assert "of 4 episodes are missing and the evaluation does not count" in capsys.readouterr().err
    folder = RunFolder(trained / "actfocus-seed1")
    assert not folder.outcomes("greedy").exists() and folder.reevaluation("greedy").exists()
    broken[0] = False
    assert main(words(tmp_path, "--no-training", "--evaluate", "--only", "actfocus")) == 0
    assert len(folder.outcomes("greedy").read_text().splitlines()) == 4
    assert not RunFolder(trained / "uniform-seed1").reevaluation("greedy").exists()


def test_a_run_that_is_trained_again_is_evaluated_again(tmp_path: Path, trained: Path) -> None:
    main(words(tmp_path, "--no-training", "--evaluate"))
    (trained / "uniform-seed1/done.json").unlink()
    main(words(tmp_path))
    assert not RunFolder(trained / "uniform-seed1").outcomes("greedy").exists()
    assert RunFolder(trained / "actfocus-seed1").outcomes("greedy").exists()


def test_a_dry_run_says_what_is_evaluated(tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words(tmp_path, "--no-training", "--evaluate", "--only", "uniform"))
    shutil.rmtree(trained / "actfocus-seed1/checkpoints")
    capsys.readouterr()
    assert main(words(tmp_path, "--dry-run", "--evaluate")) == 0
    output = capsys.readouterr().out
    assert "frozenlake-grpo/uniform-seed1 greedy: done" in output
    assert "frozenlake-grpo/actfocus-seed1 unseen: to do, no checkpoint yet" in output


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (TABLE.replace("64}", "1}"), [], "first_task 1 with 2 tasks overlaps 0–1, which frozenlake-grpo/uniform-seed1"),
        (TABLE.replace("64}", "1000000}"), [], r"mine, evaluations.unseen: data.environment: evaluation seeds 1000000"),
        (TABLE, ["trainer.save_freq=-1"], "uniform-seed1 saves no checkpoint (trainer.save_freq=-1)"),
        (TABLE, ["actor_rollout_ref.model.lora_rank=8"], "uniform-seed1 trains LoRA adapters"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_trained(
    table: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(tmp_path, "--evaluate")
    (tmp_path / "mine.yaml").write_text(table, encoding="utf-8")
    assert main([*command, *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("run.json"))


def test_two_tables_may_not_mean_two_things_by_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = words(tmp_path, "--evaluate")
    other = TABLE.replace("temperature: 0", "temperature: 0.5")
    (tmp_path / "other.yaml").write_text(other, encoding="utf-8")
    assert main([command[0], str(tmp_path / "other.yaml"), *command[1:]]) == 2
    assert "mine, evaluations.greedy: another table means something else by that name" in capsys.readouterr().err


def test_a_table_without_evaluations_is_told_so_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "table6", "--scale", "cpu", "--only", "frozenlake", "--evaluate", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "--evaluate: table6 declares no evaluations" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
