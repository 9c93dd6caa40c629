"""A model behind an OpenAI-compatible server such as vLLM's.

Prompts go to `/v1/completions` as token ids: rendered by the model's own chat template here, prefill included, they
are exactly those of training. A server that returns the sampled token ids (vLLM's `return_token_ids`) keeps later
prompts exact too; with any other one the responses are encoded again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from verl_actfocus.episodes import TagSettings
from verl_actfocus.episodes.templates import prompt_builder
from verl_actfocus.episodes.tokens import Lengths, PromptBuilder
from verl_actfocus.evaluation.checkpoints import ModelSource, find_tokenizer
from verl_actfocus.evaluation.policy import Answer
from verl_actfocus.evaluation.server import (
    DEADLINE,
    PAUSES,
    Completion,
    RefusedError,
    ServedModel,
    Server,
    UnreachableError,
)
from verl_actfocus.evaluation.tokenizers import load_tokenizer, tokenizer_identity
from verl_actfocus.generation.sampling import SamplingParams
from verl_actfocus.generation.turn_ends import closing_token, turn_ended, turn_ends

#: What servers call it when the model ended its turn: vLLM and OpenAI, Hugging Face TGI, others.
_STOPPED = frozenset({"stop", "eos_token", "stop_sequence", "stop_token", "eos", "end_turn"})
#: What they call the length limit.
_FULL = frozenset({"length", "max_tokens", "max_length"})
#: So many useless answers in a row, and every further one is taken to be useless too.
_USELESS_IN_A_ROW = 8


class EndpointModel:
    """A model that a server answers for.

    Args:
        url: address of the server, see `Server`.
        model: name under which the server knows the model.
        tokenizer: where the model's tokenizer and configuration are, see `find_tokenizer`.
        deadline: seconds for one prompt, all tries together.
        pauses: seconds before each further try of a request that failed for want of the server.

    Raises:
        ValueError: no server answers, it refuses the key, does not have the model, or does not take such requests; the
            message says what to do.

    Attributes:
        encodes_again: Whether a response came without token ids and had to be encoded again.
    """

    def __init__(
        self, url: str, model: str, tokenizer: str, *, deadline: float = DEADLINE, pauses: Sequence[float] = PAUSES
    ) -> None:
        self._model = model
        self._server = Server(url, deadline=deadline, pauses=pauses)
        # The loop runs while `answers` waits, and in no thread of its own: Ctrl-C ends it at once.
        self._loop = asyncio.new_event_loop()
        self._asked: dict[asyncio.Task[Answer], str] = {}
        self._lost: str | None = None
        self._answered = self._useless_in_a_row = 0
        self.encodes_again = False
        try:
            self._entry = self._find_model()
            self._source = _source(tokenizer)
            self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self._source.tokenizer)
            self.context: int | None = self._entry.max_model_len
            self._ends = turn_ends(self.tokenizer, _generation_config(self._source.model))
            self._closing = closing_token(self.tokenizer, self._ends)
            self._probe()
        except BaseException:
            with suppress(Exception):  # which must not hide the first error
                self.close()
            raise

    def prompts(self, tags: TagSettings, template: Mapping[str, Any]) -> PromptBuilder:
        """See `Policy`."""
        try:
            model_type = AutoConfig.from_pretrained(self._source.model).model_type
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--tokenizer {self._source.model}: there is no config.json, which says how veRL builds the model's "
                "prompts; name the folder or hub name of the model itself"
            ) from error
        return prompt_builder(self.tokenizer, model_type, tags, self._closing, template)

    def identity(self) -> dict[str, Any]:
        """See `Policy`; the address may change when an evaluation is continued."""
        served = {"model": self._model, "root": self._entry.root}
        return {**served, **tokenizer_identity(self._source.tokenizer, self.tokenizer)}

    def notes(self) -> dict[str, Any]:
        """See `Policy`."""
        return {"endpoint": self._server.url, "encodes_again": self.encodes_again}

    def begin(self, lengths: Lengths, at_once: int) -> None:
        """See `Policy`; a server needs no notice."""

    def ask(self, key: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        """See `Policy`."""
        self._asked[self._loop.create_task(self._request(list(prompt), sampling))] = key

    def answers(self) -> dict[str, Answer]:
        """See `Policy`."""
        waiting = asyncio.wait(list(self._asked), return_when=asyncio.FIRST_COMPLETED)
        finished, _ = self._loop.run_until_complete(waiting)
        return {self._asked.pop(task): task.result() for task in finished}

    def close(self) -> None:
        """See `Policy`."""
        self._loop.run_until_complete(self._drop())
        self._loop.close()

    async def _drop(self) -> None:
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        self._asked.clear()
        await self._server.close()

    async def _request(self, prompt: list[int], sampling: SamplingParams) -> Answer:
        """Send one prompt; if it comes to nothing, judge whether the next one would."""
        if self._lost is not None:
            return Answer(error=self._lost, lost=True)
        answered_before = self._answered
        try:
            answer = self._answer(await self._server.complete(self._body(prompt, sampling)), sampling.max_tokens)
        except UnreachableError as error:
            # A server that answered others in the meantime is there, and only this request is stuck.
            return self._failed(error, lost=self._answered == answered_before)
        except RefusedError as error:
            self._useless_in_a_row += 1
            return self._failed(error, lost=self._useless_in_a_row >= _USELESS_IN_A_ROW)
        self._answered += 1
        self._useless_in_a_row = 0
        return answer

    def _failed(self, error: Exception, lost: bool) -> Answer:
        if lost:
            self._lost = str(error)
        return Answer(error=str(error), lost=lost)

    def _body(self, prompt: list[int], sampling: SamplingParams) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": (sampling.seed or 0) % 2**63,  # servers take a signed number
            "return_token_ids": True,
            "stop_token_ids": sorted(self._ends),
            # Tags may be special tokens, and belong to the response.
            "skip_special_tokens": False,
            # Said although they are the usual values: vLLM takes a model's generation_config.json for what is not said.
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }

    def _answer(self, completion: Completion, max_tokens: int) -> Answer:
        """Take the response out of a completion.

        Raises:
            RefusedError: the completion cannot be a response to the prompt.
        """
        choice, url = completion.choices[0], self._server.url
        ids = choice.token_ids
        if ids is None:
            self.encodes_again = True
            ids = [int(token) for token in self.tokenizer.encode(choice.text, add_special_tokens=False)]
        # Encoded again a text may have other tokens; then the server's own count holds.
        counted = choice.token_ids is None and completion.usage is not None
        sampled = completion.usage.completion_tokens if counted and completion.usage else len(ids)
        if sampled > max_tokens:
            raise RefusedError(f"{url} returned {sampled} tokens, and {max_tokens} were the most that it was asked for")
        reason = (choice.finish_reason or "").lower()
        if reason in _STOPPED and (not ids or ids[-1] not in self._ends):
            # What ended the turn is not in the text, and with some servers not in the token ids either.
            ids = [*ids, self._closing]
        if not ids:
            raise RefusedError(f"{url} returned a response without a token")
        if reason not in _STOPPED | _FULL and ids[-1] not in self._ends and sampled < max_tokens:
            raise RefusedError(
                f"{url} ended a response for the reason {choice.finish_reason!r}, which is neither the end of a turn "
                "nor the length limit"
            )
        return Answer(ids, cut_off=not turn_ended(ids, self._ends, max_tokens, "length" if reason in _FULL else reason))

    def _find_model(self) -> ServedModel:
        """Ask the server which models it has."""
        entries = {entry.id: entry for entry in self._loop.run_until_complete(self._server.models())}
        if self._model not in entries:
            raise ValueError(
                f"--model {self._model}: the server has no model of that name; it has {', '.join(sorted(entries))}"
            )
        return entries[self._model]

    def _probe(self) -> None:
        """Ask for one token: a server that takes no such requests is found out before an episode is begun."""
        body = self._body([self._closing], SamplingParams(max_tokens=1))
        try:
            self._loop.run_until_complete(self._server.complete(body))
        except (RefusedError, UnreachableError) as error:
            raise ValueError(
                f"--endpoint: a first request, for one token, failed: {error}. The evaluation sends prompts as token "
                "ids and sets vLLM's sampling parameters (top_k, min_p, return_token_ids, …); serve the model with "
                "'vllm serve MODEL' if this server does not take them"
            ) from error


def _source(name: str) -> ModelSource:
    """Where tokenizer and configuration of the served model are."""
    try:
        return find_tokenizer(name)
    except ValueError as error:
        raise ValueError(f"--tokenizer {error}; name the folder or hub name of the model that is served") from error


def _generation_config(name: str) -> GenerationConfig | None:
    """The generation configuration of a model, or what config.json says of it; None if there is neither."""
    try:
        return GenerationConfig.from_pretrained(name)
    except OSError:
        pass
    try:
        return GenerationConfig.from_model_config(AutoConfig.from_pretrained(name))
    except (OSError, ValueError):
        return None
