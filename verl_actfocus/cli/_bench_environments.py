"""`actfocus bench environments`: how fast the environments are."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from verl_actfocus.cli._environment_arguments import DEFAULT_ENVIRONMENTS, make_environment
from verl_actfocus.cli._values import positive, writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmark."""
    parser.description = (
        "Time reset and step with random legal actions, in one process, for a single environment and for several "
        "that take turns. Choosing the actions and starting new episodes is not counted as stepping; the fastest of "
        "three rounds is. The last column is the time of a step over that of gymnasium's FrozenLake without text, "
        "its wrappers removed, in the same run."
    )
    parser.add_argument(
        "--env", action="append", help=f"environment; may be repeated (default: {', '.join(DEFAULT_ENVIRONMENTS)})"
    )
    parser.add_argument("--environments", type=positive, default=128, help="how many take turns (default 128)")
    parser.add_argument("--steps", type=positive, default=20_000, help="most steps to time per row (default 20000)")
    parser.add_argument(
        "--out", type=writable, default=Path("outputs/bench-environments"), help="folder (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Time one row per environment and number of environments.

    Raises:
        ValueError: There is no environment of that name, or a package that it needs is missing.
    """
    from verl_actfocus.benchmarks import environments, report

    names = args.env or DEFAULT_ENVIRONMENTS
    for name in names:
        make_environment(name, {})
    measured = report.conditions()
    rows = environments.measure_all(names, args.environments, args.steps)
    values = [
        {"environment": name, "against_plain": ratio, **dataclasses.asdict(timing)} for name, timing, ratio in rows
    ]
    text = f"{environments.markdown(rows)}\n\n{report.conditions_line(measured)}"
    report.write(args.out, "environments", {"conditions": measured, "rows": values}, text)
    return 0
