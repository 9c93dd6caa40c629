"""A model that ships with the package has one name, and every command takes it: for a model, and for a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from verl_actfocus import models
from verl_actfocus.cli.main import main
from verl_actfocus.evaluation.checkpoints import ModelSource, find_model, find_tokenizer
from verl_actfocus.evaluation.endpoint import EndpointModel

from .conftest import FakeServer

PACKAGED = models.folder("frozenlake")
SOURCE = ModelSource(str(PACKAGED / "model"), str(PACKAGED / "tokenizer"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which there is no clone of this repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read from the environment on import
    return tmp_path


@pytest.mark.parametrize("name", models.available())
def test_the_name_of_a_packaged_model_is_found_from_anywhere(name: str) -> None:
    assert find_model(name) == find_tokenizer(name) == find_model(str(models.folder(name)))


def test_a_folder_of_that_name_comes_first(elsewhere: Path) -> None:
    own = elsewhere / "frozenlake"
    for part in ("model", "tokenizer"):
        (own / part).mkdir(parents=True)
        for file in (PACKAGED / part).glob("*.json"):
            (own / part / file.name).write_text(file.read_text())
    assert find_model("frozenlake") == ModelSource("frozenlake/model", "frozenlake/tokenizer")


def test_a_tokenizer_is_named_by_itself_or_by_anything_that_names_its_model(elsewhere: Path) -> None:
    alone = str(PACKAGED / "tokenizer")
    assert find_tokenizer(alone) == ModelSource(alone, alone)
    for name in ("frozenlake", str(PACKAGED)):
        assert find_tokenizer(name) == SOURCE
    assert find_tokenizer("some/model") == ModelSource("some/model", "some/model")


@pytest.mark.parametrize("name", ["frozenlake", str(PACKAGED)])
def test_a_served_packaged_model_is_evaluated_by_its_name(
    server: FakeServer, name: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.models = {"data": [{"id": name, "max_model_len": 600}]}
    command = ["eval", "--endpoint", server.url, "--model", name, "--profile", "cpu_frozenlake", "--episodes", "4"]
    assert main([*command, "--out", "without"]) == 0
    assert main([*command, "--out", "named", "--tokenizer", "frozenlake"]) == 0
    for out in ("without", "named"):
        written = json.loads((elsewhere / out / "summary.json").read_text())
        assert written["model"]["tokenizer"] == str(PACKAGED / "tokenizer")
    # The prompts are those of a tokenizer that the server's answers are decoded with.
    assert server.requests and all("Player" in server.tokenizer.decode(one["prompt"]) for one in server.requests)


def test_prompt_lengths_and_the_benchmark_of_tagging_take_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prompt-lengths", "--env", "frozenlake", "--episodes", "2", "--tokenizer"]
    assert main([*words, "frozenlake"]) == 0
    by_name = capsys.readouterr().out
    assert main([*words, str(PACKAGED / "tokenizer")]) == 0
    assert capsys.readouterr().out == by_name
    assert main(["bench", "tagging", "--lengths", "64", "--rounds", "1", "--tokenizer", "frozenlake"]) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("verl_actfocus/models/frozenlake", r"--tokenizer verl_actfocus/models/frozenlake: there is no such folder .*"),
        ("tiny", r"no tokenizer could be read from tiny: .*"),
    ],
)
def test_a_name_that_is_none_is_told_which_names_there_are(server: FakeServer, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message + ", ".join(models.available())):
        EndpointModel(server.url, "tiny", name)
