"""How fast the environments are, beside gymnasium's plain FrozenLake."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium

from verl_actfocus import envs
from verl_actfocus.benchmarks.report import markdown_table

REFERENCE = "gymnasium FrozenLake-v1"
MOST_SECONDS = 3.0  # of stepping per row and round, so that a slow environment does not hold up the table
ROUNDS = 3  # through all rows in turn; the fastest counts, being the one that other programs disturbed least


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Speed of some environments that take turns in one process.

    Attributes:
        environments: How many there are.
        resets_seconds: Time to reset all of them once, in seconds.
        step_microseconds: Mean time of a step, in microseconds.
    """

    environments: int
    resets_seconds: float
    step_microseconds: float

    @property
    def steps_per_second(self) -> float:
        """Steps per second over all the environments."""
        return 1e6 / self.step_microseconds


def measure_all(names: Sequence[str], count: int, steps: int) -> list[tuple[str, Timing, float]]:
    """Time gymnasium's plain FrozenLake and environments of the registry, one alone and several that take turns.

    Args:
        names: Environments of the registry.
        count: How many take turns, beside the one alone.
        steps: Most steps to time per row.

    Returns:
        Name, timing, and time of a step over that of plain FrozenLake alone, row by row.
    """
    counts = sorted({1, count})
    rows = [(name, many) for name in (REFERENCE, *names) for many in counts]
    found: dict[tuple[str, int], list[Timing]] = {row: [] for row in rows}
    for _ in range(ROUNDS):
        for name, many in rows:
            share = -(-steps // ROUNDS)
            timed = (
                measure_plain_frozenlake(many, share)
                if name == REFERENCE
                else measure_text_environment(name, many, share)
            )
            found[name, many].append(timed)
    fastest = {row: min(timings, key=lambda one: one.step_microseconds) for row, timings in found.items()}
    plain = fastest[REFERENCE, 1].step_microseconds
    return [(name, timing, timing.step_microseconds / plain) for (name, _), timing in fastest.items()]


def markdown(rows: Sequence[tuple[str, Timing, float]]) -> str:
    """Write the rows as a table."""
    return markdown_table(
        ["environment", "count", "reset all (ms)", "steps/s", "µs/step", "against plain"],
        [
            [
                name,
                str(timing.environments),
                f"{1000 * timing.resets_seconds:.1f}",
                f"{timing.steps_per_second:.0f}",
                f"{timing.step_microseconds:.2f}",
                f"{ratio:.2f}",
            ]
            for name, timing, ratio in rows
        ],
    )


def measure_text_environment(name: str, count: int, steps: int) -> Timing:
    """Time `count` environments of the registry with random legal actions.

    Args:
        name: Name of the environment.
        count: How many take turns.
        steps: Most steps to time in all; fewer are if they take longer than `MOST_SECONDS`.

    Returns:
        The timing.
    """
    rng = random.Random(0)
    return measure(lambda: envs.make(name), lambda env: rng.choice(env.legal_actions()), count, steps)


def measure_plain_frozenlake(count: int, steps: int) -> Timing:
    """Time gymnasium's FrozenLake, which returns a number instead of text, without its wrappers.

    Args:
        count: How many take turns.
        steps: Most steps to time in all; fewer are if they take longer than `MOST_SECONDS`.

    Returns:
        The timing.
    """
    return measure(_plain_frozenlake, lambda env: env.action_space.sample(), count, steps)


def measure(make: Callable[[], Any], choose: Callable[[Any], Any], count: int, steps: int) -> Timing:
    """Time environments that take turns, each starting a new episode when its own ends.

    Args:
        make: Constructs an environment.
        choose: Chooses an action for an environment.
        count: How many environments take turns.
        steps: Most steps to time in all; fewer are if they take longer than `MOST_SECONDS`.

    Returns:
        The timing.
    """
    environments: Sequence[Any] = [make() for _ in range(count)]
    environments[0].reset(seed=0)  # loads whatever is loaded on first use
    began = time.perf_counter()
    for seed, env in enumerate(environments):
        env.reset(seed=seed)
    resets_seconds = time.perf_counter() - began
    microseconds = 1e6 * _mean_step(environments, choose, steps)
    return Timing(environments=count, resets_seconds=resets_seconds, step_microseconds=microseconds)


def _mean_step(environments: Sequence[Any], choose: Callable[[Any], Any], steps: int) -> float:
    """Return the mean time of a step in seconds, over at most `steps` steps of environments that take turns."""
    seconds, done = 0.0, 0
    while done < steps and seconds < MOST_SECONDS:
        env = environments[done % len(environments)]
        action = choose(env)
        began = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(action)
        seconds += time.perf_counter() - began
        done += 1
        if terminated or truncated:
            env.reset()
    return seconds / done


def _plain_frozenlake() -> Any:
    return gymnasium.make("FrozenLake-v1").unwrapped
