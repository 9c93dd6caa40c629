"""A word of the command line that cannot be honoured is refused before anything is done, with what to give instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from verl_actfocus.cli.main import main

#: Commands with everything that they need but `--out`.
WRITING = {
    "compare": ["compare", "--dry-run"],
    "train": ["train", "cpu_frozenlake", "--dry-run"],
    "reproduce": ["reproduce", "table2", "--scale", "cpu", "--dry-run"],
    "eval": ["eval", "--model", "./no", "--profile", "cpu_frozenlake"],
    "warmstart": ["warmstart", "frozenlake"],
    "report": ["report", "run.jsonl"],
}


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The last line of what a command says that refuses its words."""
    try:
        assert main(words) == 2
    except SystemExit as end:  # argparse
        assert end.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.splitlines()[-1]


@pytest.mark.parametrize("command", WRITING)
def test_a_folder_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "file").write_text("x")
    words = [*WRITING[command], "--out"]
    assert "is no folder; choose another one" in refusal(capsys, *words, str(tmp_path / "file"))
    assert "is no folder; choose another one" in refusal(capsys, *words, str(tmp_path / "file" / "below"))
    assert "the name of the folder is empty" in refusal(capsys, *words, "")
    assert "holds characters that are no text" in refusal(capsys, *words, os.fsdecode(b"bad\xff"))
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_without_permission_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by chmod: root, as which containers run, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert "cannot be written to" in refusal(capsys, "compare", "--dry-run", "--out", str(tmp_path / "x"))


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "x", ""])
def test_a_temperature_is_a_finite_number(capsys: pytest.CaptureFixture[str], text: str) -> None:
    for words in (["eval", "--model", "./no", "--env", "frozenlake"], ["play", "frozenlake"]):
        assert f"{text!r} is not a temperature" in refusal(capsys, *words, f"--temperature={text}")


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "²", str(2**32)])
def test_a_seed_is_an_integer_that_generators_take(capsys: pytest.CaptureFixture[str], text: str) -> None:
    for words in (WRITING["train"], WRITING["eval"], ["play", "frozenlake"], [*WRITING["warmstart"], "--out", "x"]):
        assert f"{text!r} is not a seed" in refusal(capsys, *words, f"--seed={text}")


@pytest.mark.parametrize(("device", "message"), [("cuda:99", "torch finds"), ("gpu", "there is no such device")])
def test_a_device_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str, message: str
) -> None:
    from verl_actfocus import models

    model = str(models.folder("frozenlake"))
    words = ["eval", "--model", model, "--profile", "cpu_frozenlake", "--out", str(tmp_path / "o")]
    said = refusal(capsys, *words, "--device", device)
    assert repr(device) in said
    assert message in said


@pytest.mark.parametrize("text", ["rows: [", "a: b: c", "\tx: 1", "- \x00"])
def test_a_table_that_is_no_yaml_is_named_with_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    table = tmp_path / "mine.yaml"
    table.write_text(text)
    (tmp_path / "_scales.yaml").write_text("cpu: {run: 'cpu_{env}', summary: s, first_seed: 0, seeds: 1, size: tiny}")
    said = refusal(capsys, "reproduce", str(table), "--scale", "cpu", "--dry-run")
    assert f"{table} cannot be read as YAML" in said
    assert "correct the file" in said
    (tmp_path / "_scales.yaml").write_text(text)
    assert "_scales.yaml cannot be read as YAML" in refusal(capsys, "reproduce", str(table), "--dry-run")


@pytest.mark.parametrize("name", [r"it\'s", r"end\ ", r"a\\b", r"q'", r"x\\'y", "comma,= {x}"])
def test_a_folders_name_reaches_hydra_as_it_is(tmp_path: Path, name: str) -> None:
    from verl_actfocus.experiments.runs.composed_run import compose_run
    from verl_actfocus.experiments.runs.run import Conditions
    from verl_actfocus.experiments.runs.weightings import ACTFOCUS

    folder = tmp_path / name
    run = Conditions(profile="cpu_frozenlake", algorithm="grpo", folder=folder).runs([ACTFOCUS], [0])[0]
    assert compose_run(run).run.folder.parent == folder
