"""Who writes the responses in `actfocus play`: a human, an expert, chance, or a local model.

A player takes the messages that were added since its last response and gives the text of the next one,
without the prefill that every response starts with.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from verl_actfocus.envs.base import EpisodeLimits, TextEnv
from verl_actfocus.episodes import Episode, Message, StopReason
from verl_actfocus.episodes.prompts import (
    ACTION_SEPARATOR,
    ANSWER_CLOSE,
    ANSWER_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
)

if TYPE_CHECKING:
    from verl_actfocus.evaluation.prompts import Transcript


@dataclass(frozen=True)
class Response:
    """What a player wrote.

    Attributes:
        text: The response without the prefill.
        cut_off: Whether it reached the length limit.
    """

    text: str
    cut_off: bool = False


class Player(Protocol):
    """Writes responses."""

    def respond(self, episode: Episode, messages: list[Message]) -> Response | None:
        """Writes the next response.

        Args:
            episode: The episode under way.
            messages: The messages since the player's last response.

        Returns:
            The response; None to leave the game.
        """


def wrapped(actions: str) -> str:
    """The response, without its prefill, that gives these actions and no reasoning."""
    return f"{THINK_CLOSE} {ANSWER_OPEN}{actions}{ANSWER_CLOSE}"


def hint(episode: Episode) -> str:
    """What a person has to know and a model is not shown."""
    several = "" if episode.limits.actions_per_turn == 1 else f", or several with {ACTION_SEPARATOR} between them"
    return (
        f"(Not shown to a model: type an action such as '{episode.env.legal_actions()[0]}'{several}; it is put into "
        f"the response format with empty reasoning. A line with {ANSWER_OPEN} or {THINK_CLOSE} is sent as it is, "
        f"after the prefill {THINK_OPEN}. 'quit' ends the game.)"
    )


class Human:
    """Types actions, or whole responses, on the terminal.

    Args:
        read: Asks for a line; raises EOFError at the end of the input.
    """

    def __init__(self, read: Callable[[str], str] = input) -> None:
        self._read = read

    def respond(self, episode: Episode, messages: list[Message]) -> Response | None:
        """Asks for a line: actions are put into the response format, a line with tags is sent as it is."""
        if episode.turn == 0:
            print(hint(episode))
        try:
            line = self._read("your actions> ").strip()
        except EOFError:
            return None
        if line == "quit":
            return None
        if ANSWER_OPEN in line or THINK_CLOSE in line:
            return Response(line.removeprefix(THINK_OPEN))
        return Response(wrapped(line))


class ActionPolicy:
    """Lets a function from the environment's state to an action play, as many actions a turn as there may be.

    The actions after the first are chosen on a copy of the environment whose random generator is another one:
    a player who commits to several actions does not know what chance will bring in between.

    Args:
        choose: Returns the text of an action for an environment with an episode under way.
        seed: Seeds the copies' generators.
    """

    def __init__(self, choose: Callable[[TextEnv], str], seed: int) -> None:
        self._choose = choose
        self._rng = np.random.default_rng(seed)

    def respond(self, episode: Episode, messages: list[Message]) -> Response:
        """Chooses the actions of one turn."""
        env, actions = episode.env, [self._choose(episode.env)]
        for _ in range(actions_per_turn(episode.limits) - 1):
            if env is episode.env:
                env = copy.deepcopy(env)
                env.np_random = np.random.default_rng(self._rng.integers(2**63))
            terminated, truncated = env.step(actions[-1])[2:4]
            if terminated or truncated:
                break
            actions.append(self._choose(env))
        return Response(wrapped(f" {ACTION_SEPARATOR} ".join(actions)))


def actions_per_turn(limits: EpisodeLimits) -> int:
    """The actions to plan for a turn: the most allowed or, without a limit, an even share of the budget."""
    return limits.actions_per_turn or math.ceil(limits.actions / limits.turns)


def random_policy(seed: int) -> Callable[[TextEnv], str]:
    """A function that draws one of the legal actions."""
    rng = random.Random(seed)
    return lambda env: rng.choice(env.legal_actions())


class LocalModel:
    """Samples responses from a Hugging Face model on this computer, as `actfocus eval` does.

    The model sees the tokens of the rollout: nothing is encoded twice, and what it sampled stays as it was sampled.

    Args:
        path: The model, see `verl_actfocus.evaluation.checkpoints.find_model`.
        temperature: Of the sampling; 0 takes the most likely token.
        seed: Seeds the sampling.
        most_tokens: Most tokens of an episode, where the model's context does not end before.

    Raises:
        ValueError: There is no model, or one that cannot be played with.
    """

    def __init__(self, path: str, temperature: float, seed: int, most_tokens: int) -> None:
        from verl_actfocus.evaluation import local
        from verl_actfocus.evaluation.checkpoints import find_model, merge
        from verl_actfocus.evaluation.settings import Lengths

        try:
            self._policy = local.LocalModel(merge(find_model(path)))
        except ValueError as error:
            raise ValueError(f"--policy model:{path}: {error}") from error
        most = min(most_tokens, self._policy.context or most_tokens)
        self._lengths = Lengths(prompt=most, response=most, total=most)
        self._policy.begin(self._lengths, at_once=1)
        self._builder = self._policy.prompts(THINK_OPEN)
        self._temperature, self._seed = temperature, seed
        self._transcript: Transcript | None = None

    def respond(self, episode: Episode, messages: list[Message]) -> Response | None:
        """Samples until the end of the turn, the episode's limit of response tokens, or the end of the context."""
        from verl_actfocus.evaluation.prompts import Transcript
        from verl_actfocus.generation.sampling import SamplingParams, response_seed

        if self._transcript is None:
            self._transcript = Transcript(self._builder, self._lengths, episode.limits.response_tokens)
            fits = self._transcript.open(messages) is None
        else:
            fits = self._transcript.add_message(messages[-1])
        if not fits:
            episode.stop(StopReason.CONTEXT_FULL)
            return None
        sampling = SamplingParams(
            max_tokens=self._transcript.max_tokens,
            temperature=self._temperature,
            seed=response_seed(self._seed, None, self._seed, None, episode.turn),
        )
        self._policy.ask("turn", self._transcript.ids, sampling)
        answer = self._policy.answers()["turn"]
        self._transcript.add_response(answer.ids)
        text = str(self._policy.tokenizer.decode(list(answer.ids), skip_special_tokens=True))
        return Response(text, cut_off=answer.cut_off)
