"""What the subcommands that train have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from verl_actfocus.cli._codes import INCOMPLETE, INTERRUPTED
from verl_actfocus.cli._signals import exit_on_signals
from verl_actfocus.cli._values import positive, writable
from verl_actfocus.config.groups import profile_folder
from verl_actfocus.experiments.execution.launcher import Planned, launch, listing
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.machine import MEMORY_OF_A_RUN, free_memory
from verl_actfocus.experiments.runs.composition import subject
from verl_actfocus.experiments.runs.requirements import require_attention, require_cluster, require_gpu
from verl_actfocus.experiments.runs.run import DEVICES, ESTIMATORS, PLATFORM_VARIABLE, Conditions

#: What a profile that leaves the algorithm open is trained with.
_ALGORITHM = "grpo"


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what one run or several alike are."""
    parser.add_argument(
        "--algorithm", metavar="NAME", help=f"{' or '.join(ESTIMATORS)} (default: the profile's, or {_ALGORITHM})"
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="training steps (default: the profile's)")
    parser.add_argument(
        "--out",
        type=writable,
        metavar="DIR",
        help="folder in which every run has one of its own (default outputs/<algorithm>-<environment>, "
        "outputs/<recipe>, with -cuda or -trial)",
    )
    parser.add_argument(
        "--device", default="", choices=[*DEVICES], help="where a miniature is trained: this CPU, or one GPU "
        "(default cpu); a recipe is for GPUs as it is",
    )  # fmt: skip
    add_dry_run_argument(parser)
    parser.set_defaults(overrides=())


def add_dry_run_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--dry-run`."""
    parser.add_argument(
        "--dry-run", action="store_true", help="check the runs, list their state and their commands, train nothing"
    )


def conditions_from(args: argparse.Namespace, profile: str, env: str = "", trial: bool = False) -> Conditions:
    """Take the conditions of runs from the arguments of `add_run_arguments` and the profile.

    Raises:
        ValueError: the profile is unknown, or a value is out of range.
    """
    trained, algorithm = subject(profile)
    algorithm = args.algorithm or algorithm or _ALGORITHM
    name = profile if profile_folder(profile) == "recipe" else f"{algorithm}-{trained}"
    name += "-trial" if trial else "-cuda" if args.device == "cuda" else ""
    return Conditions(
        profile=profile,
        algorithm=algorithm,
        folder=args.out or Path("outputs") / name,
        env=env,
        steps=args.steps,
        trial=trial,
        device=args.device,
        extra=tuple(args.overrides),
    )


def train(
    command: str,
    planned: Sequence[Planned],
    *,
    keep_going: bool = False,
    when_done: Callable[[RunFolder], None] | None = None,
) -> int:
    """Train what is not finished, and say what went wrong.

    Args:
        command: the subcommand, for messages.
        planned: the runs.
        keep_going: whether a failure leaves the others to be trained.
        when_done: called with every run that is done, also with one that was finished before.

    Returns:
        0; 1 if a run failed, 130 after Ctrl-C.

    Raises:
        ExperimentError: there is no GPU for runs that need one.
    """
    _require_machine(planned)
    exit_on_signals()
    try:
        failures = launch(planned, keep_going=keep_going, when_done=when_done)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    for failure in failures:
        print(f"actfocus {command}: {failure.error}", file=sys.stderr)
    if failures:
        print("once the cause is removed, the same command continues from the last checkpoint", file=sys.stderr)
    return INCOMPLETE if failures else 0


def show(planned: Sequence[Planned]) -> int:
    """Print what a dry run says; returns 0."""
    print(listing(planned))
    return 0


def _require_machine(planned: Sequence[Planned]) -> None:
    """Make sure that runs for GPUs have some; say so if runs on this machine's CPU may lack memory."""
    for nodes, on_cpu in dict.fromkeys((one.composed.nodes, one.run.conditions.on_cpu) for one in planned):
        require_cluster(nodes, {PLATFORM_VARIABLE: "cpu"} if on_cpu else {})
    on_gpu = [one.composed for one in planned if not one.run.conditions.on_cpu]
    if on_gpu:
        require_gpu(alone=any(one.run.conditions.small for one in planned))
        for name in dict.fromkeys(composed.attention for composed in on_gpu):
            require_attention(name)
        return
    free = free_memory()
    if free < MEMORY_OF_A_RUN:
        print(
            f"warning: {free / 1e9:.1f} GB of memory are free and a run takes about {MEMORY_OF_A_RUN / 1e9:.0f} GB; "
            "it may be killed",
            file=sys.stderr,
        )
