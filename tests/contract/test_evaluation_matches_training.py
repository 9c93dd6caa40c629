"""An evaluation on its own asks a model what a training run's evaluation asks it: same tokens, budgets, seeds, ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerBase
from verl.workers.rollout.replica import TokenOutput
from verl_actfocus.evaluation.prompts import PromptBuilder, VerlPrompts, load_tokenizer, prompt_builder

from verl_actfocus import models
from verl_actfocus.episodes import StopReason
from verl_actfocus.episodes.prompts import THINK_OPEN
from verl_actfocus.evaluation.policy import Answer
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import run
from verl_actfocus.evaluation.settings import EvaluationSettings, Lengths, profile_settings
from verl_actfocus.generation.sampling import SamplingParams
from verl_actfocus.integration.dataset import EnvironmentDataset

from ..episode_loops import play_episode

UP = "Grüße, I wait.</think><answer>Up</answer>"
PROSE = "Hm.</think>I go <answer>Right</answer>"
LONG = "and then I go right again " * 30
#: What the model was asked: prompt, most tokens, seed.
Asked = list[tuple[list[int], int, int]]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(str(models.folder("frozenlake") / "tokenizer"))


def encoded(tokenizer: PreTrainedTokenizerBase, text: str, most: int) -> tuple[list[int], bool]:
    """A response of this text: its tokens, and whether the limit cut it off."""
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    return ids[:most], len(ids) > most


class Server:
    """veRL's rollout server, with prepared responses."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
        self.tokenizer, self.texts = tokenizer, list(texts)
        self.asked: Asked = []

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **kwargs: Any
    ) -> TokenOutput:
        ids, cut = encoded(self.tokenizer, self.texts[len(self.asked)], sampling_params["max_tokens"])
        self.asked.append((list(prompt_ids), sampling_params["max_tokens"], sampling_params["seed"]))
        return TokenOutput(token_ids=ids, log_probs=[0.0] * len(ids), stop_reason="length" if cut else "completed")


class Policy:
    """The same responses for an evaluation."""

    context = None

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], model_type: str) -> None:
        self.tokenizer, self.texts, self.model_type = tokenizer, list(texts), model_type
        self.asked: Asked = []
        self._answer = Answer()

    def prompts(self, prefill: str) -> PromptBuilder:
        return prompt_builder(self.tokenizer, self.model_type, prefill)

    def identity(self) -> dict[str, Any]:
        return {}

    def notes(self) -> dict[str, Any]:
        return {}

    def begin(self, lengths: Lengths, at_once: int) -> None:
        self.key = ""

    def ask(self, key: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        assert sampling.seed is not None
        ids, cut = encoded(self.tokenizer, self.texts[len(self.asked)], sampling.max_tokens)
        self.asked.append((list(prompt), sampling.max_tokens, sampling.seed))
        self.key, self._answer = key, Answer(ids, cut)

    def answers(self) -> dict[str, Answer]:
        return {self.key: self._answer}

    def close(self) -> None:
        pass


def trained(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], settings: EvaluationSettings, model_type: str
) -> tuple[Asked, dict[str, Any] | None]:
    """Play the first evaluation task as a training run does before its first step."""
    server = Server(tokenizer, texts)
    config = OmegaConf.create(
        {
            "actor_rollout_ref": {
                "rollout": {
                    "prompt_length": settings.lengths.prompt,
                    "response_length": settings.lengths.response,
                    "max_model_len": settings.lengths.total,
                    "name": "hf_cpu",
                    "seed": settings.seed,
                }
            },
            "data": {"environment": {"name": "frozenlake", "kwargs": {"success_rate": 1.0}, "val_size": 64}},
            "algorithm": {},
        }
    )
    config.data.environment.limits = dataclasses.asdict(settings.limits)
    row = EnvironmentDataset("val", config=config.data)[0]["environment"]
    output = play_episode(config, server, tokenizer, row, model_type=model_type)
    return server.asked, output.extra_fields["reward_extra_info"] if output else None


@pytest.fixture
def excluded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why training left episodes out: what would go to TransferQueue."""
    reasons: list[str] = []

    async def report(key: str, reason: StopReason, *, validate: bool) -> None:
        reasons.append(reason.value)

    monkeypatch.setattr("verl_actfocus.integration.exclusions.report", report)
    return reasons


@pytest.mark.parametrize("model_type", ["qwen2", "llama"])
@pytest.mark.parametrize(
    ("texts", "lengths"),
    [
        ([UP, PROSE, UP], Lengths(prompt=128, response=384)),
        ([UP, LONG], Lengths(prompt=128, response=384)),
        ([UP, UP, LONG], Lengths(prompt=128, response=150)),
        ([PROSE, PROSE, PROSE], Lengths(prompt=128, response=60)),
        ([PROSE, PROSE, PROSE], Lengths(prompt=128, response=384, total=140)),
        ([UP], Lengths(prompt=30, response=384)),
        ([UP], Lengths(prompt=128, response=384, total=40)),
    ],
)
def test_prompts_budgets_seeds_and_ends_are_those_of_a_training_runs_evaluation(
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    lengths: Lengths,
    model_type: str,
    tmp_path: Path,
    excluded: list[str],
) -> None:
    settings = dataclasses.replace(
        profile_settings("cpu_frozenlake"), tasks=1, samples=1, lengths=lengths, seed=5, first_task=0
    )
    policy = Policy(tokenizer, texts, model_type)
    attempt = run(policy, settings, EvaluationFolder(tmp_path), at_once=1)
    asked, record = trained(tokenizer, texts, settings, model_type)
    assert policy.asked == asked
    assert [failed.stop_reason for failed in attempt.failures] == excluded
    if record is None:
        assert excluded == ["prompt_too_long"]
        return
    (own,) = attempt.finished
    assert (own.success, own.stop_reason, len(own.turns)) == (record["success"], record["stop_reason"], record["turns"])
    assert (own.tokens, sum(turn.valid for turn in own.turns)) == (record["response_tokens"], record["valid_turns"])


def test_the_two_builders_agree_on_the_qwen_family_and_differ_where_verl_makes_a_difference(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    messages = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "State."}]
    message = {"role": "user", "content": "Next."}
    response = [*tokenizer.encode(UP, add_special_tokens=False), tokenizer.eos_token_id]
    found = {}
    for name in ("qwen2", "qwen3", "qwen3_moe", "llama"):
        for builder in (prompt_builder(tokenizer, name, THINK_OPEN), VerlPrompts(tokenizer, name, THINK_OPEN)):
            first = builder.first(messages)
            found.setdefault(name, []).append((first, builder.following([*first, *response], messages, message)))
    for name in ("qwen2", "qwen3", "qwen3_moe"):
        assert found[name][0] == found[name][1] == found["qwen2"][0]
    assert found["llama"][0] == found["llama"][1]
    assert len(found["llama"][0][1]) == len(found["qwen2"][0][1]) - 1  # no line break after the end of a turn
