"""Sampled trajectories as text whose background shows the weight of every token."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sized
from dataclasses import dataclass, fields
from pathlib import Path

from matplotlib import colormaps
from matplotlib.colors import to_hex

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.results import RunResult
from verl_actfocus.experiments.weightings import WeightingChoice

#: One hue from white to a tone on which black text is still easy to read.
_COLOURS = colormaps["Oranges"]
_DARKEST = 0.62
#: Trajectories shown of the first and of the last file of a run.
PER_FILE = 2


@dataclass(frozen=True)
class Token:
    """One token as it is shown."""

    text: str
    #: Background, a hexadecimal colour.
    colour: str
    #: Weight, signal, span and advantage.
    tooltip: str


@dataclass(frozen=True)
class Block:
    """Consecutive tokens of one origin."""

    #: Number of the turn for a response of the model; None for text of the environment.
    turn: int | None
    #: Reward of the turn; None if unknown.
    reward: float | None
    tokens: list[Token]

    @property
    def text(self) -> str:
        """The text without colours."""
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True)
class Trajectory:
    """One trajectory, token by token, as the trainer wrote it."""

    weighting: WeightingChoice
    seed: int
    step: int
    prompt: str
    tokens: list[str]
    from_model: list[int]
    spans: list[str]
    weights: list[float]
    signal: list[float] | None
    advantages: list[float]
    turn_rewards: list[float] | None
    reward: float
    #: What became of the episode: fields of `verl_actfocus.integration.metrics.EpisodeRecord`.
    episode: dict[str, float | str]

    def __post_init__(self) -> None:
        per_token: list[Sized | None] = [self.tokens, self.from_model, self.spans, self.weights, self.advantages]
        per_token += [self.signal, self.turn_rewards]
        lengths = {len(values) for values in per_token if values is not None}
        if len(lengths) > 1:
            raise ExperimentError(f"trajectory of step {self.step}: its per-token lists have lengths {sorted(lengths)}")

    def blocks(self, scale: WeightScale) -> Iterator[Block]:
        """Split into responses of the model and what the environment said between them.

        Args:
            scale: colours of the weights.
        """
        start = turn = 0
        while start < len(self.tokens):
            stop = start
            while stop < len(self.tokens) and self.from_model[stop] == self.from_model[start]:
                stop += 1
            if self.from_model[start]:
                turn += 1
                reward = None if self.turn_rewards is None else self.turn_rewards[stop - 1]
                yield Block(turn, reward, [self._token(n, scale) for n in range(start, stop)])
            else:
                yield Block(None, None, [Token(text, "", "") for text in self.tokens[start:stop]])
            start = stop

    def _token(self, n: int, scale: WeightScale) -> Token:
        parts = [f"weight {self.weights[n]:.3f}", self.spans[n], f"advantage {self.advantages[n]:+.3f}"]
        if self.signal is not None:
            parts.insert(1, f"signal {self.signal[n]:.3f}")
        return Token(self.tokens[n], scale.colour(self.weights[n]), " · ".join(parts))


@dataclass(frozen=True)
class WeightScale:
    """Colours of weights from 0 to a largest one.

    Args:
        largest: weight with the darkest colour.
    """

    largest: float

    def colour(self, weight: float) -> str:
        """Return the background of a token, as `#rrggbb`; weight 0 is white."""
        if weight <= 0:
            return "#ffffff"
        return to_hex(_COLOURS(_DARKEST * min(1.0, weight / self.largest)))

    def stops(self, count: int = 11) -> list[tuple[float, str]]:
        """Return evenly spaced weights with their colours, for a legend."""
        weights = [self.largest * n / (count - 1) for n in range(count)]
        return [(weight, self.colour(weight)) for weight in weights]


def scale_of(trajectories: list[Trajectory]) -> WeightScale:
    """Return one scale for all trajectories, so that equal colours mean equal weights."""
    return WeightScale(max([1.0, *(weight for trajectory in trajectories for weight in trajectory.weights)]))


def sample(run: RunResult) -> list[Trajectory]:
    """Return trajectories of the first and of the last file of a run: the first ones in each file, not chosen by hand.

    Raises:
        ExperimentError: a file cannot be read.
    """
    files = sorted(run.folder.trajectories.glob("*.jsonl"), key=lambda file: int(file.stem))
    chosen = files[:1] + files[1:][-1:]
    return [trajectory for file in chosen for trajectory in _read(file, run)[:PER_FILE]]


def _read(path: Path, run: RunResult) -> list[Trajectory]:
    names = [field.name for field in fields(Trajectory) if field.name not in ("weighting", "seed")]
    trajectories = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                values = {name: record[name] for name in names}
            except (ValueError, KeyError, TypeError) as error:
                raise ExperimentError(f"{path}, line {number}: not a trajectory: {error!r}") from error
            trajectories.append(Trajectory(weighting=run.weighting, seed=run.seed, **values))
    return trajectories
