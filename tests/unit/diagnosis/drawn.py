"""An environment and a policy in which it is known what decides the return.

The policy thinks a fair bit z and then acts: the action names z, which it copies, and a fair bit a of its own. The
environment draws a fair bit c. The return is a weighted sum of the three (and of the second turn's a), and a fair bit
of weight w has the variance w² / 4.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from verl_actfocus.envs import EnvironmentSpec, EpisodeLimits, TextEnv
from verl_actfocus.envs.base import step_info
from verl_actfocus.episodes import TagSettings
from verl_actfocus.episodes.tokens import ChatML, Lengths
from verl_actfocus.evaluation.policy import Answer
from verl_actfocus.generation.sampling import SamplingParams

SPEC = EnvironmentSpec(
    id="Tests/Drawn-v0",
    entry_point="tests.unit.diagnosis.drawn:Drawn",
    expert="tests.unit.diagnosis.drawn:expert_action",
    limits=EpisodeLimits(turns=2, actions_per_turn=1, actions=2, words=10),
    summary="returns that are decided by known draws",
)


class Drawn(TextEnv):
    """Pays for the bits of an action such as `Go 0 1`.

    Args:
        thought: weight of the bit that was thought.
        acted: weight of the bit that the action drew.
        chance: weight of the environment's own bit.
        later: weight of the second turn's action.
        forgets: whether `reset` does not keep to its seed.
    """

    rules = "Go."
    outcomes = ("paid",)
    _resets = 0

    def __init__(
        self, thought: float = 0, acted: float = 0, chance: float = 0, later: float = 0, forgets: bool = False
    ) -> None:
        super().__init__()
        self.thought, self.acted, self.chance, self.later, self.forgets = thought, acted, chance, later, forgets
        self.turn, self.room = 0, 0

    def legal_actions(self) -> list[str]:
        return [f"Go {z} {a}" for z in (0, 1) for a in (0, 1)]

    def render(self) -> str:
        return f"Room {self.room}, turn {self.turn}"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super(TextEnv, self).reset(seed=seed)
        Drawn._resets += 1
        self.room = Drawn._resets if self.forgets else int(self.np_random.integers(1000))
        self.turn = 0
        return self.render(), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        thought, acted = (int(bit) for bit in action.split()[1:])
        chance = int(self.np_random.integers(2))
        weights = (self.thought, self.acted, self.chance) if self.turn == 0 else (0, self.later, 0)
        reward = sum(weight * bit for weight, bit in zip(weights, (thought, acted, chance), strict=True))
        self.turn += 1
        ends = self.turn == 2 or not self.later
        info = step_info(valid=True, effective=True, success=ends and reward > 0, paid=reward > 0)
        return self.render(), reward, ends, False, info


def expert_action(env: TextEnv) -> str:
    """The action that is paid most."""
    return "Go 1 1"


class Thinker:
    """Thinks a bit, copies it into the action and draws another; a response that was begun is finished.

    Args:
        tokenizer: encodes.
        closes: whether it ends its reasoning.
    """

    context: int | None = None

    def __init__(self, tokenizer: PreTrainedTokenizerBase, closes: bool = True) -> None:
        self.tokenizer, self._closes = tokenizer, closes
        self._waiting: dict[str, str] = {}
        self.begun: list[str] = []

    def prompts(self, tags: TagSettings, template: Mapping[str, Any]) -> ChatML:
        return ChatML(self.tokenizer, tags.prefill, template)

    def identity(self) -> dict[str, Any]:
        return {"model": "thinker"}

    def notes(self) -> dict[str, Any]:
        return {}

    def begin(self, lengths: Lengths, at_once: int) -> None:
        """Nothing to take."""

    def ask(self, key: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        begun = self.tokenizer.decode(list(prompt)).rpartition("<think>")[2]
        self.begun.append(begun)
        chance = random.Random(sampling.seed)
        thought, acted = (chance.choice("01") if sampling.temperature else "0" for _ in range(2))
        response = f"{begun[:1] or thought}</think><answer>Go {begun[:1] or thought} {acted}</answer>"
        if not self._closes:
            response = f"Hm {thought}"
        assert response.startswith(begun)
        self._waiting[key] = response.removeprefix(begun)

    def answers(self) -> dict[str, Answer]:
        """All but the first, the latest first: episodes overtake each other."""
        keys = list(self._waiting)[1:][::-1] or list(self._waiting)
        return {key: self._answer(self._waiting.pop(key)) for key in keys}

    def _answer(self, text: str) -> Answer:
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return Answer([*ids, self.tokenizer.eos_token_id])

    def close(self) -> None:
        self._waiting.clear()
