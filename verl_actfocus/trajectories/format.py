"""One trajectory as it lies on disk: a JSON object in one line.

Training, evaluation and diagnosis write the same fields; what a writer did not record is absent (None in Python, no key
among the signals) and never 0. The version is raised when a field changes its meaning or goes; readers refuse others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from verl_actfocus.episodes.record import EpisodeRecord

#: Version of the format.
VERSION = 1
#: Signals that have a meaning here, and what it is. A weighting outside the package may add its own.
SIGNALS: Mapping[str, str] = {
    "weight": "weight of the token in the loss",
    "advantage": "advantage of the algorithm, before weights",
    "signal": "what the weights of this weighting follow",
    "ref_energy": "energy under the frozen reference model, at temperature 1 (He et al. 2026, Eq. 4)",
    "ref_entropy": "entropy of the frozen reference model, at temperature 1, in nats",
    "old_entropy": "entropy of the policy before the update, at temperature 1, in nats",
    "rollout_log_prob": "log-probability that the token was sampled with, at the rollout's temperature",
    "old_log_prob": "log-probability under the policy before the update, at the rollout's temperature",
    "nll": "negative log-likelihood under the policy, at temperature 1 (He et al. 2026, Eq. 21)",
    "shift": "log-probability shift of the policy against the reference model, at temperature 1 (Eq. 22)",
    "ref_log_prob": "log-probability under the frozen reference model, at the rollout's temperature",
}
#: Names of spans, as in `verl_actfocus.weighting.Span`.
SPAN_NAMES = ("none", "reasoning", "action")


class TrajectoryFormatError(ValueError):
    """A line is no trajectory of this format; the message says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One trajectory. `T` is the number of tokens after the first prompt.

    Raises:
        TrajectoryFormatError: per-token lists differ in length, or hold something else than they should.
    """

    #: Name of the environment; None for an agent loop of somebody else's.
    environment: str | None = None
    #: Trajectories that answer the same prompt in the same step share it: the group of GRPO.
    group: str
    #: Number in the group, from 0.
    session: int
    #: Training step that trained on it; None outside training.
    step: int | None = None
    #: Training step of the weights that wrote it, 0 before training; None if unknown.
    policy_version: int | None = None
    #: The first prompt, as tokens and as text with its special tokens.
    prompt_ids: list[int]
    prompt: str
    #: (T) tokens after the prompt: what the model sampled and what the environment said in between.
    ids: list[int]
    #: (T) their texts, which joined are the text.
    tokens: list[str]
    #: (T) name of the span of every token, of `SPAN_NAMES`.
    spans: list[str]
    #: (T) index of the model's turn that a token belongs to, from 0; -1 on what the environment said.
    turns: list[int]
    #: Name → (T) values, None on tokens without one (the environment's).
    signals: dict[str, list[float | None]] = field(default_factory=dict)
    #: Reward of every turn; None if it is not known.
    turn_rewards: list[float] | None = None
    #: Return of the trajectory.
    reward: float
    #: The episode that this package's player played; None for another agent loop.
    episode: EpisodeRecord | None = None

    def __post_init__(self) -> None:
        per_token: dict[str, list[Any]] = {name: getattr(self, name) for name in ("tokens", "spans", "turns")}
        per_token |= {f"signals.{name}": values for name, values in self.signals.items()}
        wrong = {name: len(values) for name, values in per_token.items() if len(values) != len(self.ids)}
        if wrong:
            raise TrajectoryFormatError(f"{len(self.ids)} tokens, but lists of other lengths: {wrong}")
        strange = set(self.spans) - set(SPAN_NAMES)
        if strange:
            raise TrajectoryFormatError(f"unknown spans {sorted(strange)}; there are {list(SPAN_NAMES)}")
        if self.turn_rewards is not None and len(self.turn_rewards) != self.turn_count:
            raise TrajectoryFormatError(f"{self.turn_count} turns, but {len(self.turn_rewards)} turn rewards")

    @property
    def turn_count(self) -> int:
        """Turns of the model."""
        return max(self.turns, default=-1) + 1

    @property
    def task(self) -> int | None:
        """Seed of the environment; None if it is not known."""
        return None if self.episode is None else self.episode.task

    @property
    def success(self) -> bool | None:
        """Whether the task was solved; None if nobody said."""
        return None if self.episode is None else self.episode.success

    @property
    def stop_reason(self) -> str | None:
        """Why the episode ended; None if nobody said."""
        return None if self.episode is None else self.episode.stop_reason

    def line(self) -> str:
        """Return the JSON of the trajectory, without a line feed.

        Raises:
            TrajectoryFormatError: a number is not finite, which JSON cannot hold.
        """
        try:
            return json.dumps({"version": VERSION, **asdict(self)}, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            bad = [name for name, values in self.signals.items() if not all(map(_finite, values))]
            raise TrajectoryFormatError(f"a number is not finite, of {bad or 'the rewards'}") from error

    @classmethod
    def from_line(cls, line: str | bytes) -> Trajectory:
        """Read a trajectory back.

        Raises:
            TrajectoryFormatError: the line is none, or of another version.
        """
        try:
            values = json.loads(line)
        except ValueError as error:
            raise TrajectoryFormatError(f"not JSON: {error}") from error
        if not isinstance(values, dict) or "version" not in values:
            raise TrajectoryFormatError("not a trajectory: there is no version")
        if values.pop("version") != VERSION:
            raise TrajectoryFormatError(
                f"not of version {VERSION} of the format; write it again, or use the package that wrote it"
            )
        known = {item.name for item in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise TrajectoryFormatError(f"unknown fields {unknown}")
        try:
            if values.get("episode") is not None:
                values["episode"] = EpisodeRecord.from_dict(values["episode"])
            return cls(**values)
        except (TypeError, KeyError, AttributeError) as error:
            raise TrajectoryFormatError(f"a field is missing or of another type: {error}") from error


def _finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)
