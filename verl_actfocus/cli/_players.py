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
from pathlib import Path
from typing import Protocol

import numpy as np

from verl_actfocus.envs.base import EpisodeLimits, TextEnv
from verl_actfocus.interaction import Episode, Message, StopReason
from verl_actfocus.interaction.prompts import (
    ACTION_SEPARATOR,
    ANSWER_CLOSE,
    ANSWER_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
)


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
    """Samples responses from a Hugging Face model on this computer.

    The prompt is built by the encoder that the rollout's prompts are tested against, so the model sees the
    same tokens here as in training: nothing is encoded twice, and what it sampled stays as it was sampled.

    Args:
        path: Folder with the model and its tokenizer, or with `model/` and `tokenizer/` as `actfocus warmstart`
            writes it.
        temperature: Of the sampling; 0 takes the most likely token.
        seed: Seeds the sampling.

    Raises:
        ValueError: The folder holds no model, or the tokenizer is not a ChatML one.
    """

    def __init__(self, path: str, temperature: float, seed: int) -> None:
        model_folder, tokenizer_folder = model_folders(Path(path))
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        from verl_actfocus.warmstart.encoding import TurnEncoder

        logging.disable_progress_bar()
        torch.manual_seed(seed)
        self._tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        self._model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
        self._encoder = TurnEncoder(self._tokenizer)
        self._temperature = temperature
        self._ids: list[int] = []

    def respond(self, episode: Episode, messages: list[Message]) -> Response | None:
        """Samples until the end of the turn, the episode's limit of response tokens, or the end of the context."""
        import torch

        if episode.turn == 0:
            self._ids = self._encoder.initial(messages)
        else:
            self._ids += self._encoder.next_turn(messages[-1])
        room = self._model.config.max_position_embeddings - len(self._ids)
        if room <= 0:
            episode.stop(StopReason.CONTEXT_FULL)
            return None
        prompt = torch.tensor([self._ids], device=self._model.device)
        sampling = {"temperature": self._temperature, "top_k": 0, "top_p": 1.0} if self._temperature else {}
        output = self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=min(episode.limits.response_tokens, room),
            do_sample=self._temperature > 0,
            eos_token_id=self._encoder.turn_end_id,
            pad_token_id=self._encoder.turn_end_id,
            **sampling,
        )
        sampled = output[0, prompt.shape[1] :].tolist()
        self._ids += sampled
        text = str(self._tokenizer.decode(sampled, skip_special_tokens=True))
        return Response(text, cut_off=sampled[-1] != self._encoder.turn_end_id)


def model_folders(folder: Path) -> tuple[Path, Path]:
    """Where in a folder the model lies and where its tokenizer.

    Raises:
        ValueError: There is no model.
    """
    if (folder / "config.json").exists():
        return folder, folder
    if (folder / "model" / "config.json").exists():
        return folder / "model", folder / "tokenizer"
    raise ValueError(
        f"--policy model:{folder}: neither {folder / 'config.json'} nor {folder / 'model' / 'config.json'} exists; "
        "name the folder of a Hugging Face model or one that 'actfocus warmstart' wrote"
    )
