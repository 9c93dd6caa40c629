"""Policies with prepared responses, and a server that answers like vLLM's."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from verl_actfocus import models
from verl_actfocus.episodes import TagSettings
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

    def prompts(self, tags: TagSettings, template: Mapping[str, Any]) -> ChatML:
        return ChatML(self.tokenizer, tags.prefill, template)

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
        requests: Bodies of the completion requests, in order, without those of one token.
        probes: Bodies of the completion requests whose prompt is one token.
        keys: `Authorization` header of every request.
        script: For each completion request one HTTP status to fail with, or 200; then 200 for ever.
        headers: Further headers of failures.
        models: The list of models, if it is another than the usual one.
        change: Makes the answer to a request out of the usual one: a value, or bytes as they are.
        probed: Whether `script`, `change` and `hang` hold for probes too.
        hang: `silent`: no answer; `dripping`: a byte of one now and then; only of requests that it is true of.
        token_ids: Whether the sampled token ids are returned, as vLLM does when it is asked to.
        context: Most tokens of a prompt and its response.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, reply: str = RIGHT) -> None:
        self.tokenizer, self.reply, self.end = tokenizer, reply, tokenizer.eos_token_id
        self.requests: list[dict[str, Any]] = []
        self.probes: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.change: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.probed = False
        self.models: dict[str, Any] | None = None
        self.hang: Callable[[int], str | None] = lambda number: None
        self._stopped = threading.Event()
        self._one_at_a_time = threading.Lock()
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
                return (
                    self._send(200, server.models or {"data": [entry]})
                    if self.path == "/v1/models"
                    else self._send(404, {})
                )

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.keys.append(self.headers.get("Authorization"))
                probe = len(body["prompt"]) == 1
                received = server.probes if probe else server.requests
                with server._one_at_a_time:  # requests arrive in threads of their own; each has its number and status
                    received.append(body)
                    number = len(received)
                    status = server.script.pop(0) if server.script and (server.probed or not probe) else 200
                if self.path != "/v1/completions":
                    status = 404
                usual = server.completion(body) if status == 200 else {"error": {"message": "no room"}}
                asis = probe and not server.probed
                hang = None if asis else server.hang(number)
                while hang == "silent" and not server._stopped.wait(1.0):
                    """Say nothing."""
                self._send(status, usual if asis else server.change(usual), hang == "dripping")

            def _send(self, status: int, value: Any, dripping: bool = False) -> None:
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in ({} if status == 200 else server.headers).items():
                    self.send_header(name, text)
                if not dripping:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                while dripping and not server._stopped.wait(0.05):
                    self.wfile.write(b" ")
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *about: None  # a client that gave up
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        ids = [*self.tokenizer.encode(self.reply, add_special_tokens=False), self.end]
        cut = len(ids) > body["max_tokens"]
        ids = ids[: body["max_tokens"]]
        text = ids if cut else ids[:-1]  # as vLLM, which leaves the token out that it stopped at
        choice = {
            "text": self.tokenizer.decode(text, skip_special_tokens=body["skip_special_tokens"]),
            "finish_reason": "length" if cut else "stop",
            **({"token_ids": ids} if self.token_ids else {}),
        }
        return {"choices": [choice]}

    def stop(self) -> None:
        """Go away."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tokenizer and configuration in one folder, as on the Hugging Face hub."""
    merged = tmp_path_factory.mktemp("tiny")
    for part in ("model", "tokenizer"):
        for file in (models.folder("frozenlake") / part).glob("*.json*"):
            (merged / file.name).write_text(file.read_text())
    (merged / "chat_template.jinja").write_text(
        (models.folder("frozenlake") / "tokenizer/chat_template.jinja").read_text()
    )
    return str(merged)


@pytest.fixture
def server(tokenizer: PreTrainedTokenizerBase) -> Iterator[FakeServer]:
    fake = FakeServer(tokenizer)
    yield fake
    fake.stop()
