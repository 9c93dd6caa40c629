"""Sampled trajectories as text whose background shows the weight of every token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from matplotlib import colormaps
from matplotlib.colors import to_hex

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.results import RunResult
from verl_actfocus.experiments.weightings import WeightingChoice
from verl_actfocus.trajectories import Trajectory as StoredTrajectory
from verl_actfocus.trajectories import TrajectoryFormatError, read_trajectories, trajectory_files

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
    step: int | None
    task: int | None
    prompt: str
    tokens: list[str]
    turns: list[int]
    spans: list[str]
    #: 0 on the environment's tokens.
    weights: list[float]
    signal: list[float | None] | None
    advantages: list[float | None]
    turn_rewards: list[float] | None
    reward: float
    stop_reason: str | None

    def blocks(self, scale: WeightScale) -> Iterator[Block]:
        """Split into responses of the model and what the environment said between them.

        Args:
            scale: colours of the weights.
        """
        for turn, places in groupby(range(len(self.tokens)), key=lambda n: self.turns[n]):
            if turn >= 0:
                reward = None if self.turn_rewards is None else self.turn_rewards[turn]
                yield Block(turn + 1, reward, [self._token(n, scale) for n in places])
            else:
                yield Block(None, None, [Token(self.tokens[n], "", "") for n in places])

    def _token(self, n: int, scale: WeightScale) -> Token:
        advantage = self.advantages[n]
        parts = [f"weight {self.weights[n]:.3f}", self.spans[n]]
        parts += [] if advantage is None else [f"advantage {advantage:+.3f}"]
        if self.signal is not None and (value := self.signal[n]) is not None:
            parts.insert(1, f"signal {value:.3f}")
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
    folder = run.folder.trajectories
    files = trajectory_files(folder) if folder.is_dir() else []
    chosen = files[:1] + files[1:][-1:]
    return [trajectory for file in chosen for trajectory in _read(file, run)]


def _read(path: Path, run: RunResult) -> list[Trajectory]:
    try:
        return [_shown(stored, run) for stored in islice(read_trajectories(path), PER_FILE)]
    except TrajectoryFormatError as error:
        raise ExperimentError(str(error)) from error


def _shown(stored: StoredTrajectory, run: RunResult) -> Trajectory:
    weights = stored.signals["weight"]
    return Trajectory(
        weighting=run.weighting,
        seed=run.seed,
        step=stored.step,
        task=stored.task,
        prompt=stored.prompt,
        tokens=stored.tokens,
        turns=stored.turns,
        spans=stored.spans,
        weights=[0.0 if weight is None else weight for weight in weights],
        signal=stored.signals.get("signal"),
        advantages=stored.signals["advantage"],
        turn_rewards=stored.turn_rewards,
        reward=stored.reward,
        stop_reason=stored.stop_reason,
    )
