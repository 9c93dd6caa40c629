"""The same prepared responses in a training run and in an evaluation of frozenlake."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerBase
from verl.workers.rollout.replica import TokenOutput

from verl_actfocus import models
from verl_actfocus.episodes import TagSettings
from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.episodes.templates import prompt_builder
from verl_actfocus.episodes.tokens import Lengths, PromptBuilder
from verl_actfocus.evaluation.policy import Answer
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import run
from verl_actfocus.evaluation.settings import EvaluationSettings, profile_settings
from verl_actfocus.generation.sampling import SamplingParams
from verl_actfocus.generation.turn_ends import closing_token, turn_ends
from verl_actfocus.integration.dataset import EnvironmentDataset

from ...episode_loops import play_episode

#: What the model was asked: prompt, most tokens, seed.
Asked = list[tuple[list[int], int, int]]


class Scripted:
    """Prepared responses, as veRL's rollout server and as the policy of an evaluation.

    Args:
        tokenizer: encodes prompts and responses.
        responses: texts, which the tokenizer's end of sequence follows, or the sampled tokens.
        model: folder of the model's configuration and generation settings.
    """

    context = None

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, responses: Sequence[str | list[int]], model: Path | None = None
    ) -> None:
        self.tokenizer, self.responses = tokenizer, list(responses)
        self.model = model or models.folder("frozenlake") / "model"
        self.stops: list[list[int]] = []
        self.asked: Asked = []
        self._answer: tuple[str, Answer] = ("", Answer())

    def _respond(self, prompt: Sequence[int], most: int, seed: int) -> Answer:
        ids = self.responses[len(self.asked)]
        if isinstance(ids, str):
            ids = [*self.tokenizer.encode(ids, add_special_tokens=False), self.tokenizer.eos_token_id]
        self.asked.append((list(prompt), most, seed))
        return Answer(ids[:most], cut_off=len(ids) > most)

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **kwargs: Any
    ) -> TokenOutput:
        answer = self._respond(prompt_ids, sampling_params["max_tokens"], sampling_params["seed"])
        self.stops.append(sampling_params["stop_token_ids"])
        # veRL's vLLM server calls both ends so.
        return TokenOutput(token_ids=list(answer.ids), log_probs=[0.0] * len(answer.ids), stop_reason="completed")

    def prompts(self, tags: TagSettings, template: Mapping[str, Any]) -> PromptBuilder:
        end = closing_token(self.tokenizer, turn_ends(self.tokenizer, None))
        return prompt_builder(self.tokenizer, "qwen2", tags, end, template)

    def begin(self, lengths: Lengths, at_once: int) -> None: ...

    def ask(self, key: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        assert sampling.seed is not None
        self._answer = key, self._respond(prompt, sampling.max_tokens, sampling.seed)

    def answers(self) -> dict[str, Answer]:
        return dict([self._answer])


def settings_with(tags: TagSettings) -> EvaluationSettings:
    return dataclasses.replace(profile_settings("cpu_frozenlake"), tasks=1, samples=1, seed=5, tags=tags)


def trained(server: Scripted, settings: EvaluationSettings) -> dict[str, Any]:
    """Play the first evaluation task as a training run with these tags does before its first step."""
    lengths, tags = settings.lengths, dataclasses.asdict(settings.tags)
    rollout = {
        "prompt_length": lengths.prompt,
        "response_length": lengths.response,
        "max_model_len": lengths.total,
        "name": "hf_cpu",
        "seed": settings.seed,
    }
    limits = dataclasses.asdict(settings.limits)
    environment = {"name": "frozenlake", "kwargs": {"success_rate": 1.0}, "val_size": 64, "limits": limits}
    environment["prompt_style"] = settings.prompt_style
    config = OmegaConf.create(
        {
            "actor_rollout_ref": {"rollout": rollout, "model": {"path": str(server.model)}},
            "data": {"environment": environment, "apply_chat_template_kwargs": dict(settings.template)},
            "algorithm": {"actfocus": {"tags": tags}},
        }
    )
    row = EnvironmentDataset("val", config=config.data)[0]["environment"]
    output = play_episode(config, server, server.tokenizer, row)
    assert not isinstance(output, list)
    return output.as_dict() | {"counts": output.extra_fields["reward_extra_info"]}


def evaluated(policy: Scripted, settings: EvaluationSettings, folder: Path) -> EpisodeRecord:
    attempt = run(policy, settings, EvaluationFolder(folder), at_once=1)
    return attempt.finished[0]
