"""Trajectories as turns, and the batch of tokens that an estimator gets of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from verl_actfocus.estimators import Place, TrajectoryBatch


@dataclass
class Played:
    """One trajectory: of each turn tokens, reward and state; two tokens of the environment stand between turns."""

    group: str
    rewards: list[float]
    states: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    #: Advantage that veRL's estimator gave it.
    advantage: float = 0.0

    def __post_init__(self) -> None:
        self.states = self.states or [1] * len(self.rewards)
        self.lengths = self.lengths or [1 + turn % 3 for turn in range(len(self.rewards))]

    def tokens(self, values: list[float], *, last_only: bool) -> list[float]:
        """Spread a value per turn over tokens: over all of the turn's, or its last one alone."""
        found: list[float] = []
        for turn, (value, length) in enumerate(zip(values, self.lengths, strict=True)):
            found += ([0.0] * 2 if turn else []) + [0.0 if last_only else value] * (length - 1) + [value]
        return found


def batch_of(played: list[Played], **more) -> TrajectoryBatch:
    """The batch; `more` are fields of it. Turn rewards and returns are those of the turns."""

    def rows(column, dtype):
        return [torch.tensor(column(one), dtype=dtype) for one in played]

    masks = rows(lambda one: one.tokens([1.0] * len(one.rewards), last_only=False), torch.long)
    rewards = rows(lambda one: one.tokens(one.rewards, last_only=True), torch.float32)
    states = rows(lambda one: one.tokens(one.states, last_only=True), torch.int64)
    advantages = [mask * torch.tensor(one.advantage) for mask, one in zip(masks, played, strict=True)]
    inputs = {"turn_rewards": rewards, "anchor_states": states, **more.pop("inputs", {})}
    # As in training: the whole return on the last token.
    ends = [torch.zeros_like(row) for row in rewards]
    for end, row in zip(ends, rewards, strict=True):
        if len(end):
            end[-1] = row.sum()
    return TrajectoryBatch(
        places=[Place(one.group, str(number), 0) for number, one in enumerate(played)],
        **{
            "rewards": ends,
            "model_mask": masks,
            "response_mask": masks,
            "advantages": advantages,
            "inputs": inputs,
            **more,
        },
    )
