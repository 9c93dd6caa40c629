"""`actfocus eval`: how well a model plays, outside of training, with confidence intervals."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_actfocus import envs
from verl_actfocus.cli._codes import INCOMPLETE
from verl_actfocus.cli._environment_arguments import (
    add_limit_arguments,
    add_option_argument,
    add_prompt_style_argument,
    add_tag_arguments,
    add_template_argument,
    given_limits,
    given_tags,
    make_environment,
)
from verl_actfocus.cli._model_arguments import add_local_model_arguments, local_model, short_name
from verl_actfocus.cli._values import positive, seed, temperature, writable
from verl_actfocus.evaluation import table

if TYPE_CHECKING:
    from verl_actfocus.evaluation.policy import Policy
    from verl_actfocus.evaluation.records import EvaluationFolder
    from verl_actfocus.evaluation.runner import Attempt
    from verl_actfocus.evaluation.settings import EvaluationSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Let a model play the tasks of a training run's evaluation, with the prompts of training, and report success, "
        "pass@k, valid turns and response length with 95 % confidence intervals. Without --profile the settings are "
        "the paper's. The same command continues an evaluation that was interrupted."
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        required=True,
        metavar="PATH",
        help="folder of a Hugging Face model or a name on its hub; a model of the package, such as frozenlake; a veRL "
        "checkpoint (global_step_N), or a run's folder for its newest one; with --endpoint the server's name of the "
        "model",
    )
    model.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible server that answers, such as vLLM's")
    model.add_argument(
        "--timeout",
        type=positive,
        metavar="SECONDS",
        help="with --endpoint: most seconds for one response, the server's queue included (default 300)",
    )
    add_local_model_arguments(model)
    tasks = parser.add_argument_group("tasks")
    tasks.add_argument("--env", help=f"environment, with the paper's settings: {', '.join(envs.ENVIRONMENTS)}")
    tasks.add_argument(
        "--profile",
        metavar="NAME",
        help="settings of a packaged run's evaluation, e.g. cpu_frozenlake or sokoban_ppo",
    )
    tasks.add_argument("--episodes", type=positive, metavar="N", help="episodes in all (default: tasks × samples)")
    tasks.add_argument("--samples-per-task", type=positive, metavar="K", help="episodes of each task (paper: 16)")
    tasks.add_argument(
        "--first-task",
        type=seed,
        metavar="N",
        help="environment seed of the first task, the others follow (default: the profile's, mostly 0)",
    )
    add_option_argument(parser)
    add_limit_arguments(parser)
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "--temperature",
        type=temperature,
        help="0 is the most likely token (default: the profile's; with --env 0.5, the paper's)",
    )
    sampling.add_argument("--seed", type=seed, help="seed of the sampling (default 0); the tasks do not depend on it")
    add_tag_arguments(parser)
    add_prompt_style_argument(parser)
    add_template_argument(parser)
    running = parser.add_argument_group("running")
    running.add_argument("--batch-size", type=positive, default=64, metavar="N", help="episodes at a time (default 64)")
    running.add_argument("--out", type=writable, metavar="DIR", help="folder of the results (default outputs/eval-…)")


def run(args: argparse.Namespace) -> int:
    """Evaluates and prints.

    Args:
        args: The parsed arguments.

    Returns:
        0; 1 if episodes ended in an infrastructure failure.

    Raises:
        ValueError: An argument names something that does not exist or does not fit.
        ExperimentError: The folder holds another evaluation, or is in use.
    """
    settings = settings_from(args)
    # An option that the class does not take is found before a model is loaded.
    make_environment(settings.environment, settings.options, settings.step_timeout).close()
    from verl_actfocus.evaluation.policy import closing
    from verl_actfocus.evaluation.progress import EvaluationProgress
    from verl_actfocus.evaluation.records import EvaluationFolder
    from verl_actfocus.evaluation.runner import run as play

    folder = EvaluationFolder(args.out or Path("outputs") / f"eval-{args.profile or args.env}-{short_name(args.model)}")
    folder.check()
    policy = _policy(args)
    with closing(policy):
        _say_if_short(policy.context, settings)
        with folder.claimed({"model": policy.identity(), "evaluation": settings.as_dict()}):
            print(table.heading(args.model, settings), file=sys.stderr, flush=True)
            progress = EvaluationProgress("eval", settings.episodes)
            attempt = play(policy, settings, folder, at_once=args.batch_size, watch=progress.show)
            progress.close(attempt)
            return _report(args.model, settings, policy, folder, attempt)


def settings_from(args: argparse.Namespace) -> EvaluationSettings:
    """Take the settings of the profile, or the paper's for the environment, changed as the arguments say.

    Raises:
        ValueError: Neither or both do not fit, or a value is out of range.
    """
    from verl_actfocus.evaluation.settings import paper_settings, profile_settings

    if args.profile is not None:
        settings = profile_settings(args.profile)
        if args.env not in (None, settings.environment):
            raise ValueError(f"--profile {args.profile} is of {settings.environment}, not of --env {args.env}")
    elif args.env is not None:
        envs.spec(args.env)
        settings = paper_settings(args.env)
    else:
        raise ValueError("name an environment with --env, or the settings of a training run with --profile")
    changes = ("temperature", "seed", "first_task")
    given: dict[str, Any] = {name: vars(args)[name] for name in changes if vars(args)[name] is not None}
    options = dict(args.option)
    training = settings.training_options
    changed = dataclasses.replace(
        settings.with_limits(given_limits(args)),
        options={**settings.options, **options},
        training_options=None if training is None else {**training, **options},
        tags=given_tags(args, settings.tags),
        template={**settings.template, **dict(args.template)},
        **given,
    )
    if args.prompt_style is not None:
        changed = changed.with_prompt_style(args.prompt_style)
    return changed.with_episodes(args.episodes, args.samples_per_task)


def _policy(args: argparse.Namespace) -> Policy:
    """Connects to the server, or loads the model, merged before if it is a checkpoint."""
    if args.endpoint is not None:
        if args.device or args.dtype:
            raise ValueError("--device and --dtype are the server's with --endpoint; leave them out")
        from verl_actfocus.evaluation.endpoint import EndpointModel
        from verl_actfocus.evaluation.server import DEADLINE

        deadline = DEADLINE if args.timeout is None else args.timeout
        return EndpointModel(args.endpoint, args.model, args.tokenizer or args.model, deadline=deadline)
    if args.timeout is not None:
        raise ValueError("--timeout is for the server's answers; leave it out without --endpoint")
    return local_model(args.model, tokenizer=args.tokenizer, device=args.device, dtype=args.dtype)


def _say_if_short(context: int | None, settings: EvaluationSettings) -> None:
    """Say so if the model's context ends episodes that the settings would let go on."""
    allowed = settings.lengths.most
    if context is not None and context < allowed:
        print(
            f"note: an episode may have {allowed} tokens, and the model's context holds {context}; longer episodes end "
            "as response_cut or context_full",
            file=sys.stderr,
        )


def _report(
    model: str, settings: EvaluationSettings, policy: Policy, folder: EvaluationFolder, attempt: Attempt
) -> int:
    """Write the summary and print it; return the exit code."""
    from verl_actfocus.evaluation.figures import figures, stop_reasons
    from verl_actfocus.evaluation.summary import write_summary

    missing = write_summary(model, settings, policy, folder, attempt)
    if attempt.finished:
        print(table.table(figures(attempt.finished), stop_reasons(attempt.finished)))
    print(f"written: {folder.summary}, {folder.trajectories}")
    if not missing:
        return 0
    print(
        f"actfocus eval: {missing} of {settings.episodes} episodes are missing and in no figure: "
        f"{len(attempt.failures)} ended in an infrastructure failure ({folder.failures}), "
        f"{missing - len(attempt.failures)} were not begun\n{table.failures(attempt.failures)}\n"
        "once the cause is removed, the same command plays them",
        file=sys.stderr,
    )
    return INCOMPLETE
