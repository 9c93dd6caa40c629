"""`actfocus bench prefixes`: what it gains to compute the shared prompt of a group once, with the model alone."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from verl_actfocus.cli._values import positive, writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmark."""
    parser.description = (
        "Compute log-probabilities and energies of a group of trajectories in a pass without a gradient, each by "
        "itself and with their common first prompt computed once, in alternation. This is the model alone; the "
        "trainer does so with algorithm.actfocus.share_prompts=true, which `actfocus bench step` measures."
    )
    parser.add_argument("--prompt", type=positive, default=300, metavar="N", help="tokens of the prompt (default 300)")
    parser.add_argument(
        "--response", type=positive, default=200, metavar="N", help="tokens of a response (default 200)"
    )
    parser.add_argument("--group", type=positive, default=16, metavar="G", help="trajectories of a group (default 16)")
    parser.add_argument("--rounds", type=positive, default=10, metavar="R", help="measurements of each (default 10)")
    parser.add_argument(
        "--out", type=writable, default=Path("outputs/bench-prefixes"), help="folder (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and write the result.

    Raises:
        ValueError: The responses are too short to have anything to compute on the shared prompt.
    """
    if args.response < 2:
        raise ValueError(
            f"--response {args.response}: the first token of a response is predicted by the prompt; give 2 or more"
        )
    from verl_actfocus.benchmarks import prefixes, report

    measured = report.conditions()
    result = prefixes.measure(prompt=args.prompt, response=args.response, group=args.group, rounds=args.rounds)
    values = {"conditions": measured, **dataclasses.asdict(result)}
    report.write(args.out, "prefixes", values, f"{result}\n\n{report.conditions_line(measured)}")
    return 0
