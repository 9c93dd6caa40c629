"""`actfocus reproduce --evaluate`: finished runs are played once more, each evaluation once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from verl_actfocus import models
from verl_actfocus.cli.main import main
from verl_actfocus.experiments.folder import RunFolder

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


def give_checkpoint(run: Path) -> None:
    """The tiny model as a checkpoint with whole weights, which needs no merging."""
    described = run / "checkpoints/global_step_1/actor/huggingface"
    shutil.copytree(TINY / "tokenizer", described)
    shutil.copytree(TINY / "model", described, dirs_exist_ok=True)
    (described.parent / "fsdp_config.json").write_text("{}")
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
    assert main(words(tmp_path, "--no-training", "--evaluate")) == 0
    for run in ("uniform-seed1", "actfocus-seed1"):
        for name, temperature, tasks in (("greedy", 0, {0, 1}), ("unseen", 1, {64, 65})):
            folder = RunFolder(trained / run).reevaluation(name)
            played = json.loads((folder / "summary.json").read_text())["evaluation"]
            assert (played["temperature"], played["samples"], played["seed"]) == (temperature, 2, 1)
            outcomes = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
            assert {one["seed"] for one in outcomes} == tasks and len(outcomes) == 4
    text = (tmp_path / "out/cpu/mine-cpu.md").read_text(encoding="utf-8")
    assert "| as in training" in text and "| greedy" in text and "| other tasks" in text
    assert "[2/2] frozenlake-grpo/actfocus-seed1 unseen" in capsys.readouterr().err


def test_what_was_evaluated_is_not_played_again_also_without_its_checkpoint(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(words(tmp_path, "--evaluate", "--delete-checkpoints")) == 0
    assert not list(trained.rglob("checkpoints"))

    def not_again(*_: object) -> None:
        raise AssertionError("loaded a second time")

    monkeypatch.setattr("verl_actfocus.evaluation.reevaluation._load", not_again)
    assert main(words(tmp_path, "--evaluate")) == 0


def test_a_run_without_a_checkpoint_is_named_and_the_others_are_evaluated(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(trained / "uniform-seed1/checkpoints")
    assert main(words(tmp_path, "--no-training", "--evaluate")) == 1
    error = capsys.readouterr().err
    assert "frozenlake-grpo/uniform-seed1 cannot be evaluated again: its checkpoints are deleted" in error
    assert RunFolder(trained / "actfocus-seed1").reevaluated("greedy").exists()


def test_an_evaluation_that_the_table_now_declares_otherwise_is_refused(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(words(tmp_path, "--no-training", "--evaluate"))
    (tmp_path / "mine.yaml").write_text(TABLE.replace("temperature: 0", "temperature: 0.25"), encoding="utf-8")
    assert main(words(tmp_path, "--no-training", "--evaluate")) == 1
    error = capsys.readouterr().err
    assert "greedy was made with other settings (temperature was 0.0, is 0.25); delete it to make it again" in error


def test_a_table_without_evaluations_is_told_so_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "table6", "--scale", "cpu", "--only", "frozenlake", "--evaluate", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "--evaluate: table6 declares no evaluations" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
