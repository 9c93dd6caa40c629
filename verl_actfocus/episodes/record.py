"""What is kept of an episode, whoever played it, and what many of them come to.

Training and its evaluations store an episode's counts with the trajectory (`EpisodeRecord.counts`), `actfocus eval`
whole records; both are summarised from the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from verl_actfocus.episodes.outcomes import StopReason
from verl_actfocus.episodes.prompts import Message

#: Metrics that every environment has, beside the share of every stop reason.
SUMMARY = (
    "success", "well_formed_turn_rate", "valid_turn_rate", "effective_action_rate", "turns", "response_length",
)  # fmt: skip
#: Counts that are numbers, see `EpisodeRecord.counts`.
_NUMBERS = (
    "success", "turns", "well_formed_turns", "valid_turns", "actions", "effective_actions", "response_tokens", "seed",
)  # fmt: skip
#: Names of all counts but the outcomes.
COUNTS = (*_NUMBERS, "stop_reason", "outcomes")


@dataclass(frozen=True, kw_only=True)
class TurnRecord:
    """One response and what came of it."""

    #: The response as it was decoded, without the prefill.
    text: str
    #: Actions that the response names; empty if it is outside the grammar.
    parsed: list[str]
    #: Actions that the environment executed.
    executed: list[str]
    #: Whether the response was well-formed and the environment refused nothing.
    valid: bool
    #: Why the turn is invalid; None if it is valid.
    problem: str | None
    #: Reward of the turn, format penalty included.
    reward: float
    #: Executed actions that changed the state.
    effective_actions: int
    #: Tokens that the model sampled, the end of turn included.
    tokens: int
    #: How many of them are reasoning.
    reasoning_tokens: int
    #: How many of them are action.
    action_tokens: int
    #: The environment's text of the state that the response answers.
    observation: str

    @property
    def well_formed(self) -> bool:
        """Whether the response was inside the grammar and ended by itself, whatever the environment said to it."""
        return bool(self.parsed)


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One episode as a model played it.

    Raises:
        ValueError: an outcome has the name of a count or of another metric.
    """

    #: Seed of the environment.
    task: int
    #: Number of the episode among those of its task, from 0.
    sample: int
    #: Whether the task was solved.
    success: bool = False
    #: Sum of the turn rewards.
    reward: float = 0.0
    #: Value of `StopReason`.
    stop_reason: str = ""
    #: What the environment declares beyond success (`verl_actfocus.envs.TextEnv.outcomes`), such as WebShop's purchase.
    outcomes: Mapping[str, bool] = field(default_factory=dict)
    #: What failed if the episode ended in an infrastructure failure; None otherwise.
    failure: str | None = None
    #: The turns.
    turns: list[TurnRecord] = field(default_factory=list)
    #: The conversation as the model saw it, the prefill at the beginning of every response.
    messages: list[Message] = field(default_factory=list)
    #: The environment's text of the last state.
    final_observation: str = ""

    def __post_init__(self) -> None:
        taken = {"reward", *COUNTS, *SUMMARY} & self.outcomes.keys()
        if taken:
            raise ValueError(f"an environment declares the outcomes {sorted(taken)}: another metric has that name")

    @property
    def response_tokens(self) -> int:
        """Tokens that the model sampled."""
        return sum(turn.tokens for turn in self.turns)

    @property
    def well_formed_turns(self) -> int:
        """Turns whose response was inside the grammar and ended by itself."""
        return sum(turn.well_formed for turn in self.turns)

    @property
    def valid_turns(self) -> int:
        """Turns whose response was well-formed and of which the environment refused nothing."""
        return sum(turn.valid for turn in self.turns)

    def counts(self) -> dict[str, Any]:
        """Return the numbers of the episode as veRL stores them with a trajectory, one value a name.

        Outcomes stand beside the others, with `outcomes` naming them.
        """
        outcomes = {name: float(value) for name, value in self.outcomes.items()}
        return {
            "success": float(self.success),
            "stop_reason": self.stop_reason,
            "turns": len(self.turns),
            "well_formed_turns": self.well_formed_turns,
            "valid_turns": self.valid_turns,
            "actions": sum(len(turn.executed) for turn in self.turns),
            "effective_actions": sum(turn.effective_actions for turn in self.turns),
            "response_tokens": self.response_tokens,
            "seed": self.task,
            **outcomes,
            "outcomes": list(outcomes),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EpisodeRecord:
        """Read a record back.

        Raises:
            TypeError: a field is missing or unknown.
            KeyError: there are no turns.
        """
        return cls(**{**values, "turns": [TurnRecord(**turn) for turn in values["turns"]]})


def summarise(episodes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Summarise episodes.

    Args:
        episodes: what `EpisodeRecord.counts` returned, at least one.

    Returns:
        `success`, `well_formed_turn_rate` and `valid_turn_rate` (shares of turns), `effective_action_rate` (share of
        executed actions), `turns`, `response_length` (sampled tokens of an episode) as means, the share of every stop
        reason as `stop/<reason>`, and every outcome that the environment declares under its name, the mean over the
        episodes that have it.
    """
    total = {name: float(sum(episode[name] for episode in episodes)) for name in _NUMBERS}
    count = len(episodes)
    values = (
        total["success"] / count,
        total["well_formed_turns"] / total["turns"] if total["turns"] else 0.0,
        total["valid_turns"] / total["turns"] if total["turns"] else 0.0,
        total["effective_actions"] / total["actions"] if total["actions"] else 0.0,
        total["turns"] / count,
        total["response_tokens"] / count,
    )
    summary = dict(zip(SUMMARY, values, strict=True))
    for reason in StopReason:
        summary[f"stop/{reason.value}"] = sum(one["stop_reason"] == reason.value for one in episodes) / count
    for name in outcome_names([episode["outcomes"] for episode in episodes]):
        having = [episode[name] for episode in episodes if name in episode["outcomes"]]
        summary[name] = float(sum(having)) / len(having)
    return summary


def outcome_names(declared: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of all outcomes that any of the episodes has."""
    return sorted({name for names in declared for name in names})
