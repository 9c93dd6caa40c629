"""What comes of a turn and of an episode: results, stop reasons, failures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from verl_actfocus.episodes.prompts import Message


class StopReason(StrEnum):
    """Why an episode ended; the values are metric names."""

    SUCCESS = "success"
    """The environment reported the task solved."""
    TERMINATED = "terminated"
    """The environment ended without success."""
    TURN_LIMIT = "turn_limit"
    """All turns are used."""
    ACTION_LIMIT = "action_limit"
    """All actions are used (also when the turns ran out with them)."""
    RESPONSE_CUT = "response_cut"
    """A response reached the length limit."""
    CONTEXT_FULL = "context_full"
    """The next prompt does not fit the model's context; set by the caller through `Episode.stop`."""
    ENVIRONMENT_ERROR = "environment_error"
    """The environment raised, or returned something outside its interface."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """The first prompt does not fit; set by the caller, who renders it."""
    ROLLOUT_ABORTED = "rollout_aborted"
    """The server returned no complete response; set by the caller."""

    @property
    def excluded_from_training(self) -> bool:
        """Whether the end says nothing about the policy, so its reward must not be trained on.

        An environment's failure, a first prompt that does not fit and a server that gives up are none of the model's
        doing; the other length and context limits are reached by what the model wrote.
        """
        return self in _NOT_THE_MODELS


_NOT_THE_MODELS = frozenset({StopReason.ENVIRONMENT_ERROR, StopReason.PROMPT_TOO_LONG, StopReason.ROLLOUT_ABORTED})


@dataclass(frozen=True, kw_only=True)
class EnvironmentFailure:
    """What is needed to see an environment's failure again: same seed, same actions up to `action`."""

    environment: str
    """Name of the environment's class."""
    type: str
    message: str
    seed: int | None
    action: str | None
    """The action that failed; `None` if `reset` or `close` did."""
    call: str = "reset"
    """What failed if it was no action: `reset` or `close`."""

    def __str__(self) -> str:
        doing = self.call if self.action is None else f"action {self.action!r}"
        return f"the environment {self.environment} failed on {doing} with {self.type}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class TurnResult:
    """Outcome of one response.

    Attributes:
        reward: Sum of the rewards of the executed actions, plus the format penalty if the turn is invalid.
        valid: The response was well-formed and the environment refused none of its actions that were tried.
        problem: Why the turn is invalid, in words; `None` exactly if it is valid or the environment failed.
        parsed: Actions that the response names; empty if it is outside the grammar or was cut off.
        actions: Executed actions in order, all of them accepted by the environment.
        effective_actions: Number of executed actions that changed the state.
        stop_reason: Why the episode ended; `None` while it runs.
        next_message: User message of the next turn; `None` exactly if the episode has ended.
    """

    reward: float
    valid: bool
    problem: str | None
    parsed: list[str]
    actions: list[str]
    effective_actions: int
    stop_reason: StopReason | None
    next_message: Message | None

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self.stop_reason is not None
