"""Policies with prepared responses, and a server that answers like vLLM's."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from verl_actfocus import models
from verl_actfocus.episodes.tokens import ChatML, Lengths
from verl_actfocus.evaluation.policy import Answer
from verl_actfocus.evaluation.settings import EvaluationSettings, profile_settings
from verl_actfocus.evaluation.tokenizers import load_tokenizer
from verl_actfocus.generation.sampling import SamplingParams

RIGHT = "I go right.</think><answer>Right</answer>"
Reply = Callable[[str, int], str | Answer]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny models gain nothing from more threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(str(models.folder("frozenlake") / "tokenizer"))


@pytest.fixture
def settings() -> EvaluationSettings:
    """Two tasks of the FrozenLake miniature, two episodes each."""
    return dataclasses.replace(profile_settings("cpu_frozenlake"), tasks=2, samples=2)


class ScriptedPolicy:
    """Answers with what a function makes of the prompt's text and the number of the request; an Answer is passed on."""

    context: int | None = None

    def __init__(self, tokenizer: PreTrainedTokenizerBase, reply: Reply) -> None:
        self.tokenizer, self._reply = tokenizer, reply
        self.asked: list[tuple[str, list[int], SamplingParams]] = []
        self.most_at_once = 0
        self._waiting: dict[str, str | Answer] = {}

    def prompts(self, prefill: str) -> ChatML:
        return ChatML(self.tokenizer, prefill)

    def identity(self) -> dict[str, Any]:
        return {"model": "scripted"}

    def notes(self) -> dict[str, Any]:
        return {}

    def begin(self, lengths: Lengths, at_once: int) -> None:
        self.at_once = at_once

    def ask(self, key: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        self._waiting[key] = self._reply(self.tokenizer.decode(list(prompt)), len(self.asked))
        self.asked.append((key, list(prompt), sampling))
        self.most_at_once = max(self.most_at_once, len(self._waiting))

    def answers(self) -> dict[str, Answer]:
        """One at a time, the latest first: episodes overtake each other."""
        key, reply = self._waiting.popitem()
        if isinstance(reply, Answer):
            return {key: reply}
        ids = self.tokenizer.encode(reply, add_special_tokens=False)
        return {key: Answer([*ids, self.tokenizer.eos_token_id])}

    def close(self) -> None:
        self._waiting.clear()


class FakeServer:
    """An OpenAI-compatible server on a free port of this machine.

    Attributes:
        requests: Bodies of the completion requests, in order.
        keys: ``Authorization`` header of every request.
        script: For each completion request one HTTP status to fail with, or 200; then 200 for ever.
        token_ids: Whether the sampled token ids are returned, as vLLM does when it is asked to.
        context: Most tokens of a prompt and its response.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, reply: str = RIGHT) -> None:
        self.tokenizer, self.reply = tokenizer, reply
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.script: list[int] = []
        self.token_ids = True
        self.context = 600
        self.key: str | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.keys.append(self.headers.get("Authorization"))
                if server.key is not None and self.headers.get("Authorization") != f"Bearer {server.key}":
                    return self._send(401, {"error": "no"})
                entry = {"id": "tiny", "root": "/models/tiny", "max_model_len": server.context}
                return self._send(200, {"data": [entry]}) if self.path == "/v1/models" else self._send(404, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.keys.append(self.headers.get("Authorization"))
                server.requests.append(body)
                status = server.script.pop(0) if server.script else 200
                if self.path != "/v1/completions":
                    status = 404
                self._send(status, server.completion(body) if status == 200 else {"error": {"message": "no room"}})

            def _send(self, status: int, value: dict[str, Any]) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        ids = [*self.tokenizer.encode(self.reply, add_special_tokens=False), self.tokenizer.eos_token_id]
        cut = len(ids) > body["max_tokens"]
        ids = ids[: body["max_tokens"]]
        choice = {
            "text": self.tokenizer.decode(ids, skip_special_tokens=True),
            "finish_reason": "length" if cut else "stop",
            **({"token_ids": ids} if self.token_ids else {}),
        }
        return {"choices": [choice]}

    def stop(self) -> None:
        """Go away."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tokenizer: PreTrainedTokenizerBase) -> Iterator[FakeServer]:
    fake = FakeServer(tokenizer)
    yield fake
    fake.stop()
