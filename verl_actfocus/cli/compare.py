"""``actfocus compare``: train with several methods under the same conditions and report the difference."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from verl_actfocus.cli._environment_arguments import positive
from verl_actfocus.cli._training import INTERRUPTED, RUN_FAILED, end_cleanly, require_machine
from verl_actfocus.experiments.comparison import Comparison, run_comparison
from verl_actfocus.experiments.errors import RunFailedError
from verl_actfocus.experiments.requirements import require_verl
from verl_actfocus.experiments.runs import ESTIMATORS, environments, methods
from verl_actfocus.experiments.settings import subject

#: What is trained unless the command or its profile says otherwise.
_ENV, _ALGORITHM = "frozenlake", "grpo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Train a tiny model on this machine's CPU with every method, everything else being equal, and report the "
        "difference with its confidence interval. The same command continues what was interrupted and adds seeds to "
        "what is there. Words after -- go to veRL as Hydra overrides."
    )
    parser.add_argument(
        "--algorithm", metavar="NAME", help=f"{' or '.join(ESTIMATORS)} (default: the profile's, or {_ALGORITHM})"
    )
    parser.add_argument(
        "--env", metavar="NAME", help=f"{' or '.join(environments())} (default: the profile's, or {_ENV})"
    )
    parser.add_argument("--steps", type=positive, default=50, metavar="N", help="training steps (default 50)")
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="training seeds (default 1)")
    parser.add_argument(
        "--methods", nargs="+", default=["uniform", "actfocus"], metavar="NAME", help=f"of {', '.join(methods())}"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of runs and report (default outputs/<algorithm>-<env>)"
    )
    parser.add_argument(
        "--profile", default="", metavar="NAME", help="run profile, or a recipe for GPUs (default cpu_<env>)"
    )
    parser.set_defaults(overrides=())


def run(args: argparse.Namespace) -> int:
    """Train what is not trained yet and write the report.

    Args:
        args: the parsed arguments.

    Returns:
        0; 1 if a training run failed, 130 after Ctrl-C.

    Raises:
        ValueError: an argument is unknown or out of range.
        ExperimentError: veRL is missing or of another version, a recipe is asked for where there is no GPU, the profile
            is of another environment or algorithm, or the folder holds something else.
    """
    require_verl()
    profile_env, profile_algorithm = subject(args.profile) if args.profile else (_ENV, None)
    env, algorithm = args.env or profile_env, args.algorithm or profile_algorithm or _ALGORITHM
    out = args.out or Path("outputs") / f"{algorithm}-{env}"
    comparison = Comparison(
        algorithm=algorithm,
        env=env,
        steps=args.steps,
        seeds=args.seeds,
        methods=tuple(args.methods),
        out=out,
        extra=args.overrides,
        profile=args.profile,
    )
    require_machine(comparison.runs())
    end_cleanly()
    try:
        run_comparison(comparison)
    except RunFailedError as error:
        print(f"actfocus compare: {error}", file=sys.stderr)
        print("once the cause is removed, the same command continues from the last checkpoint", file=sys.stderr)
        return RUN_FAILED
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    from verl_actfocus.cli.report import write_and_print

    write_and_print(out)
    return 0
