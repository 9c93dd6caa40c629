"""Command-line arguments that several subcommands share: which environment, with which options, budgets and tags."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from verl_actfocus import envs
from verl_actfocus.cli._values import positive
from verl_actfocus.envs import TextEnv
from verl_actfocus.episodes import STANDARD_TAGS, TagSettings
from verl_actfocus.episodes.deadline import EnvironmentTimeoutError, make_within
from verl_actfocus.episodes.phrasing import PROMPT_STYLES

#: Budgets of an episode that can be given on the command line.
LIMITS = ("turns", "actions_per_turn", "actions", "words", "response_tokens")
#: The environments that a command takes unless others are named: the paper's, which need no extra package.
DEFAULT_ENVIRONMENTS = ("sokoban", "frozenlake", "sudoku", "webshop")

#: Seconds after which whoever sits at the terminal is told that an environment is not made.
PATIENCE = 600.0


def add_option_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--option KEY=VALUE`, which may be given several times."""
    parser.add_argument(
        "--option",
        type=parse_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of the environment's class, such as success_rate=0.8 or size=(7,7); may be repeated",
    )


def add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one argument for each budget of an episode."""
    for name in LIMITS:
        flag = f"--{name.replace('_', '-')}"
        own = "(default: the profile's, or the environment's)"
        parser.add_argument(flag, type=positive, metavar="N", help=f"budget '{name}' {own}")


def given_limits(args: argparse.Namespace) -> dict[str, int]:
    """Return the budgets that were given on the command line."""
    return {name: vars(args)[name] for name in LIMITS if vars(args)[name] is not None}


def add_tag_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tags of a response and the prefill, written as in a training run's overrides."""
    tags = parser.add_argument_group("tags", "what a response looks like: algorithm.actfocus.tags of a training run")
    tags.add_argument(
        "--action-tags",
        type=parse_tags,
        metavar="TAGS",
        help="\"['<act>','</act>']\", or rest: all that is not reasoning (default: the profile's, or <answer> and "
        "</answer>)",
    )
    tags.add_argument(
        "--reasoning-tags",
        type=parse_tags,
        metavar="TAGS",
        help="as before (default: the profile's, or <think> and </think>)",
    )
    tags.add_argument(
        "--prefill", metavar="TEXT", help="text that every response continues (default: the profile's, or <think>)"
    )


def add_prompt_style_argument(parser: argparse.ArgumentParser, default: str = "brief, or the profile's") -> None:
    """Add `--prompt-style`."""
    parser.add_argument(
        "--prompt-style",
        metavar="NAME",
        help="how a prompt asks for the response format: "
        + "; ".join(f"{name}: {style.summary}" for name, style in PROMPT_STYLES.items())
        + f" (default: {default})",
    )


def given_tags(args: argparse.Namespace, tags: TagSettings = STANDARD_TAGS) -> TagSettings:
    """Return tags, changed as the command line says.

    Raises:
        ValueError: The tags can be confused, or no valid response can continue the prefill.
    """
    given = {"action": args.action_tags, "reasoning": args.reasoning_tags, "prefill": args.prefill}
    try:
        changed = replace(tags, **{name: value for name, value in given.items() if value is not None})
        changed.left_to_write()
    except ValueError as error:
        raise ValueError(f"--action-tags, --reasoning-tags, --prefill: {error}") from error
    return changed


def add_template_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--template KEY=VALUE`, which may be given several times."""
    parser.add_argument(
        "--template",
        type=parse_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of the model's chat template, such as enable_thinking=False, as in a training run's "
        "data.apply_chat_template_kwargs; may be repeated",
    )


def parse_tags(text: str) -> Any:
    """Read a pair of tags, or a word.

    Raises:
        argparse.ArgumentTypeError: The text is no YAML.

    Example:
        >>> parse_tags("['<act>','</act>']")
        ['<act>', '</act>']
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no pair of tags, such as ['<act>','</act>']") from error


def parse_option(text: str) -> tuple[str, Any]:
    """Read one option.

    Args:
        text: `KEY=VALUE`; the value is a Python literal, or else taken as a string.

    Returns:
        Key and value.

    Raises:
        argparse.ArgumentTypeError: There is no "=" or no key.

    Example:
        >>> parse_option("size=(7,7)")
        ('size', (7, 7))
    """
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE, such as size=5")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value  # a bare word, such as split=test


def make_environment(name: str, options: Mapping[str, Any], seconds: float = PATIENCE) -> TextEnv:
    """Construct an environment of the registry for a command.

    Args:
        name: Name of the environment.
        options: Arguments of its class.
        seconds: Most time that this may take.

    Returns:
        The environment.

    Raises:
        ValueError: Name or options are wrong, or a package that the environment needs is missing: what whoever
            typed the command can correct.
    """
    envs.spec(name)
    try:
        return make_within(seconds, name, **options)
    except (ImportError, EnvironmentTimeoutError) as error:
        raise ValueError(str(error)) from error
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise ValueError(f"--option {given}: {error}") from error
