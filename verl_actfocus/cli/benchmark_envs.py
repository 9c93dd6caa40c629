"""`actfocus bench-envs`: how fast the environments are, beside gymnasium's plain FrozenLake."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium

from verl_actfocus import envs
from verl_actfocus.cli._environment_arguments import DEFAULT_ENVIRONMENTS, make_environment
from verl_actfocus.cli._values import positive

REFERENCE = "gymnasium FrozenLake-v1"
MOST_SECONDS = 10.0  # of stepping per row, so that a slow environment does not hold up the table
ROUNDS = 3  # of stepping per row; the fastest counts, being the one that other programs disturbed least


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Speed of some environments that take turns in one process.

    Attributes:
        environments: How many there are.
        resets_seconds: Time to reset all of them once, in seconds.
        step_microseconds: Mean time of a step in the fastest round, in microseconds.
    """

    environments: int
    resets_seconds: float
    step_microseconds: float

    @property
    def steps_per_second(self) -> float:
        """Steps per second over all the environments."""
        return 1e6 / self.step_microseconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Time reset and step with random legal actions, in one process, for a single environment and for "
        "several that take turns. Choosing the actions and starting new episodes is not counted as stepping; the "
        "fastest of three rounds is. "
        "The last column is the time of a step over that of gymnasium's FrozenLake without text, its "
        "wrappers removed, in the same run."
    )
    parser.add_argument(
        "--env", action="append", help=f"environment; may be repeated (default: {', '.join(DEFAULT_ENVIRONMENTS)})"
    )
    parser.add_argument("--environments", type=positive, default=128, help="how many take turns (default 128)")
    parser.add_argument("--steps", type=positive, default=20_000, help="most steps to time per row (default 20000)")


def run(args: argparse.Namespace) -> int:
    """Time and print one row per environment and number of environments.

    Args:
        args: The parsed arguments.

    Returns:
        0.

    Raises:
        ValueError: There is no environment of that name.
    """
    names = args.env or DEFAULT_ENVIRONMENTS
    for name in names:
        envs.spec(name)
    counts = sorted({1, args.environments})
    print(f"{'environment':<24} {'count':>5} {'reset all':>12} {'steps/s':>10} {'us/step':>8} {'vs plain':>9}")
    reference = measure_plain_frozenlake(1, args.steps)
    _show(REFERENCE, reference, reference)
    for count in counts[1:]:
        _show(REFERENCE, measure_plain_frozenlake(count, args.steps), reference)
    for name in names:
        for count in counts:
            _show(name, measure_text_environment(name, count, args.steps), reference)
    return 0


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
    return measure(lambda: make_environment(name, {}), lambda env: rng.choice(env.legal_actions()), count, steps)


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
    rounds = [_mean_step(environments, choose, -(-steps // ROUNDS)) for _ in range(ROUNDS)]
    return Timing(environments=count, resets_seconds=resets_seconds, step_microseconds=1e6 * min(rounds))


def _mean_step(environments: Sequence[Any], choose: Callable[[Any], Any], steps: int) -> float:
    """Return the mean time of a step in seconds, over at most `steps` steps of environments that take turns."""
    seconds, done = 0.0, 0
    while done < steps and seconds < MOST_SECONDS / ROUNDS:
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


def _show(name: str, timing: Timing, reference: Timing) -> None:
    ratio = timing.step_microseconds / reference.step_microseconds
    print(
        f"{name:<24} {timing.environments:>5} {1000 * timing.resets_seconds:>9.1f} ms "
        f"{timing.steps_per_second:>10.0f} {timing.step_microseconds:>8.2f} {ratio:>8.2f}x",
        flush=True,
    )
