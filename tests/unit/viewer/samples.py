"""Trajectories as training would write them, made by the tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verl_actfocus.episodes.record import EpisodeRecord, TurnRecord
from verl_actfocus.trajectories import Trajectory, write_trajectory

#: One response: tokens and their spans.
RESPONSE = {
    "the": "reasoning",
    " goal": "reasoning",
    " is": "reasoning",
    " right": "reasoning",
    "</think>": "none",
    "<answer>": "none",
    "Right": "action",
    "</answer>": "none",
}
#: What the environment says between two responses.
STATE = ["\nturn", " 2", "\n<think>"]


def turn(observation: str, reward: float, problem: str | None = None) -> TurnRecord:
    """A turn in which the agent goes right."""
    return TurnRecord(
        text="".join(RESPONSE),
        parsed=["Right"],
        executed=[] if problem else ["Right"],
        valid=problem is None,
        problem=problem,
        reward=reward,
        effective_actions=1,
        tokens=8,
        reasoning_tokens=4,
        action_tokens=1,
        observation=observation,
    )


def make(**values: Any) -> Trajectory:
    """A trajectory of two turns in a corridor; weights are 0.1 on reasoning and 1.25 on actions."""
    task, session = values.pop("task", 7), values.get("session", 0)
    success = values.pop("success", True)
    one, two = list(RESPONSE), list(RESPONSE.values())
    tokens = [*one, *STATE, *one]
    turns = [0] * 8 + [-1] * 3 + [1] * 8
    spans = [*two, "none", "none", "none", *two]
    weights = {"reasoning": 0.1, "action": 1.25, "none": 0.1}
    episode = EpisodeRecord(
        task=task,
        sample=session,
        success=success,
        reward=1.0 if success else -0.1,
        stop_reason="success" if success else "turn_limit",
        turns=[turn("P _ G", 0.0), turn("_ P G", 1.0 if success else -0.1, None if success else "into a wall")],
        final_observation="_ _ P",
    )
    by_model: dict[str, list[float | None]] = {
        "weight": [weights[span] for span in spans],
        "advantage": [0.5 if success else -0.5] * 19,
    }
    signals = values.pop("signals", by_model)
    return Trajectory(
        **{
            "environment": "corridor",
            "group": f"task-{task}",
            "session": session,
            "step": 1,
            "policy_version": 0,
            "prompt_ids": [1, 2],
            "prompt": "Reach the goal.\n<think>",
            "ids": list(range(19)),
            "tokens": tokens,
            "spans": spans,
            "turns": turns,
            "signals": {
                name: [None if turns[i] < 0 else value for i, value in enumerate(numbers)]
                for name, numbers in signals.items()
            },
            "turn_rewards": [0.0, 1.0 if success else -0.1],
            "reward": 1.0 if success else -0.1,
            "episode": episode,
            **values,
        }
    )


def write(path: Path, trajectories: Sequence[Trajectory]) -> Path:
    """Write a file of trajectories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for trajectory in trajectories:
        write_trajectory(path, trajectory)
    return path


def all_signals(seed: int) -> dict[str, list[float | None]]:
    """Every signal of the format, with values of the usual sizes."""
    generator = random.Random(seed)

    def draw(low: float, high: float) -> list[float | None]:
        return [generator.uniform(low, high) for _ in range(19)]

    return {
        "weight": draw(0, 1.5),
        "advantage": [generator.choice([-0.9, 0.7])] * 19,
        "signal": draw(-14, -8),
        "ref_energy": draw(-14, -8),
        "ref_entropy": draw(0, 3),
        "old_entropy": draw(0, 3),
        "rollout_log_prob": draw(-4, 0),
        "old_log_prob": draw(-4, 0),
        "ref_log_prob": draw(-5, 0),
    }
