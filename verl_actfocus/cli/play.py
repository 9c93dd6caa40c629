"""`actfocus play`: one episode on the terminal, shown exactly as a model sees it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from verl_actfocus import envs
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
from verl_actfocus.cli._policies import Human, PlayingModel, TextPolicy, random_policy
from verl_actfocus.cli._values import seed, temperature
from verl_actfocus.envs import EpisodeLimits, TextEnv
from verl_actfocus.episodes import Episode, Message
from verl_actfocus.episodes.action_policy import ActionPolicy
from verl_actfocus.episodes.phrasing import BRIEF
from verl_actfocus.episodes.prompts import shown
from verl_actfocus.episodes.worked_turns import phrasing_of

if TYPE_CHECKING:
    from verl_actfocus.episodes.player import Player


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Play one episode. The system and user messages are printed as a model sees them, word for word. "
        "Type actions such as 'Right || Down': they are put into the response format with empty reasoning. "
        "A line with <answer> or </think> is sent as it is; every response starts with the prefill <think>. Other tags "
        "change all of this alike. "
        "'quit' ends the game."
    )
    parser.add_argument("env", help=f"environment: {', '.join(envs.ENVIRONMENTS)}")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the episode (default 0)")
    parser.add_argument(
        "--policy",
        default="human",
        help="human (default), expert, random, or model:NAME for a model, named as for 'actfocus eval --model'",
    )
    parser.add_argument("--temperature", type=temperature, help="of a model's sampling (default 0.5)")
    parser.add_argument("--miniature", action="store_true", help="options and budgets that its tiny model was made for")
    add_option_argument(parser)
    add_limit_arguments(parser)
    add_tag_arguments(parser)
    add_prompt_style_argument(parser, default=BRIEF)
    add_template_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Play the episode.

    Args:
        args: The parsed arguments.

    Returns:
        0 when the episode was played or left; 1 when the environment failed.

    Raises:
        ValueError: There is no environment or policy of that name, the environment has no miniature, or the tags can be
            confused.
    """
    env, options, limits = _environment(args)
    phrasing = phrasing_of(args.prompt_style or BRIEF, args.env, options, limits)
    episode = Episode(env, limits, tags=given_tags(args), phrasing=phrasing)
    policy = make_policy(args.policy, args.env, limits, args.seed, args.temperature, dict(args.template))
    if isinstance(policy, PlayingModel):
        play_tokens(policy.player(episode), policy, args.seed)
    else:
        play_text(episode, policy, args.seed)
    if episode.error is not None:
        print(episode.error)
        return 1
    outcome = f"ended: {episode.stop_reason.value}" if episode.stop_reason else "left"
    print(f"== {outcome} | reward {episode.total_reward:g} | success {'yes' if episode.success else 'no'} ==")
    return 0


def play_text(episode: Episode, policy: TextPolicy, seed: int) -> None:
    """Play an episode to its end, printing every message, every response and what came of it.

    Args:
        episode: The episode; it is reset here.
        policy: Writes the responses.
        seed: Seed of the episode.
    """
    messages = episode.reset(seed)
    while not episode.done:
        _show_messages([shown(message, episode.tags.prefill) for message in messages])
        response = policy.respond(episode)
        if response is None:
            return
        result = episode.respond(response)
        _show_turn(episode, response, result.actions, result.reward, result.problem)
        messages = [] if result.next_message is None else [result.next_message]
    print(f"-- final state --\n{episode.observation}")


def play_tokens(player: Player, model: PlayingModel, seed: int) -> None:
    """Let a model play an episode to its end, printing as `play_text` does and the spans of every response.

    Args:
        player: The player of the episode; it is begun here.
        model: Answers the prompts.
        seed: Seed of the episode.
    """
    player.begin(seed)
    before = 0
    while not player.done:
        _show_messages(player.messages[before:])
        before = len(player.messages) + 1  # the response is shown with what came of it
        turn = model.respond(player)
        _show_turn(player.episode, turn.text, turn.executed, turn.reward, turn.problem)
        print(f"== tokens {turn.tokens} | reasoning {turn.reasoning_tokens} | action {turn.action_tokens} ==")
    print(f"-- final state --\n{player.episode.observation}" if player.failure is None else player.failure)


def make_policy(
    policy: str,
    env: str,
    limits: EpisodeLimits,
    seed: int,
    temperature: float | None,
    template: Mapping[str, Any],
) -> TextPolicy | PlayingModel:
    """Make what a `--policy` names.

    Args:
        policy: "human", "expert", "random" or "model:NAME".
        env: Name of the environment, for the expert and for a model's most tokens.
        limits: Budgets of the episode.
        seed: Seeds chance and sampling.
        temperature: Of a model's sampling; None for the paper's, 0.5.
        template: Arguments of a model's chat template; empty for none.

    Raises:
        ValueError: The policy is none of these, there is no expert for the environment, or what only a model has is
            given for another policy.
    """
    kind, _, folder = policy.partition(":")
    if kind == "model" and folder:
        from verl_actfocus.evaluation.settings import paper_settings

        most = paper_settings(env).with_limits(dataclasses.asdict(limits)).lengths.most
        return PlayingModel(folder, 0.5 if temperature is None else temperature, seed, most, template)
    for given, argument in ((temperature is not None, "--temperature"), (bool(template), "--template")):
        if given:
            raise ValueError(f"{argument} is for --policy model:NAME, not for {policy!r}; leave it out")
    if policy == "human":
        return Human()
    if policy == "expert":
        return ActionPolicy(envs.expert(env), seed)
    if policy == "random":
        return ActionPolicy(random_policy(seed), seed)
    raise ValueError(f"--policy {policy!r}: must be human, expert, random or model:NAME")


def _environment(args: argparse.Namespace) -> tuple[TextEnv, dict[str, Any], EpisodeLimits]:
    """Return environment, arguments and budgets: the registry's or its miniature's, changed as the arguments say."""
    limits, options = envs.spec(args.env).limits, dict(args.option)
    if args.miniature:
        miniature = envs.miniature(args.env)
        limits, options = miniature.limits, {**miniature.options, **options}
    return make_environment(args.env, options), options, dataclasses.replace(limits, **given_limits(args))


def _show_messages(messages: Sequence[Message]) -> None:
    for message in messages:
        print(f"-- {message['role']} --\n{message['content']}")


def _show_turn(episode: Episode, response: str, executed: Sequence[str], reward: float, problem: str | None) -> None:
    print(f"-- response --\n{episode.tags.prefill}{response}")
    invalid = "" if problem is None else f" | invalid: {problem}"
    print(f"== executed: {', '.join(executed) or 'none'} | reward {reward:g}{invalid} ==")
