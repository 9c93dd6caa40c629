"""`actfocus train`: one training run, watched and resumable; every recipe begins with it."""

from __future__ import annotations

import argparse

from verl_actfocus.cli._alpha import ready
from verl_actfocus.cli._training import add_run_arguments, conditions_from, show, train
from verl_actfocus.cli._values import seed
from verl_actfocus.config.groups import profiles
from verl_actfocus.experiments.execution.launcher import plan
from verl_actfocus.experiments.runs.estimators import EstimatorChoice
from verl_actfocus.experiments.runs.weightings import WeightingChoice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Train one run: compose and check its configuration, start veRL, show how it gets on, explain a failure. The "
        "same command resumes what was interrupted. Words after -- go to veRL as Hydra overrides."
    )
    parser.add_argument("profile", metavar="PROFILE", help=f"a miniature or a recipe: {', '.join(profiles())}")
    parser.add_argument(
        "--weighting", default="actfocus", metavar="NAME", help="uniform, 'actfocus alpha=0.3', … (default actfocus)"
    )
    parser.add_argument(
        "--estimator", default="", metavar="NAME", help="gigpo, 'gigpo omega=0.5', … (default: the algorithm's own)"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="training seed (default 0)")
    parser.add_argument("--trial", action="store_true", help="try a recipe on the CPU: two small steps, a tiny model")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train.

    Args:
        args: the parsed arguments.

    Returns:
        0; 1 if the run failed, 130 after Ctrl-C.

    Raises:
        ValueError: an argument is unknown or out of range.
        ExperimentError: veRL is missing or of another version, the configuration is not valid, a recipe is asked for
            where there is no GPU, or the folder holds something else.
    """
    conditions = conditions_from(args, args.profile, trial=args.trial)
    estimators = [EstimatorChoice.parse(args.estimator)] if args.estimator else []
    runs = conditions.runs([WeightingChoice.parse(args.weighting)], [args.seed], estimators)
    planned = plan(ready(runs, measure=not args.dry_run))
    return show(planned) if args.dry_run else train("train", planned)
