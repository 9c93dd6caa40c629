"""`actfocus play`: one episode on the terminal, shown exactly as a model sees it."""

from __future__ import annotations

import argparse
import dataclasses

from verl_actfocus import envs
from verl_actfocus.cli._environment_arguments import (
    add_limit_arguments,
    add_option_argument,
    given_limits,
    make_environment,
)
from verl_actfocus.cli._players import ActionPolicy, Human, LocalModel, Player, random_policy
from verl_actfocus.envs import EpisodeLimits, TextEnv
from verl_actfocus.episodes import Episode, Message, TurnResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the subcommand."""
    parser.description = (
        "Play one episode. The system and user messages are printed as a model sees them, word for word. "
        "Type actions such as 'Right || Down': they are put into the response format with empty reasoning. "
        "A line with <answer> or </think> is sent as it is; every response starts with the prefill <think>. "
        "'quit' ends the game."
    )
    parser.add_argument("env", help=f"environment: {', '.join(envs.ENVIRONMENTS)}")
    parser.add_argument("--seed", type=int, default=0, help="seed of the episode (default 0)")
    parser.add_argument(
        "--policy",
        default="human",
        help="human (default), expert, random, or model:DIR for a model in a folder, as for 'actfocus eval --model'",
    )
    parser.add_argument("--temperature", type=float, default=0.5, help="sampling temperature of a model (default 0.5)")
    parser.add_argument("--miniature", action="store_true", help="options and budgets that its tiny model was made for")
    add_option_argument(parser)
    add_limit_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Plays the episode.

    Args:
        args: The parsed arguments.

    Returns:
        0 when the episode was played or left; 1 when the environment failed.

    Raises:
        ValueError: There is no environment or policy of that name, or the environment has no miniature.
    """
    env, limits = _environment(args)
    episode = Episode(env, limits)
    player = make_player(args.policy, args.env, args.seed, args.temperature)
    play(episode, player, args.seed)
    if episode.error is not None:
        print(f"the environment failed: {episode.error}")
        return 1
    outcome = f"ended: {episode.stop_reason.value}" if episode.stop_reason else "left"
    print(f"== {outcome} | reward {episode.total_reward:g} | success {'yes' if episode.success else 'no'} ==")
    return 0


def play(episode: Episode, player: Player, seed: int) -> None:
    """Plays an episode to its end, printing every message, every response and what came of it.

    Args:
        episode: The episode; it is reset here.
        player: Writes the responses.
        seed: Seed of the episode.
    """
    messages = episode.reset(seed)
    while not episode.done:
        for message in messages:
            _show(message)
        response = player.respond(episode, messages)
        if response is None:
            return
        print(f"-- response --\n{episode.prefill}{response.text}")
        result = episode.respond(response.text, cut_off=response.cut_off)
        _show_result(result)
        messages = [] if result.next_message is None else [result.next_message]
    print(f"-- final state --\n{episode.observation}")


def make_player(policy: str, env: str, seed: int, temperature: float) -> Player:
    """Makes the player that a `--policy` names.

    Args:
        policy: "human", "expert", "random" or "model:DIR".
        env: Name of the environment, for the expert.
        seed: Seeds chance and sampling.
        temperature: Of a model's sampling.

    Returns:
        The player.

    Raises:
        ValueError: The policy is none of these, or there is no expert for the environment.
    """
    kind, _, folder = policy.partition(":")
    if kind == "model" and folder:
        from verl_actfocus.evaluation.settings import paper_settings

        return LocalModel(folder, temperature, seed, paper_settings(env).lengths.most)
    if policy == "human":
        return Human()
    if policy == "expert":
        return ActionPolicy(envs.expert(env), seed)
    if policy == "random":
        return ActionPolicy(random_policy(seed), seed)
    raise ValueError(f"--policy {policy!r}: must be human, expert, random or model:DIR")


def _environment(args: argparse.Namespace) -> tuple[TextEnv, EpisodeLimits]:
    """Return environment and budgets: the registry's or its miniature's, changed as the arguments say."""
    limits, options = envs.spec(args.env).limits, dict(args.option)
    if args.miniature:
        miniature = envs.miniature(args.env)
        limits, options = miniature.limits, {**miniature.options, **options}
    return make_environment(args.env, options), dataclasses.replace(limits, **given_limits(args))


def _show(message: Message) -> None:
    print(f"-- {message['role']} --\n{message['content']}")


def _show_result(result: TurnResult) -> None:
    executed = ", ".join(result.actions) or "none"
    problem = "" if result.problem is None else f" | invalid: {result.problem}"
    print(f"== executed: {executed} | reward {result.reward:g}{problem} ==")
