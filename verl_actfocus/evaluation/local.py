"""A Hugging Face model on this machine, CPU or GPU, with continuous batching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from verl_actfocus.episodes import TagSettings
from verl_actfocus.episodes.templates import prompt_builder
from verl_actfocus.episodes.tokens import Lengths, PromptBuilder
from verl_actfocus.evaluation.checkpoints import ModelSource
from verl_actfocus.evaluation.policy import Answer
from verl_actfocus.evaluation.tokenizers import load_tokenizer, tokenizer_identity
from verl_actfocus.generation.attention import require_full_attention
from verl_actfocus.generation.batch import ContinuousBatch
from verl_actfocus.generation.sampling import SamplingParams
from verl_actfocus.generation.turn_ends import closing_token, turn_ends
from verl_actfocus.storage.errors import first_line

#: Number formats that a rollout computes in.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class LocalModel:
    """A model that is loaded here. It generates with the engine of the CPU rollout, on any device.

    Args:
        source: where it lies, merged.
        identity: what tells its weights from others, see `ModelSource.fingerprint`.
        device: `cpu`, `cuda` or `cuda:N`; None takes a GPU if there is one.
        dtype: name in `DTYPES`; None takes float32 on a CPU and bfloat16 on a GPU, as rollouts in training do.

    Raises:
        ValueError: there is no such device, no model, or one that continuous batching does not serve.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        identity: dict[str, Any] | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        logging.disable_progress_bar()
        self._device = _present(device) if device else "cuda" if torch.cuda.is_available() else "cpu"
        self._dtype = dtype or ("float32" if self._device == "cpu" else "bfloat16")
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(source.tokenizer)
        self._identity = {
            **(identity or source.fingerprint()),
            **tokenizer_identity(source.tokenizer, self.tokenizer),
            "dtype": self._dtype,
        }
        self.model = _load(source.model, self._dtype, self._device)
        self.model.eval()
        require_full_attention(self.model.config)
        self.context: int | None = self.model.config.max_position_embeddings
        self._batch: ContinuousBatch | None = None

    def prompts(self, tags: TagSettings, template: Mapping[str, Any]) -> PromptBuilder:
        """See `Policy`."""
        end = closing_token(self.tokenizer, self._ends)
        return prompt_builder(self.tokenizer, self.model.config.model_type, tags, end, template)

    @property
    def _ends(self) -> frozenset[int]:
        return turn_ends(self.tokenizer, self.model.generation_config)

    def identity(self) -> dict[str, Any]:
        """See `Policy`."""
        return dict(self._identity)

    def notes(self) -> dict[str, Any]:
        """See `Policy`."""
        return {"device": self._device}

    def begin(self, lengths: Lengths, at_once: int) -> None:
        """See `Policy`; takes memory for the keys and values of `at_once` whole episodes."""
        # Before the next one is taken: both together may be more than there is.
        self._batch = None
        self._batch = ContinuousBatch(
            self.model,
            slots=at_once,
            max_model_len=lengths.most,
            turn_ends=self._ends,
            token_ids=self.tokenizer.get_vocab().values(),
        )

    def ask(self, key: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        """See `Policy`."""
        self._running.add(key, prompt, sampling)

    def answers(self) -> dict[str, Answer]:
        """See `Policy`.

        Raises:
            ValueError: the model's output is no distribution over tokens.
        """
        try:
            while not (finished := self._running.step()):
                pass
        except ValueError as error:
            raise ValueError(f"{self.model.config.name_or_path} cannot be sampled from: {error}") from error
        return {
            key: Answer(one.token_ids, one.stop_reason == "length", log_probs=one.log_probs)
            for key, one in finished.items()
        }

    def close(self) -> None:
        """See `Policy`."""
        self._batch = None

    @property
    def _running(self) -> ContinuousBatch:
        if self._batch is None:
            raise RuntimeError("LocalModel: begin() comes before the first prompt")
        return self._batch


def _load(name: str, dtype: str, device: str) -> PreTrainedModel:
    """Read a model whose every weight is in its files; transformers would draw a missing one at random."""
    try:
        # Without a type: the factory is annotated to return the model alone.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=DTYPES[dtype], attn_implementation="sdpa", device_map=device, output_loading_info=True
        )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"no model could be read from {name}: {first_line(error)}") from error
    model, found = loaded
    missing = sorted(found["missing_keys"])
    if missing:
        more = ", …" if len(missing) > 3 else ""
        raise ValueError(
            f"{name} lacks {len(missing)} of its model's weights ({', '.join(missing[:3])}{more}): the files are "
            "incomplete, or belong to another architecture than config.json says; copy or merge them again"
        )
    return cast(PreTrainedModel, model)


def _present(device: str) -> str:
    """Return the name of a device that is there."""
    try:
        kind, number = (found := torch.device(device)).type, found.index or 0
    except RuntimeError as error:
        raise ValueError(f"device {device!r}: there is no such device; name cpu, cuda or cuda:N") from error
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r}: models run on cpu, cuda or cuda:N")
    if kind == "cuda" and number >= (count := torch.cuda.device_count()):
        raise ValueError(f"device {device!r}: torch finds {count} GPUs; name cpu, or leave it out")
    return device
