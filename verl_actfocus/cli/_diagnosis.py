"""The diagnoses of `actfocus diagnose` that play: from the parsed arguments to models, folder and exit code."""

from __future__ import annotations

import argparse
from pathlib import Path

from verl_actfocus.cli._codes import INCOMPLETE
from verl_actfocus.cli._model_arguments import local_model, short_name
from verl_actfocus.diagnosis.correlation_run import run_correlation
from verl_actfocus.diagnosis.decisions_run import run_decisions
from verl_actfocus.diagnosis.design import Design
from verl_actfocus.envs import registry
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.settings import EvaluationSettings


def correlation(args: argparse.Namespace, settings: EvaluationSettings) -> int:
    """Play groups and correlate; see `cli.diagnose.run`."""
    policy, reference = _model(args, args.model), None
    if args.reference is not None:
        reference = _model(args, args.reference)
        if reference.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
            raise ValueError(f"--reference {args.reference} has another vocabulary than --model {args.model}")
    complete = run_correlation(
        policy, reference, settings, _folder(args), at_once=args.batch_size, model=Path(args.model).name
    )
    return 0 if complete else INCOMPLETE


def decisions(args: argparse.Namespace, settings: EvaluationSettings) -> int:
    """Draw and split the variance; see `cli.diagnose.run`."""
    reasonings, actions, futures = args.draws
    design = Design(reasonings, actions, futures, args.future)
    latest = max(args.at_turn)
    if latest > settings.limits.turns:
        raise ValueError(f"--at-turn {latest}: an episode has at most {settings.limits.turns} turns here")
    if design.future == "expert":
        registry.expert(settings.environment)  # refused before the model is loaded
    complete = run_decisions(
        _model(args, args.model),
        settings,
        design,
        _folder(args),
        turns=args.at_turn,
        states=args.states,
        at_once=args.batch_size,
        model=Path(args.model).name,
    )
    return 0 if complete else INCOMPLETE


def _model(args: argparse.Namespace, name: str) -> LocalModel:
    return local_model(name, tokenizer=args.tokenizer, device=args.device, dtype=args.dtype)


def _folder(args: argparse.Namespace) -> Path:
    own = f"diagnose-{args.diagnosis}-{args.profile or args.env}-{short_name(args.model)}"
    return args.out or Path("outputs") / own
