"""A model behind an OpenAI-compatible server such as vLLM's.

Prompts go to ``/v1/completions`` as token ids: rendered by the model's own chat template here, prefill included, they
are exactly those of training. A server that returns the sampled token ids (vLLM's ``return_token_ids``) keeps later
prompts exact too; with any other one the responses are encoded again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import httpx
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from verl_actfocus.episodes.tokens import Lengths, PromptBuilder, prompt_builder
from verl_actfocus.evaluation.policy import Answer
from verl_actfocus.evaluation.tokenizers import load_tokenizer, tokenizer_identity
from verl_actfocus.generation.batch import end_tokens
from verl_actfocus.generation.sampling import SamplingParams

#: Environment variable with the server's key.
KEY_VARIABLE = "OPENAI_API_KEY"
#: Answers that may be another one a little later.
_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
#: Seconds before the second, third, … try.
PAUSES = (1.0, 2.0, 4.0, 8.0)
#: A response may have to wait for its turn in the server's queue.
_TIMEOUT = httpx.Timeout(600.0, connect=10.0)


class EndpointModel:
    """A model that a server answers for.

    Args:
        url: address of the server, with or without ``/v1``.
        model: name under which the server knows the model.
        tokenizer: folder or hub name of the model's tokenizer and configuration.
        pauses: seconds before each further try of a request that failed for want of the server.

    Raises:
        ValueError: no server answers, it refuses the key, or it does not have the model; the message says what to do.

    Attributes:
        encodes_again: Whether a response came without token ids and had to be encoded again.
    """

    def __init__(self, url: str, model: str, tokenizer: str, *, pauses: Sequence[float] = PAUSES) -> None:
        self._url = url.rstrip("/") if url.rstrip("/").endswith("/v1") else url.rstrip("/") + "/v1"
        self._model, self._tokenizer_name, self._pauses = model, tokenizer, tuple(pauses)
        key = os.environ.get(KEY_VARIABLE)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._entry = self._find_model()
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(tokenizer)
        self.context: int | None = self._entry.get("max_model_len")
        self._end_ids = end_tokens(_generation_config(tokenizer), self.tokenizer)
        # The loop runs while `answers` waits, and in no thread of its own: Ctrl-C ends it at once.
        self._loop = asyncio.new_event_loop()
        self._client: httpx.AsyncClient | None = None
        self._asked: dict[asyncio.Task[Answer], str] = {}
        self._lost: str | None = None
        self.encodes_again = False

    def prompts(self, prefill: str) -> PromptBuilder:
        """See `Policy`."""
        try:
            model_type = AutoConfig.from_pretrained(self._tokenizer_name).model_type
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--tokenizer {self._tokenizer_name}: there is no config.json, which says how veRL builds the model's "
                "prompts; name the folder or hub name of the model itself"
            ) from error
        return prompt_builder(self.tokenizer, model_type, prefill)

    def identity(self) -> dict[str, Any]:
        """See `Policy`; the address may change when an evaluation is continued."""
        served = {"model": self._model, "root": self._entry.get("root")}
        return {**served, **tokenizer_identity(self._tokenizer_name, self.tokenizer)}

    def notes(self) -> dict[str, Any]:
        """See `Policy`."""
        return {"endpoint": self._url, "encodes_again": self.encodes_again}

    def begin(self, lengths: Lengths, at_once: int) -> None:
        """See `Policy`."""
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        self._client = httpx.AsyncClient(headers=self._headers, timeout=_TIMEOUT, limits=limits)

    def ask(self, key: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        """See `Policy`."""
        if self._client is None:
            raise RuntimeError("EndpointModel: begin() comes before the first prompt")
        task = self._loop.create_task(self._request(self._client, list(prompt), sampling))
        self._asked[task] = key

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
        if self._client is not None:
            await self._client.aclose()

    async def _request(self, client: httpx.AsyncClient, prompt: list[int], sampling: SamplingParams) -> Answer:
        """Send one prompt, again if the server is away for a moment."""
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": (sampling.seed or 0) % 2**63,  # servers take a signed number
            "return_token_ids": True,
            # Said although they are the usual values: vLLM takes a model's generation_config.json for what is not said.
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
        problem = ""
        for pause in (0.0, *self._pauses):
            if self._lost is not None:
                return Answer(error=self._lost, lost=True)
            await asyncio.sleep(pause)
            try:
                response = await client.post(f"{self._url}/completions", json=body)
            except httpx.HTTPError as error:
                problem = f"{self._url} does not answer ({_words(error)})"
                continue
            if response.status_code in _TRANSIENT:
                problem = f"{self._url} answers {_told(response)}"
                continue
            if response.is_error:
                return Answer(error=f"{self._url} refuses a prompt of {len(prompt)} tokens: {_told(response)}")
            return self._answer(response)
        self._lost = problem
        return Answer(error=problem, lost=True)

    def _answer(self, response: httpx.Response) -> Answer:
        try:
            choice = response.json()["choices"][0]
            text, reason = str(choice["text"]), choice["finish_reason"]
        except (ValueError, LookupError, TypeError):
            return Answer(error=f"{self._url} answers something else than a completion: {response.text[:200]!r}")
        if reason not in ("stop", "length"):
            return Answer(error=f"{self._url} ended a response for the reason {reason!r}")
        ids = choice.get("token_ids")
        if ids is None:
            self.encodes_again = True
            ids = [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)]
        if reason == "stop" and (not ids or ids[-1] not in self._end_ids):
            # What ended the turn is not in the text, and with some servers not in the token ids either.
            ids = [*ids, self.tokenizer.eos_token_id]
        if not ids:
            return Answer(error=f"{self._url} returned a response without a token")
        return Answer(ids, cut_off=reason == "length")

    def _find_model(self) -> dict[str, Any]:
        """Ask the server which models it has."""
        try:
            response = httpx.get(f"{self._url}/models", headers=self._headers, timeout=_TIMEOUT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ValueError(
                f"--endpoint {self._url}: no server answers ({_words(error)}); start one with 'vllm serve MODEL', or "
                "correct the address"
            ) from error
        if response.status_code in (401, 403):
            raise ValueError(
                f"--endpoint {self._url}: the server refuses the key ({response.status_code}); put the right one into "
                f"the environment variable {KEY_VARIABLE}"
            )
        if response.is_error:
            raise ValueError(
                f"--endpoint {self._url}: /models answers {_told(response)}; is this an OpenAI-compatible server?"
            )
        try:
            entries = {str(entry["id"]): entry for entry in response.json()["data"]}
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"--endpoint {self._url}: /models answers {response.text[:200]!r}") from error
        if self._model not in entries:
            raise ValueError(
                f"--model {self._model}: the server has no model of that name; it has {', '.join(sorted(entries))}"
            )
        return entries[self._model]


def _generation_config(name: str) -> GenerationConfig | None:
    """The generation configuration beside a tokenizer; None if there is none."""
    try:
        return GenerationConfig.from_pretrained(name)
    except OSError:
        return None


def _told(response: httpx.Response) -> str:
    """What an error answer says."""
    return f"{response.status_code} {response.reason_phrase}: {response.text[:300].strip()}"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
