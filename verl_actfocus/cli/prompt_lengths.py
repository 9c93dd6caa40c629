"""`actfocus prompt-lengths`: how many tokens the prompts of the environments have for a model, to choose lengths by."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from verl_actfocus import envs
from verl_actfocus.cli._environment_arguments import (
    DEFAULT_ENVIRONMENTS,
    add_limit_arguments,
    add_option_argument,
    add_prompt_style_argument,
    add_tag_arguments,
    add_template_argument,
    given_limits,
    given_tags,
    make_environment,
)
from verl_actfocus.cli._policies import random_policy
from verl_actfocus.cli._values import positive
from verl_actfocus.config.groups import packaged_groups
from verl_actfocus.envs import EpisodeLimits, TextEnv
from verl_actfocus.episodes import STANDARD_TAGS, Episode, TagSettings
from verl_actfocus.episodes.action_policy import ActionPolicy
from verl_actfocus.episodes.phrasing import BRIEF, STANDARD_PHRASING, Phrasing
from verl_actfocus.episodes.tokens import conversation
from verl_actfocus.episodes.worked_turns import phrasing_of

if TYPE_CHECKING:
    from verl_actfocus.episodes.tokens import PromptBuilder


@dataclass
class Lengths:
    """Tokens of some episodes' prompts.

    Attributes:
        first: First prompt of each episode.
        later: Every later message, all episodes together, with what stands around it.
        together: Sum of the later messages of each episode.
        turns: Responses of each episode.
    """

    first: list[int] = field(default_factory=list)
    later: list[int] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def left(self, room: int) -> list[int]:
        """Tokens that each episode leaves for every one of its responses.

        Args:
            room: `data.max_response_length`.
        """
        return [(room - pages) // turns for pages, turns in zip(self.together, self.turns, strict=True) if turns]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Play episodes and count the tokens of what a model would be shown, prefill and chat template included: the "
        "first prompt, every later message, all later messages of an episode together, and what they leave for each of "
        "its responses. Episode i has seed i. data.max_prompt_length must hold the first prompt; "
        "data.max_response_length holds the later messages and the responses."
    )
    parser.add_argument(
        "--tokenizer", required=True, metavar="NAME", help="the model, named as for 'actfocus eval --model'"
    )
    parser.add_argument(
        "--env", action="append", help=f"environment; may be repeated (default: {', '.join(DEFAULT_ENVIRONMENTS)})"
    )
    parser.add_argument("--episodes", type=positive, default=50, help="episodes per environment (default 50)")
    parser.add_argument("--policy", default="random", choices=["random", "expert"], help="who plays (default random)")
    parser.add_argument(
        "--response-length",
        type=positive,
        metavar="N",
        help="data.max_response_length, for what is left to the responses (default: that of the environment's recipes)",
    )
    add_option_argument(parser)
    add_limit_arguments(parser)
    add_tag_arguments(parser)
    add_prompt_style_argument(parser, default=BRIEF)
    add_template_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Plays, counts and prints a few rows per environment.

    Args:
        args: The parsed arguments.

    Returns:
        0.

    Raises:
        ValueError: Environment, expert or tokenizer do not exist, an environment failed, or options are given for
            several environments.
    """
    names: Sequence[str] = args.env or DEFAULT_ENVIRONMENTS
    if len(names) > 1 and (args.option or given_limits(args)):
        raise ValueError("options and budgets belong to one environment: name it with --env")
    limits = {name: dataclasses.replace(envs.spec(name).limits, **given_limits(args)) for name in names}
    tags = given_tags(args)
    builder, end = _prompts(args.tokenizer, tags, dict(args.template))
    style = args.prompt_style or BRIEF
    phrasings = {name: phrasing_of(style, name, dict(args.option), limits[name]) for name in names}
    print(f"{'environment':<12} {'tokens of':<32} {'least':>6} {'median':>7} {'most':>6}")
    for name in names:
        env = make_environment(name, dict(args.option))
        found = measure(name, env, limits[name], builder, end, args.episodes, args.policy, tags, phrasings[name])
        _show(name, "the first prompt", found.first)
        _show(name, "a later message", found.later)
        _show(name, "an episode's later messages", found.together)
        room = args.response_length or _recipe_room(name)
        if room is not None:
            _show_room(name, found.left(room), room, limits[name].response_tokens)
    return 0


def measure(
    name: str,
    env: TextEnv,
    limits: EpisodeLimits,
    builder: PromptBuilder,
    end: int,
    episodes: int,
    policy: str,
    tags: TagSettings = STANDARD_TAGS,
    phrasing: Phrasing = STANDARD_PHRASING,
) -> Lengths:
    """Play episodes with seeds 0, 1, and so on.

    Args:
        name: Name of the environment, for its expert.
        env: The environment.
        limits: Budgets of an episode.
        builder: Makes the prompts.
        end: Token that ends a response.
        episodes: How many.
        policy: "random" or "expert".
        tags: What a response looks like.
        phrasing: How the prompts ask for that.

    Returns:
        The lengths.

    Raises:
        ValueError: There is no expert, or the environment failed.
    """
    lengths = Lengths()
    for seed in range(episodes):
        writer = ActionPolicy(envs.expert(name) if policy == "expert" else random_policy(seed), seed)
        episode = Episode(env, limits, tags=tags, phrasing=phrasing)
        messages = episode.reset(seed)
        ids = conversation(builder, messages)[0] if messages else []
        lengths.first.append(len(ids))
        added: list[int] = []
        while not episode.done:
            message = episode.respond(writer.respond(episode)).next_message
            if message is not None:
                # What the response says is irrelevant, only that it has ended.
                added.append(len(builder.following([*ids, end], messages, message)))
        if episode.error is not None:
            raise ValueError(f"{name}, seed {seed}: {episode.error}")
        lengths.later += added
        lengths.together.append(sum(added))
        lengths.turns.append(episode.turn)
    return lengths


def _prompts(name: str, tags: TagSettings, template: Mapping[str, Any]) -> tuple[PromptBuilder, int]:
    """What makes a model's prompts, and the token that ends its responses; ChatML without a model beside the tokenizer.

    Raises:
        ValueError: There is no tokenizer, it names no end of turn, or it is not a ChatML one and there is no model
            beside it.
    """
    from transformers import AutoConfig

    from verl_actfocus.episodes.templates import prompt_builder
    from verl_actfocus.evaluation.checkpoints import find_tokenizer
    from verl_actfocus.evaluation.tokenizers import load_tokenizer
    from verl_actfocus.generation.turn_ends import closing_token, turn_ends

    source = find_tokenizer(name)
    tokenizer = load_tokenizer(source.tokenizer)
    try:
        model_type = AutoConfig.from_pretrained(source.model).model_type
    except (OSError, ValueError):
        model_type = "qwen2"
    end = closing_token(tokenizer, turn_ends(tokenizer, None))
    return prompt_builder(tokenizer, model_type, tags, end, template), end


def _recipe_room(name: str) -> int | None:
    """`data.max_response_length` of the environment's recipes; None if it has none."""
    from verl_actfocus.experiments.runs.composition import compose_profile

    recipes = [recipe for recipe in packaged_groups("recipe") if recipe.startswith(f"{name}_")]
    return compose_profile(recipes[0]).data.max_response_length if recipes else None


def _show_room(name: str, left: Sequence[int], room: int, longest: int) -> None:
    """Show what is left for a response, and in how many episodes the longest would not fit."""
    _show(name, f"left for a response, of {room}", left)
    full = sum(tokens < longest for tokens in left)
    print(
        f"{name:<12} {full} of {len(left)} episodes would end for want of room (response_cut or context_full) if "
        f"every response had all of its {longest} tokens"
    )


def _show(name: str, what: str, tokens: Sequence[int]) -> None:
    if tokens:
        print(f"{name:<12} {what:<32} {min(tokens):>6} {median(tokens):>7.0f} {max(tokens):>6}", flush=True)
