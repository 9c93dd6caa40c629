"""The address of a server, its password and its key: checked before a request, and never shown or kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from verl_actfocus.cli.main import main
from verl_actfocus.evaluation.endpoint import EndpointModel
from verl_actfocus.evaluation.server import KEY_VARIABLE

from .conftest import FakeServer


def test_a_password_in_the_address_is_used_and_neither_shown_nor_kept(
    server: FakeServer, model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.url.replace("http://", "http://me:s3%40cret@")
    command = ["eval", "--endpoint", address, "--model", "tiny", "--tokenizer", model_folder]
    command += ["--profile", "cpu_frozenlake", "--episodes", "4", "--out", str(tmp_path / "out")]
    server.script = [400]
    server.change = lambda answer: {**answer, "error": "wrong password s3@cret"} if "error" in answer else answer
    assert main(command) == 1
    assert set(server.keys) == {"Basic bWU6czNAY3JldA=="}  # base64 of me:s3@cret
    printed = "".join(capsys.readouterr())
    written = "".join(file.read_text() for file in (tmp_path / "out").iterdir())
    assert "wrong password ***" in printed and "wrong password ***" in written
    for text in (printed, written):
        assert "s3@cret" not in text and "s3%40cret" not in text
    assert json.loads((tmp_path / "out/summary.json").read_text())["model"]["endpoint"] == f"{server.url}/v1"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost:8000", r"'localhost:8000' is no address such as http://localhost:8000"),
        ("me:s3cret@localhost:8000", r"'localhost:8000' is no address"),
        ("http://me:s3cret@", "is no address"),
        ("http://me:s3cret@host:99999", "'host:99999' is no address"),
        ("http://me:s3cret@[::1", "is no address"),
        ("ftp://host", "is no address"),
        ("", "is no address"),
        ("http://host/v1?api_key=s3cret", rf"leave out what follows '\?' or '#'; a key goes into .*{KEY_VARIABLE}"),
        ("http://host/v1#s3cret", "leave out"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_secrets(model_folder: str, address: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        EndpointModel(address, "tiny", model_folder)
    assert "s3cret" not in str(refused.value)


def test_a_key_that_no_header_can_hold_is_refused_unseen(
    server: FakeServer, model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "s3crét")
    with pytest.raises(ValueError, match=f"{KEY_VARIABLE} holds characters that a key cannot have"):
        EndpointModel(server.url, "tiny", model_folder)
    monkeypatch.setenv(KEY_VARIABLE, "s3cret\n")  # a file's last line break
    EndpointModel(server.url, "tiny", model_folder).close()
    assert set(server.keys) == {"Bearer s3cret"}


def test_a_timeout_without_a_server_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--model", "x", "--profile", "cpu_frozenlake", "--timeout", "5"]) == 2
    assert "--timeout is for the server's answers" in capsys.readouterr().err
