"""The tokens of an episode: how they grow turn by turn, and what veRL stores of them."""

from __future__ import annotations

from typing import Any

import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput

from verl_actfocus.integration import fields
from verl_actfocus.weighting import Span


class EpisodeTokens:
    """The growing token sequence of an episode, with mask, spans, log-probabilities and turn rewards in step."""

    def __init__(self, prompt_ids: list[int]) -> None:
        self.prompt_length = len(prompt_ids)
        self.ids = list(prompt_ids)
        self.mask: list[int] = []
        self.spans: list[int] = []
        self.log_probs: list[float] = []
        self.turn_rewards: list[float] = []

    @property
    def response_length(self) -> int:
        return len(self.ids) - self.prompt_length

    def add_response(self, ids: list[int], log_probs: list[float], spans: list[Span]) -> None:
        """Append what the model sampled."""
        self._append(ids, 1, log_probs, [int(span) for span in spans])

    def add_context(self, ids: list[int]) -> None:
        """Append what the environment said."""
        self._append(ids, 0, [0.0] * len(ids), [int(Span.NONE)] * len(ids))

    def reward_turn(self, reward: float) -> None:
        """Put the reward of the turn on its last token."""
        self.turn_rewards[-1] = reward

    def _append(self, ids: list[int], mask: int, log_probs: list[float], spans: list[int]) -> None:
        if not len(ids) == len(log_probs) == len(spans):
            raise ValueError(f"{len(ids)} tokens came with {len(log_probs)} log-probabilities and {len(spans)} spans")
        self.ids.extend(ids)
        self.mask.extend([mask] * len(ids))
        self.log_probs.extend(log_probs)
        self.spans.extend(spans)
        self.turn_rewards.extend([0.0] * len(ids))


class EpisodeOutput(AgentLoopOutput):
    """An episode with its per-token fields."""

    spans: list[int]
    """`Span` of each response token."""
    turn_rewards: list[float]
    """Reward of each turn on the turn's last token, 0 elsewhere."""

    def as_dict(self) -> dict[str, Any]:
        """Return what veRL stores per trajectory, the per-token fields as tensors."""
        output = super().as_dict()
        output[fields.SPANS] = torch.tensor(output.pop("spans"), dtype=torch.int64)
        output[fields.TURN_REWARDS] = torch.tensor(output.pop("turn_rewards"), dtype=torch.float32)
        return output
