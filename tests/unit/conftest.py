"""Folders of runs as a training would leave them, written by the tests themselves."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.experiments.execution import supervision
from verl_actfocus.experiments.runs.run import Run
from verl_actfocus.experiments.runs.weightings import WeightingChoice
from verl_actfocus.trajectories import Trajectory, write_trajectory

#: Settings that a report shows, as a complete configuration would hold them.
SETTINGS: dict[str, Any] = {
    "trainer.val_before_train": True,
    "actor_rollout_ref.model.path": "verl_actfocus/models/frozenlake/model",
    "data.train_batch_size": 16,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
    "actor_rollout_ref.actor.optim.lr": 0.0001,
    "actor_rollout_ref.actor.clip_ratio_low": 0.2,
    "actor_rollout_ref.actor.clip_ratio_high": 0.28,
    "actor_rollout_ref.actor.entropy_coeff": 0.001,
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.rollout.val_kwargs.temperature": 0.5,
    "actor_rollout_ref.rollout.val_kwargs.n": 4,
    "data.environment.val_size": 64,
    "data.environment.limits.turns": 3,
    "data.environment.kwargs.success_rate": 1.0,
    "algorithm.actfocus.keep_groups": 1.0,
    "algorithm.actfocus.normalize_over": "mini_batch",
}
#: Leaves what a training leaves: one task with two episodes, solved from step 1 on; dies if told to.
TRAINER = """
import json, os, pathlib, sys
steps, dies = int(sys.argv[1]), sys.argv[2]
os.chdir(sys.argv[3])
pathlib.Path("evaluations").mkdir(exist_ok=True)
with open(sys.argv[-1].partition("VERL_FILE_LOGGER_PATH=")[2].strip("'"), "w") as file:
    for step in range(steps + 1):
        rate = float(step > 0)
        data = {"rollout/success": 0.5, "rollout/response_length": 9.0, "actfocus/token_share/action": 0.1,
                "actfocus/weight_share/action": 0.2, "timing_s/step": 1.0}
        if step in (0, steps):
            data |= {"val/success": rate, "val/success_standard_error": 0.0, "val/episodes": 4.0,
                     "val/response_length": 9.0}
            lines = [json.dumps({"seed": task, "success": rate}) for task in (0, 0, 1, 1)]
            pathlib.Path(f"evaluations/{step}.jsonl").write_text("\\n".join(lines) + "\\n")
        file.write(json.dumps({"step": step, "data": data}) + "\\n")
        if dies == "dies" and step == 1:
            raise MemoryError("the trainer dies")
with open("trained", "a") as file:
    file.write("once\\n")
"""
#: Settings of the weightings, as a complete configuration would hold them.
WEIGHTINGS: dict[str, dict[str, Any]] = {
    "uniform": {"name": "uniform"},
    "actfocus": {"name": "actfocus", "alpha": 0.1, "beta": 0.5, "signal": "energy", "eps": 1e-6, "other": None},
}
#: One training step's timers, seconds.
TIMERS = {"gen": 2.0, "ref": 0.5, "update_actor": 1.5, "step": 4.25}


def evaluation_metrics(outcomes: Mapping[int, Sequence[int]], length: float) -> dict[str, float]:
    """Metrics of an evaluation with these outcomes (task → one 0 or 1 per episode)."""
    flat = [value for values in outcomes.values() for value in values]
    rate = sum(flat) / len(flat)
    return {
        "val/success": rate,
        "val/success_standard_error": math.sqrt(rate * (1 - rate) / len(flat)),
        "val/episodes": float(len(flat)),
        "val/response_length": length,
    }


def training_metrics(step: int) -> dict[str, float]:
    """Metrics of a training step."""
    timers = {f"timing_s/{name}": seconds for name, seconds in TIMERS.items()}
    return {
        "rollout/success": step / 100,
        "rollout/response_length": 90.0 - step,
        "actfocus/token_share/action": 0.08,
        "actfocus/weight_share/action": 0.5,
        **timers,
    }


def trajectory(step: int, weights: Sequence[float]) -> Trajectory:
    """A trajectory of two turns with what the environment says between them."""
    tokens = ["go", " right", "</think>", "<answer>", "Right", "</answer>", "\nstate <b>&\n", "Down", "</answer>"]
    spans = ["reasoning", "reasoning", "none", "none", "action", "none", "none", "action", "none"]
    turns = [0, 0, 0, 0, 0, 0, -1, 1, 1]

    def on_turns(values: Sequence[float]) -> list[float | None]:
        return [None if turn < 0 else value for turn, value in zip(turns, values, strict=True)]

    return Trajectory(
        environment="frozenlake",
        group="g",
        session=0,
        step=step,
        policy_version=step - 1,
        prompt_ids=[7, 8],
        prompt="Reach the goal.\n<think>",
        ids=list(range(9)),
        tokens=tokens,
        spans=spans,
        turns=turns,
        signals={"weight": on_turns(weights), "signal": on_turns([-11.5] * 9), "advantage": on_turns([0.73] * 9)},
        turn_rewards=[-0.1, 1.0],
        reward=0.9,
        episode=EpisodeRecord(task=1000007, sample=0, success=True, reward=0.9, stop_reason="success"),
    )


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_evaluation(path: Path, outcomes: Mapping[int, Sequence[int]]) -> None:
    """Write the episodes of an evaluation as veRL's `validation_data_dir` holds them."""
    episodes = [
        {"input": "…", "output": "…", "score": float(value), "success": float(value), "seed": task, "stop_reason": "x"}
        for task, values in outcomes.items()
        for value in values
    ]
    write_lines(path, episodes)


RecordRun = Callable[..., Path]


@pytest.fixture
def record_run() -> RecordRun:
    """Write the folder of a run."""

    def record(
        out: Path,
        weighting: str,
        seed: int,
        evaluations: Mapping[int, Mapping[int, Sequence[int]]],
        *,
        done: bool = True,
        settings: Mapping[str, Any] | None = None,
        seconds: float = 100.0,
        estimator: str = "",
    ) -> Path:
        choice = WeightingChoice.parse(weighting)
        folder = out / "-".join([choice.slug, *([estimator] if estimator else []), f"seed{seed}"])
        folder.mkdir(parents=True)
        steps = max(evaluations)
        identity = {"algorithm": "grpo", "weighting": weighting, "env": "frozenlake", "seed": seed, "steps": steps}
        identity |= {"estimator": estimator} if estimator else {}
        own = {f"algorithm.actfocus.weighting.{key}": value for key, value in WEIGHTINGS[choice.name].items()}
        own |= {f"algorithm.actfocus.weighting.{key}": value for key, value in choice.settings}
        begun = {
            "run": {**identity, "profile": "cpu_frozenlake", "trial": False, "extra": []},
            "settings": {**SETTINGS, **own, **(settings or {})},
        }
        (folder / "run.json").write_text(json.dumps(begun))
        records = []
        for step in range(steps + 1):
            data = training_metrics(step) if step else {}
            if step in evaluations:
                data |= evaluation_metrics(evaluations[step], 80.0)
                write_evaluation(folder / "evaluations" / f"{step}.jsonl", evaluations[step])
            records.append({"step": step, "data": data})
        write_lines(folder / "metrics-1.jsonl", records)
        weights = [1.0] * 9 if weighting == "uniform" else [0.1, 0.1, 0.1, 0.1, 1.25, 0.1, 0.0, 1.4, 0.1]
        (folder / "trajectories").mkdir()
        write_trajectory(folder / "trajectories" / "1.jsonl", trajectory(1, weights))
        attempt = {"began": "2026-01-01T00:00:00+00:00", "seconds": seconds, "exit_code": 0}
        (folder / "attempt-1.json").write_text(json.dumps(attempt))
        if done:
            names = ("verl_actfocus", "verl", "torch", "transformers", "ray", "TransferQueue", "gymnasium", "numpy")
            finished = {
                **identity,
                "seconds": seconds,
                "attempts": 1,
                "finished": "2026-01-01T00:02:00+00:00",
                "command": f"VERL_PLATFORM=cpu python -m verl.trainer.main_ppo data.seed={seed} +actfocus={weighting}",
                "versions": {"python": "3.11.7", **dict.fromkeys(names, "1.2.3")},
                "commit": "abc123",
                "hardware": {"cpu": "Example CPU", "cores": 2, "memory_gb": 8.0},
            }
            (folder / "done.json").write_text(json.dumps(finished))
        return folder

    return record


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Put a quick stand-in in veRL's place; `dies` makes ActFocus runs fail."""
    state = {"dies": False}

    def command(run: Run) -> list[str]:
        dies = "dies" if state["dies"] and run.weighting.name == "actfocus" else "lives"
        return [sys.executable, "-c", TRAINER, str(run.conditions.steps), dies, str(run.folder)]

    monkeypatch.setattr(Run, "command", command)
    monkeypatch.setattr(Run, "shell_command", lambda run: f"train {run.title}")
    monkeypatch.setattr(supervision, "POLL_SECONDS", 0.02)
    return state
