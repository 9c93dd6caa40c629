"""From an episode that was played to its trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from verl_actfocus.episodes.player import Player
from verl_actfocus.trajectories.format import Trajectory, shortest
from verl_actfocus.weighting import Span


class TokenTexts(Protocol):
    """Shows tokens: `verl_actfocus.tagging.SpanTagger`."""

    def texts(self, token_ids: Sequence[int]) -> list[str]:
        """Return what each token shows, in the decoding that its span was found in."""


def played(player: Player, reader: TokenTexts, *, environment: str) -> Trajectory:
    """Return the trajectory of an episode outside of training: group and session are task and sample.

    Args:
        player: its episode has ended. One that failed before a token was sampled has none.
        reader: shows the tokens.
        environment: name of the environment.

    Raises:
        RuntimeError: the episode has not ended.
    """
    record, tokens = player.record(), player.tokens
    prompt, ids = tokens.ids[: tokens.prompt_length], tokens.ids[tokens.prompt_length :]
    signals: dict[str, list[float | None]] = {}
    if player.has_log_probs and ids:
        known = zip(shortest(tokens.log_probs), tokens.mask, strict=True)
        signals["rollout_log_prob"] = [value if sampled else None for value, sampled in known]
    return Trajectory(
        environment=environment,
        group=str(record.task),
        session=record.sample,
        prompt_ids=prompt,
        prompt="".join(reader.texts(prompt)),
        ids=ids,
        tokens=reader.texts(ids),
        spans=span_names(tokens.spans),
        turns=tokens.turns,
        signals=signals,
        turn_rewards=[turn.reward for turn in record.turns],
        reward=record.reward,
        episode=record,
    )


def span_names(spans: Sequence[int]) -> list[str]:
    """Return the names that spans have on disk."""
    return [Span(span).name.lower() for span in spans]
