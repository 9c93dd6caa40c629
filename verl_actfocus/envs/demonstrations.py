"""What an environment declares for its tiny model: a task small enough for it, and the play that it imitates.

What a demonstration says and what it does differ on purpose. The reasoning states facts of the page and what would be
best, all true; each action then follows that only with a certain probability and is otherwise another one. A model that
imitates this knows the page better than it acts: the best action is its clear mode, and reinforcement learning, which
sharpens actions, has room to improve. A demonstration knows nothing that is not on the page.

For experiments on where the decision falls, the same play can be had with its noise elsewhere (`DECIDED_BY`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np

from verl_actfocus.envs.base import EpisodeLimits, TextEnv
from verl_actfocus.envs.registry import make

FOLLOW = 0.6
"""Probability that an action in a grid follows what the reasoning states."""

SINGLE = 0.1
"""Probability that a turn plans one action although two are allowed and needed."""

STEPS = {"Left": (0, -1), "Down": (1, 0), "Right": (0, 1), "Up": (-1, 0)}

Cell: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Noise:
    """Where a response in a grid leaves the best way.

    Attributes:
        said: Probability that a step which the reasoning states is the best one; None for a reasoning that states none.
        done: Probability that an action is the step which was stated, or the best one where none was.
    """

    said: float | None
    done: float


PACKAGED = Noise(said=1.0, done=FOLLOW)
"""The reasoning is true, the action departs from it: what the packaged models imitate."""

_EACH = (1 + (1 - 4 * (1 - 3 * FOLLOW)) ** 0.5) / 4
"""Two departures of this probability hit the best of four steps as often as one of `FOLLOW`: p² + (1 - p)² / 3."""

DECIDED_BY = {
    "action": Noise(said=None, done=FOLLOW),
    "reasoning": Noise(said=FOLLOW, done=1.0),
    "both": Noise(said=_EACH, done=_EACH),
}
"""What a response's tokens decide about the step that is taken. All three take the best one equally often."""

_KNOWS = {
    "action": "names no way, its actions follow the shortest one only part of the time",
    "reasoning": "states the shortest way only part of the time, its actions do what it states",
    "both": "states the shortest way only part of the time, and its actions depart from what it states",
}


@dataclass(frozen=True)
class Response:
    """One demonstrated response, without tags.

    Attributes:
        reasoning: What it thinks.
        actions: What it does, each with the space before it that a tokenizer shall see, so that it has one token for
            an action and for its mention in the reasoning or on the page.
    """

    reasoning: str
    actions: tuple[str, ...]


#: Responds to the present state: takes the environment, a generator for wording and noise, the most actions of a turn.
Demonstrate: TypeAlias = Callable[[TextEnv, np.random.Generator, int], Response]


class DemonstrateWithNoise(Protocol):
    """A `Demonstrate` whose noise can be chosen."""

    def __call__(self, env: TextEnv, rng: np.random.Generator, max_actions: int, *, noise: Noise) -> Response:
        """Respond to the present state."""


@dataclass(frozen=True, kw_only=True)
class Miniature:
    """A task of an environment that a model of a million parameters can learn, and how it is taught.

    Attributes:
        environment: Name in the environment registry.
        limits: Budgets of an episode.
        options: Keyword arguments of the environment.
        evaluation_options: Keyword arguments that differ in evaluation, where other seeds alone do not keep the tasks
            apart.
        demonstrate: Writes the response that is imitated.
        iterations: Optimizer steps of a full warm start.
        knows: What a model says right and does wrong, for its card: the end of "its reasoning …".
        refusals: Whether demonstrated actions may be ones that the environment refuses.
        vocabulary: Entries of the tokenizer's BPE vocabulary.
        with_noise: The same play with its noise elsewhere; None where that cannot be chosen.
        decides: Key of `DECIDED_BY` that `demonstrate` was made with; None for the packaged noise.
    """

    environment: str
    limits: EpisodeLimits
    options: Mapping[str, Any] = field(default_factory=dict)
    evaluation_options: Mapping[str, Any] = field(default_factory=dict)
    demonstrate: Demonstrate
    iterations: int
    knows: str = "states the shortest way, its actions follow that way only part of the time"
    refusals: bool = False
    vocabulary: int = 512
    with_noise: DemonstrateWithNoise | None = None
    decides: str | None = None

    @property
    def command(self) -> str:
        """Arguments of `actfocus warmstart` that name the task."""
        return self.environment if self.decides is None else f"{self.environment} --decides {self.decides}"

    def decided_by(self, part: str) -> Miniature:
        """Return the same task, demonstrated so that this part of a response decides what is done.

        Args:
            part: A key of `DECIDED_BY`.

        Raises:
            ValueError: There is no such part, or the environment's demonstrations cannot choose.
        """
        if part not in DECIDED_BY:
            raise ValueError(
                f"{part!r} is no part of a response that could decide: choose from {', '.join(DECIDED_BY)}"
            )
        if self.with_noise is None:
            raise ValueError(
                f"the demonstrations of {self.environment} cannot choose what decides; those of frozenlake can"
            )
        demonstrate = partial(self.with_noise, noise=DECIDED_BY[part])
        return replace(self, demonstrate=demonstrate, knows=_KNOWS[part], decides=part)

    def make_env(self) -> TextEnv:
        """Construct the environment of the demonstrations."""
        return make(self.environment, **self.options)

    @property
    def options_in_evaluation(self) -> dict[str, Any]:
        """Keyword arguments of the environment that a model is measured in."""
        return {**self.options, **self.evaluation_options}


def pick(rng: np.random.Generator, *texts: str) -> str:
    """Draw one of the texts."""
    return texts[rng.integers(len(texts))]


def strayed(way: Sequence[str], follow: float, rng: np.random.Generator) -> list[str]:
    """Return a way through a grid each of whose steps is this one's with probability `follow`, else another."""
    if follow == 1:
        return list(way)
    others = {action: [step for step in STEPS if step != action] for action in STEPS}
    return [action if rng.random() < follow else pick(rng, *others[action]) for action in way]


def walk(way: Sequence[str], rng: np.random.Generator, follow: float = FOLLOW) -> tuple[str, ...]:
    """Return the actions of a response that plans a way through a grid; each follows it with this probability."""
    return tuple(f" {action}" for action in strayed(way, follow, rng))


def shortened(way: list[str], rng: np.random.Generator) -> list[str]:
    """Return the way, seldom its first step alone."""
    return way[:1] if len(way) > 1 and rng.random() < SINGLE else way


def offset_sentence(here: Cell, goal: Cell, rng: np.random.Generator) -> str:
    """Say how far it is from one cell (row, column) to another."""
    rows, columns = goal[0] - here[0], goal[1] - here[1]
    parts = [f"{abs(rows)} {'down' if rows > 0 else 'up'}"] if rows else []
    parts += [f"{abs(columns)} {'right' if columns > 0 else 'left'}"] if columns else []
    offset = " and ".join(parts)
    return pick(rng, f"That is {offset}.", f"So the way is {offset}.", f"It lies {offset} from there.")


def way_sentence(way: Sequence[str], rng: np.random.Generator) -> str:
    """Say which one or two steps are next."""
    if len(way) == 1:
        return pick(rng, f"The best step is {way[0]}.", f"I go {way[0]} now.")
    first, second = way
    return pick(rng, f"The best way is {first} and then {second}.", f"I go {first} and {second}.")


def wayless_sentence(rng: np.random.Generator) -> str:
    """Say as much as `way_sentence`, but no step."""
    return pick(rng, "The best way is clear from here.", "I go on and move.", "I go there now.")
