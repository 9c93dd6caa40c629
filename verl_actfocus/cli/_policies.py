"""Who writes the responses in `actfocus play`: a human, an expert, chance, or a local model.

The first three write text and play the episode itself; a model is asked in tokens and plays through the player of the
rollout.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from verl_actfocus.envs.base import ACTION_SEPARATOR, TextEnv
from verl_actfocus.episodes import Episode
from verl_actfocus.episodes.action_policy import wrapped

if TYPE_CHECKING:
    from verl_actfocus.episodes.player import Player
    from verl_actfocus.episodes.record import TurnRecord


class TextPolicy(Protocol):
    """Writes responses as text."""

    def respond(self, episode: Episode) -> str | None:
        """Write the next response.

        Args:
            episode: The episode under way.

        Returns:
            The response without the prefill; None to leave the game.
        """


def hint(episode: Episode) -> str:
    """What a person has to know and a model is not shown."""
    tags = episode.tags
    several = "" if episode.limits.actions_per_turn == 1 else f", or several with {ACTION_SEPARATOR} between them"
    continued = f", after the prefill {tags.prefill}" if tags.prefill else ""
    return (
        f"(Not shown to a model: type an action such as '{episode.env.legal_actions()[0]}'{several}; it is put into "
        f"the response format with empty reasoning. A line with {' or '.join(_marks(episode))} is sent as it "
        f"is{continued}. 'quit' ends the game.)"
    )


def _marks(episode: Episode) -> tuple[str, ...]:
    """Tags by which a typed line is known for a whole response: those after the reasoning's opening tag."""
    return episode.tags.tags[1:3]


class Human:
    """Types actions, or whole responses, on the terminal.

    Args:
        read: Asks for a line; raises EOFError at the end of the input.
    """

    def __init__(self, read: Callable[[str], str] = input) -> None:
        self._read = read

    def respond(self, episode: Episode) -> str | None:
        """Ask for a line: actions are put into the response format, a line with tags is sent as it is."""
        if episode.turn == 0:
            print(hint(episode))
        try:
            line = self._read("your actions> ").strip()
        except EOFError:
            return None
        if line == "quit":
            return None
        if any(mark in line for mark in _marks(episode)):
            return line.removeprefix(episode.tags.prefill)
        return wrapped(episode, line)


def random_policy(seed: int) -> Callable[[TextEnv], str]:
    """A function that draws one of the legal actions."""
    rng = random.Random(seed)
    return lambda env: rng.choice(env.legal_actions())


class PlayingModel:
    """Samples responses from a Hugging Face model on this computer, as `actfocus eval` does.

    Args:
        path: The model, see `verl_actfocus.evaluation.checkpoints.find_model`.
        temperature: Of the sampling; 0 takes the most likely token.
        seed: Seeds the sampling.
        most_tokens: Most tokens of an episode, where the model's context does not end before.
        template: Arguments of the chat template.

    Raises:
        ValueError: There is no model, or one that cannot be played with.
    """

    def __init__(self, path: str, temperature: float, seed: int, most_tokens: int, template: Mapping[str, Any]) -> None:
        from verl_actfocus.episodes.tokens import Lengths
        from verl_actfocus.evaluation import local
        from verl_actfocus.evaluation.checkpoints import find_model, merge

        try:
            self._policy = local.LocalModel(merge(find_model(path)))
        except ValueError as error:
            raise ValueError(f"--policy model:{path}: {error}") from error
        most = min(most_tokens, self._policy.context or most_tokens)
        self._lengths = Lengths(prompt=most, response=most, total=most)
        self._policy.begin(self._lengths, at_once=1)
        self._temperature, self._seed, self._template = temperature, seed, template

    def player(self, episode: Episode) -> Player:
        """Return the player of an episode that the model answers for."""
        from verl_actfocus.episodes.player import Player
        from verl_actfocus.tagging import SpanTagger

        prompts = self._policy.prompts(episode.tags, self._template)
        return Player(episode, prompts, SpanTagger(self._policy.tokenizer, **asdict(episode.tags)), self._lengths)

    def respond(self, player: Player) -> TurnRecord:
        """Sample until the end of the turn, the episode's limit of response tokens, or the end of the context."""
        from verl_actfocus.generation.sampling import SamplingParams, response_seed

        sampling = SamplingParams(
            max_tokens=player.max_tokens,
            temperature=self._temperature,
            seed=response_seed(self._seed, None, self._seed, None, player.episode.turn),
        )
        self._policy.ask("turn", player.prompt, sampling)
        answer = self._policy.answers()["turn"]
        return player.answer(answer.ids, cut_off=answer.cut_off)
