"""`actfocus compare`: train with several weightings and estimators, all else equal, and report the difference."""

from __future__ import annotations

import argparse

from verl_actfocus.cli._alpha import ready
from verl_actfocus.cli._training import add_run_arguments, conditions_from, show, train
from verl_actfocus.cli._values import positive
from verl_actfocus.experiments.execution.launcher import plan
from verl_actfocus.experiments.runs.estimators import OWN, EstimatorChoice, estimators_of
from verl_actfocus.experiments.runs.run import environments
from verl_actfocus.experiments.runs.weightings import ACTFOCUS, BASELINE, WeightingChoice, packaged_weightings

#: What is trained unless the command or its profile says otherwise.
_ENV = "frozenlake"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Train a tiny model on this machine, its CPU or one GPU, with every weighting (and every estimator), all "
        "else equal, and report the difference with its confidence interval. The same command continues what "
        "was interrupted and adds seeds to what is there. Words after -- go to veRL as Hydra overrides."
    )
    parser.add_argument("--env", default="", metavar="NAME", help=f"{' or '.join(environments())} (default {_ENV})")
    parser.add_argument("--profile", metavar="NAME", help="a miniature, or a recipe for GPUs (default cpu_<env>)")
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="training seeds (default 1)")
    parser.add_argument(
        "--weightings",
        nargs="+",
        default=[str(BASELINE), str(ACTFOCUS)],
        metavar="NAME",
        help=f"of {', '.join(packaged_weightings())}, with settings such as 'actfocus alpha=0.3' "
        f"(default {BASELINE} {ACTFOCUS})",
    )
    parser.add_argument(
        "--estimators",
        nargs="+",
        default=[],
        metavar="NAME",
        help="each is trained with every weighting; "
        + "; ".join(f"{algorithm}: {', '.join(estimators_of(algorithm))}" for algorithm in OWN)
        + ", with settings such as 'gigpo omega=0.5' (default: the algorithm's own, the first)",
    )
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train what is not trained yet and write the report.

    Args:
        args: the parsed arguments.

    Returns:
        0; 1 if a training run failed, 130 after Ctrl-C.

    Raises:
        ValueError: an argument is unknown or out of range.
        ExperimentError: veRL is missing or of another version, a recipe is asked for where there is no GPU, a
            configuration is not valid, or the folder holds something else.
    """
    if not args.profile and args.env and args.env not in environments():
        raise ValueError(f"no profile for {args.env!r}: choose one of {', '.join(environments())}, or name --profile")
    conditions = conditions_from(args, args.profile or f"cpu_{args.env or _ENV}", env=args.env)
    weightings = [WeightingChoice.parse(text) for text in args.weightings]
    estimators = [EstimatorChoice.parse(text) for text in args.estimators]
    runs = conditions.runs(weightings, range(args.seeds), estimators)
    planned = plan(ready(runs, measure=not args.dry_run))
    if args.dry_run:
        return show(planned)
    code = train("compare", planned)
    if code == 0:
        from verl_actfocus.cli.report import write_and_print

        write_and_print(conditions.folder)
    return code
