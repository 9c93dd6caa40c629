"""One trajectory as it lies on disk: a JSON object in one line.

Training, evaluation and diagnosis write the same fields; what a writer did not record is absent (null, or no key among
the signals) and never 0. The version is raised when a field changes its meaning or goes; readers refuse others. Fields
and files are described for users in `docs/trajectories.md`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, with_config

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
    "old_energy": "energy under the policy before the update, at temperature 1",
    "old_entropy": "entropy of the policy before the update, at temperature 1, in nats",
    "rollout_log_prob": "log-probability that the token was sampled with, at the rollout's temperature",
    "old_log_prob": "log-probability under the policy before the update, at the rollout's temperature",
    "nll": "negative log-likelihood under the policy, at temperature 1 (He et al. 2026, Eq. 21)",
    "shift": "log-probability shift of the policy against the reference model, at temperature 1 (Eq. 22)",
    "ref_log_prob": "log-probability under the frozen reference model, at the rollout's temperature",
}
#: Names of spans, as in `verl_actfocus.weighting.Span`.
SPAN_NAMES = ("none", "reasoning", "action")
#: Characters of a wrong value that an error shows.
_EXCERPT = 60


class TrajectoryFormatError(ValueError):
    """A line is no trajectory of this format; the message says what is wrong with it."""


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One trajectory. `T` is the number of tokens after the first prompt.

    Raises:
        TrajectoryFormatError: per-token lists differ in length, or hold something else than they should.
    """

    #: Version of the format.
    version: int = VERSION
    #: Name of the environment; None for an agent loop of somebody else's.
    environment: str | None = None
    #: Trajectories that answer the same prompt in the same step share it: the group of GRPO.
    group: str
    #: Place of the prompt in the data (veRL's `index` of the row); None outside training.
    index: int | str | None = None
    #: Number in the group, from 0. An agent loop that splits its episode writes its parts in order, with one number.
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
        order = list(dict.fromkeys(turn for turn in self.turns if turn != -1))
        if order != list(range(len(order))):
            raise TrajectoryFormatError(f"turns are numbered from 0 in their order (-1: environment), got {order}")
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
            TrajectoryFormatError: JSON or UTF-8 cannot hold a value: a number that is not finite, half a character.
        """
        values = {**vars(self), "episode": None if self.episode is None else asdict(self.episode)}
        try:
            line = json.dumps(values, ensure_ascii=False, allow_nan=False)
            line.encode()
        except (ValueError, TypeError) as error:
            bad = [name for name, values in self.signals.items() if not all(map(_finite, values))]
            what = f"the signals {bad} hold numbers that are not finite" if bad else str(error)
            raise TrajectoryFormatError(f"the trajectory cannot be written: {what}") from error
        return line

    @classmethod
    def from_line(cls, line: str | bytes) -> Trajectory:
        """Read a trajectory back.

        Raises:
            TrajectoryFormatError: the line is none, or of another version.
        """
        try:
            version = _Head.model_validate_json(line).version
            if version != VERSION:
                raise TrajectoryFormatError(_wrong_version(version))
            return _ADAPTER.validate_json(line)
        except ValidationError as error:
            raise TrajectoryFormatError(_in_words(error)) from error


def has_version(line: bytes) -> bool:
    """Whether a line says which version of the format it is of."""
    try:
        return _Head.model_validate_json(line).version is not None
    except ValidationError:
        return False


class _Head(BaseModel):
    """What tells one version from another."""

    version: Any = None


_ADAPTER = TypeAdapter(Trajectory)


def shortest(values: Iterable[float]) -> list[float]:
    """Return single-precision numbers as those decimals that are the shortest to write and still the same numbers.

    Example:
        >>> float(np.float32(0.1)), shortest([np.float32(0.1)])
        (0.10000000149011612, [0.1])
    """
    return [float(str(value)) for value in np.fromiter(values, dtype=np.float32)]


def _wrong_version(version: Any) -> str:
    if version is None:
        return "not a trajectory: there is no version"
    return (
        f"version {version!r} of the format, not {VERSION}; write it again, or read it with the package that wrote it"
    )


def _in_words(error: ValidationError) -> str:
    """The first thing that is wrong with a line."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ValueError):
        return str(cause)
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid" or not place:
        return f"not a trajectory: {first['msg']}"
    return f"{place}: {first['msg']}, got {str(first['input'])[:_EXCERPT]!r}"


def _finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)
