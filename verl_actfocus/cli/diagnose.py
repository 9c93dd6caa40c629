"""`actfocus diagnose`: where the return is decided, measured before a weighting is chosen."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from verl_actfocus import envs
from verl_actfocus.cli._environment_arguments import (
    add_limit_arguments,
    add_option_argument,
    add_prompt_style_argument,
    add_tag_arguments,
    add_template_argument,
    make_environment,
)
from verl_actfocus.cli._model_arguments import add_local_model_arguments
from verl_actfocus.cli._values import positive, seed, temperature, writable

#: Groups and episodes of each, as in He et al. 2026, §2.
_GROUPS, _GROUP_SIZE = 400, 16
#: Temperature of training.
_TEMPERATURE = 1.0
#: Episodes at a time.
_BATCH_SIZE = 64

if TYPE_CHECKING:
    from verl_actfocus.evaluation.settings import EvaluationSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two diagnoses."""
    parser.description = (
        "Measure where the return of an agent is decided and whether the signals of the paper see it, with a model and "
        "an environment of your own, before training or from what a run saved."
    )
    which = parser.add_subparsers(dest="diagnosis", metavar="DIAGNOSIS", required=True)
    correlation = which.add_parser(
        "correlation",
        help="how the mean signal of action and reasoning tokens goes with the spread of rewards (paper, §2)",
        description="Play groups of episodes, average each signal of the paper over all, reasoning and action tokens "
        "of a group, and correlate it (Spearman) with the standard deviation of the group's rewards. With --run the "
        "groups are those that a training run saved, step by step.",
    )
    _add_common(correlation, model_required=False)
    groups = correlation.add_argument_group("groups")
    groups.add_argument("--groups", type=positive, metavar="N", help="tasks (default 400, the paper's)")
    groups.add_argument("--group-size", type=positive, metavar="G", help="episodes of a task (default 16)")
    groups.add_argument(
        "--reference",
        metavar="PATH",
        help="frozen reference model, named like --model (default: the model itself, as before training)",
    )
    saved = correlation.add_argument_group("a training run, in place of a model")
    saved.add_argument("--run", metavar="DIR", type=Path, help="folder of a run that saved trajectories")
    saved.add_argument(
        "--pool",
        type=positive,
        metavar="N",
        help="saved steps that are taken together, the groups ranked within their step (default 1)",
    )
    decisions = which.add_parser(
        "decisions",
        help="which share of the return's variance the reasoning decides, and which the action (law of total variance)",
        description="In states of real episodes, draw reasonings, actions of each reasoning and futures of each "
        "action, and split the variance of the return within a state into what the reasoning decides, what the action "
        "decides once the reasoning is fixed, and what is decided after it.",
    )
    _add_common(decisions, model_required=True)
    draws = decisions.add_argument_group("draws")
    draws.add_argument(
        "--at-turn",
        type=_turn,
        nargs="+",
        default=[1],
        metavar="K",
        help="turns whose states are taken, from 1; 0 takes a turn of every episode at random (default 1)",
    )
    draws.add_argument("--states", type=positive, default=40, metavar="N", help="states of each turn (default 40)")
    draws.add_argument(
        "--draws",
        type=positive,
        nargs=3,
        default=[5, 5, 2],
        metavar=("M", "K", "F"),
        help="reasonings of a state, actions of a reasoning, futures of an action (default 5 5 2); with one future the "
        "action and what follows it are one share",
    )
    draws.add_argument(
        "--future",
        choices=["model", "greedy", "expert"],
        default="model",
        help="who plays the turns after the decision: the model as before, the model's most likely tokens, or the "
        "environment's expert; with the last two later turns blur less (default model)",
    )


def _add_common(parser: argparse.ArgumentParser, *, model_required: bool) -> None:
    parser.set_defaults(episodes=None, samples_per_task=None, first_task=None)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        required=model_required,
        metavar="PATH",
        help="folder of a Hugging Face model or a name on its hub; a veRL checkpoint (global_step_N), or a run's "
        "folder for its newest one",
    )
    add_local_model_arguments(model)
    tasks = parser.add_argument_group("tasks")
    tasks.add_argument("--env", help=f"environment, with the paper's settings: {', '.join(envs.ENVIRONMENTS)}")
    tasks.add_argument("--profile", metavar="NAME", help="settings of a packaged run, e.g. cpu_frozenlake")
    add_option_argument(parser)
    add_limit_arguments(parser)
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--temperature", type=temperature, help="of the sampling (default 1, that of training)")
    sampling.add_argument("--seed", type=seed, help="seed of the sampling (default 0); the tasks do not depend on it")
    add_tag_arguments(parser)
    add_prompt_style_argument(parser)
    add_template_argument(parser)
    running = parser.add_argument_group("running")
    running.add_argument("--batch-size", type=positive, metavar="N", help="episodes at a time (default 64)")
    running.add_argument(
        "--out", type=writable, metavar="DIR", help="folder of the results (default outputs/diagnose-…)"
    )


def run(args: argparse.Namespace) -> int:
    """Diagnose and print.

    Args:
        args: The parsed arguments.

    Returns:
        0; 1 if episodes ended in an infrastructure failure.

    Raises:
        ValueError: An argument names something that does not exist or does not fit.
        ExperimentError: The folder holds another diagnosis, or is in use.
    """
    from verl_actfocus.cli import _diagnosis

    if args.diagnosis == "correlation" and args.run is not None:
        from verl_actfocus.cli import _diagnosis_saved

        _refuse_more_than_a_run(args)
        args.pool = args.pool or 1
        return _diagnosis_saved.saved(args)
    if args.model is None:
        raise ValueError("name a model with --model, or a training run that saved trajectories with --run")
    args.temperature = _TEMPERATURE if args.temperature is None else args.temperature
    args.batch_size = args.batch_size or _BATCH_SIZE
    settings = settings_from(args)

    if args.diagnosis == "decisions":
        return _diagnosis.decisions(args, settings)
    if args.pool is not None:
        raise ValueError(
            "--pool takes saved steps of a training run together; name the run with --run, or leave it out"
        )
    if args.group_size == 1:
        raise ValueError("--group-size 1: the spread of a group's rewards needs at least 2 episodes")
    settings = dataclasses.replace(settings, tasks=args.groups or _GROUPS, samples=args.group_size or _GROUP_SIZE)
    return _diagnosis.correlation(args, settings)


def _refuse_more_than_a_run(args: argparse.Namespace) -> None:
    """Refuse what would be ignored beside `--run`.

    Raises:
        ValueError: an argument is of playing.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    unset = vars(parser.parse_args(["correlation"]))
    given = [
        name for name in unset if name not in ("diagnosis", "run", "pool", "out") and vars(args)[name] != unset[name]
    ]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"--run reads what a run saved and plays nothing; leave {flags} out")


def settings_from(args: argparse.Namespace) -> EvaluationSettings:
    """Return what is played: the tasks and budgets of an evaluation, sampled as in training.

    Raises:
        ValueError: Environment and profile do not fit, or a value is out of range.
    """
    from verl_actfocus.cli import evaluate

    settings = evaluate.settings_from(args)
    # An option that the class does not take is found before a model is loaded.
    make_environment(settings.environment, settings.options, settings.step_timeout).close()
    return settings


def _turn(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a turn: turns are counted from 1, and 0 takes any")
    return int(text)
