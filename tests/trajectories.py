"""Trajectories for tests of what writes and reads them."""

from __future__ import annotations

from typing import Any

from verl_actfocus.episodes.record import EpisodeRecord, TurnRecord
from verl_actfocus.trajectories import Trajectory


def turn(text: str, reward: float) -> TurnRecord:
    """A valid turn with one action."""
    return TurnRecord(
        text=text,
        parsed=["Right"],
        executed=["Right"],
        valid=True,
        problem=None,
        reward=reward,
        effective_actions=1,
        tokens=2,
        reasoning_tokens=1,
        action_tokens=1,
        observation="P_G",
    )


def trajectory(**changes: Any) -> Trajectory:
    """Two turns of two tokens with one of the environment between them."""
    messages = [{"role": "user", "content": "P_G"}, {"role": "assistant", "content": "aR"}]
    record = EpisodeRecord(
        task=3,
        sample=1,
        success=True,
        reward=0.9,
        stop_reason="success",
        outcomes={"purchase": True},
        turns=[turn("aR", -0.1), turn("bR", 1.0)],
        messages=messages,
        final_observation="__√",
    )
    values: dict[str, Any] = {
        "environment": "frozenlake",
        "group": "g",
        "session": 1,
        "step": 10,
        "policy_version": 9,
        "prompt_ids": [1, 2],
        "prompt": "<s>P_G",
        "ids": [3, 4, 5, 6, 4],
        "tokens": ["a", "R", "\n_PG\n", "b", "R"],
        "spans": ["reasoning", "action", "none", "reasoning", "action"],
        "turns": [0, 0, -1, 1, 1],
        "signals": {"weight": [0.1, 1.25, None, 0.1, 1.4], "old_log_prob": [-0.5, -1e-07, None, 0.0, -12.0]},
        "turn_rewards": [-0.1, 1.0],
        "reward": 0.9,
        "episode": record,
    }
    return Trajectory(**{**values, **changes})


def episode(task: int, sample: int = 0, **changes: Any) -> Trajectory:
    """The trajectory of an episode of which nothing but its record is known."""
    record = EpisodeRecord(task=task, sample=sample, **changes)
    return Trajectory(
        group=str(task),
        session=sample,
        prompt_ids=[],
        prompt="",
        ids=[],
        tokens=[],
        spans=[],
        turns=[],
        reward=record.reward,
        episode=record,
    )
