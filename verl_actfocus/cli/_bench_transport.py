"""`actfocus bench transport`: bytes, all-reduces and weighting memory of a step at a large scale."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from verl_actfocus.cli._signals import exit_on_signals
from verl_actfocus.cli._values import positive, writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmark."""
    parser.description = (
        "Count, in a short real run of stock veRL and of this package on two ranks, what every process puts into "
        "TransferQueue and gets from it, field by field, and its all-reduces; compute what that is at a "
        "larger scale. Then measure the memory of weighting a whole batch with a long tail of lengths, padded and "
        "jagged. Finished runs are kept."
    )
    scale = parser.add_argument_group("the scale that is computed (default: what 64 GPUs would train on)")
    scale.add_argument("--trajectories", type=positive, default=1024, metavar="N", help="of a step (default 1024)")
    scale.add_argument("--tokens", type=positive, default=16384, metavar="N", help="of a trajectory (default 16384)")
    scale.add_argument(
        "--prompt", type=positive, default=400, metavar="N", help="of them in the first prompt (default 400)"
    )
    parser.add_argument("--profile", default="cpu_frozenlake", help="miniature that is run (default %(default)s)")
    parser.add_argument(
        "--out", type=writable, default=Path("outputs/bench-transport"), help="folder (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Count, compute, measure, and write the tables.

    Raises:
        ValueError: The prompt is as long as the trajectory.
    """
    if args.prompt >= args.tokens:
        raise ValueError(
            f"--prompt {args.prompt} leaves nothing of --tokens {args.tokens} to a response; raise --tokens"
        )
    from verl_actfocus.benchmarks import padding, report, transport

    scale = transport.Scale(args.trajectories, args.tokens, args.prompt)
    measured = report.conditions()
    folder = args.out.resolve()
    exit_on_signals()
    counted = transport.count(folder, args.profile)
    lengths = padding.long_tailed_lengths(scale.trajectories, scale.tokens - scale.prompt)
    costs = padding.measure(lengths)
    values = {
        "conditions": measured,
        "scale": dataclasses.asdict(scale),
        "flows": {name: [dataclasses.asdict(flow) for flow in flows] for name, (flows, _) in counted.items()},
        "all_reduces": {name: {"number": number, "values": most} for name, (_, (number, most)) in counted.items()},
        "lengths": lengths,
        "weighting": {way: dataclasses.asdict(cost) for way, cost in costs.items()},
    }
    parts = [transport.markdown(counted, scale), padding.markdown(lengths, costs), report.conditions_line(measured)]
    report.write(folder, "transport", values, "\n\n".join(parts))
    return 0
