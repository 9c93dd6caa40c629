"""`actfocus bench step`: a training step of stock veRL and of this package in alternation."""

from __future__ import annotations

import argparse
from pathlib import Path

from verl_actfocus.cli._bench_device import add_device_argument
from verl_actfocus.cli._signals import exit_on_signals
from verl_actfocus.cli._values import positive, writable

#: Those of `verl_actfocus.benchmarks.variants`, whose import takes seconds; a test compares.
VARIANTS = ("stock-kl", "actfocus-kl", "actfocus-kl-shared", "stock", "actfocus", "actfocus-old")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmark."""
    parser.description = (
        "Train with stock veRL and with this package in alternation, whole runs of veRL's trainer, "
        "without learning, so that all do the same work. Reports every phase of a step and peak memory, medians, "
        "spread, and ratios. Finished runs are kept: the same command goes on where one was interrupted. Words after "
        "-- are Hydra overrides for all runs."
    )
    parser.add_argument("--out", type=writable, default=Path("outputs/bench-step"), help="folder (default %(default)s)")
    parser.add_argument(
        "--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME",
        help=f"what is compared: {', '.join(VARIANTS)} (default: all); each with the one that it is compared with",
    )  # fmt: skip
    parser.add_argument(
        "--algorithms", nargs="+", default=["grpo", "ppo"], choices=["grpo", "ppo"], help="default: both"
    )
    parser.add_argument(
        "--sizes", nargs="+", default=["tiny", "large"], choices=["tiny", "large"],
        help=(
            "the packaged tiny model, and 27 million parameters that play alike with a quarter of the "
            "trajectories (default: both)"
        ),
    )  # fmt: skip
    parser.add_argument("--rounds", type=positive, default=5, metavar="R", help="runs of each variant (default 5)")
    parser.add_argument("--steps", type=positive, default=8, metavar="N", help="steps of a run (default 8)")
    parser.add_argument(
        "--drop", type=positive, default=2, metavar="N", help="first steps of a run that do not count (default 2)"
    )
    parser.add_argument("--profile", default="cpu_frozenlake", help="miniature of the CPU (default %(default)s)")
    add_device_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything, list the runs, start none")
    parser.set_defaults(overrides=())


def run(args: argparse.Namespace) -> int:
    """Measure and write the tables."""
    from verl_actfocus.benchmarks.step import Plan, measure

    plan = Plan(
        folder=args.out.resolve(),
        variants=tuple(dict.fromkeys(args.variants)),
        algorithms=tuple(dict.fromkeys(args.algorithms)),
        sizes=tuple(dict.fromkeys(args.sizes)),
        rounds=args.rounds,
        steps=args.steps,
        drop=args.drop,
        profile=args.profile,
        device=args.device,
        extra=tuple(args.overrides),
    )
    if args.dry_run:
        plan.check()
        for size, algorithm, number, variant, one in plan.runs():
            state = "to do" if one.done is None else "done"
            print(f"{size} {algorithm} round {number} {variant.name}: {state}\n  {' '.join(one.overrides)}")
        return 0
    from verl_actfocus.benchmarks.devices import require_device

    require_device(args.device)
    exit_on_signals()
    measure(plan)
    return 0
