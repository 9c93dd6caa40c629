"""`actfocus experts`: how often the solvers win within the budget of actions."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

from verl_actfocus import envs
from verl_actfocus.cli._environment_arguments import (
    DEFAULT_ENVIRONMENTS,
    add_option_argument,
    make_environment,
)
from verl_actfocus.cli._values import positive
from verl_actfocus.envs import Expert, TextEnv


@dataclass(frozen=True, kw_only=True)
class ExpertRecord:
    """What an expert achieved.

    Attributes:
        episodes: Episodes played.
        successes: Episodes solved within the budget of actions.
        actions: Mean actions per episode.
        reward: Mean total reward per episode.
        milliseconds: Mean time per action of the expert, in milliseconds.
    """

    episodes: int
    successes: int
    actions: float
    reward: float
    milliseconds: float

    @property
    def success_rate(self) -> float:
        """Share of episodes solved."""
        return self.successes / self.episodes

    @property
    def standard_error(self) -> float:
        """Standard error of the success rate over the episodes."""
        return math.sqrt(self.success_rate * (1 - self.success_rate) / self.episodes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Let the experts play, one action at a time, with the action budget of each environment, and print "
        "how often they win. Episode i has seed i."
    )
    everyone = f"all (default: {', '.join(DEFAULT_ENVIRONMENTS)}) or one of {', '.join(envs.having('expert'))}"
    parser.add_argument("--env", default="all", help=everyone)
    parser.add_argument("--episodes", type=positive, default=500, help="episodes per environment (default 500)")
    add_option_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Play and print one line per environment.

    Args:
        args: The parsed arguments.

    Returns:
        0.

    Raises:
        ValueError: There is no expert of that name, or options are given for all of them.
    """
    if args.env == "all" and args.option:
        raise ValueError("--option belongs to one environment: name it with --env")
    print(f"{'environment':<12} {'success':>16} {'actions':>8} {'reward':>8} {'ms/action':>10}")
    for name in DEFAULT_ENVIRONMENTS if args.env == "all" else [args.env]:
        expert = envs.expert(name)
        record = measure(name, make_environment(name, dict(args.option)), expert, args.episodes)
        rate = f"{100 * record.success_rate:.1f}% +- {100 * record.standard_error:.1f}"
        print(
            f"{name:<12} {rate:>16} {record.actions:>8.2f} {record.reward:>8.2f} {record.milliseconds:>10.3f}",
            flush=True,
        )
    return 0


def measure(name: str, env: TextEnv, expert: Expert, episodes: int) -> ExpertRecord:
    """Play episodes with seeds 0, 1, and so on.

    Args:
        name: Name of the environment, for its budget of actions.
        env: The environment.
        expert: Its expert.
        episodes: How many.

    Returns:
        The record.
    """
    successes, actions, reward, seconds = 0, 0, 0.0, 0.0
    for seed in range(episodes):
        env.reset(seed=seed)
        for _ in range(envs.spec(name).limits.actions):
            began = time.perf_counter()
            action = expert(env)
            seconds += time.perf_counter() - began
            _, gained, terminated, truncated, info = env.step(action)
            actions += 1
            reward += gained
            successes += info["success"]
            if terminated or truncated:
                break
    return ExpertRecord(
        episodes=episodes,
        successes=successes,
        actions=actions / episodes,
        reward=reward / episodes,
        milliseconds=1000 * seconds / actions,
    )
