"""`actfocus view` says where the page is, what is on it and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.viewer.samples import make, write
from verl_actfocus.cli.main import main


def test_the_page_is_written_and_named_with_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("a", "b"):
        write(tmp_path / f"{run}.jsonl", [make(group=str(n)) for n in range(3)])
    out = tmp_path / "new" / "page.html"
    assert main(["view", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--out", str(out), "--limit", "4"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "4 trajectories of a; b"
    assert said[1].startswith("2 of 6 trajectories are not on this page") and "--limit 6" in said[1]
    assert str(out) in said[2] and out.resolve().as_uri() in said[2]
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_demo_shows_both_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo.html"
    assert main(["view", "--demo", "--out", str(out)]) == 0
    assert "trajectories of Uniform; ActFocus" in capsys.readouterr().out and out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a run, an evaluation, a folder or a file, or --demo"),
        (["--demo", "{here}"], "name a run, an evaluation, a folder or a file, or --demo"),
        (["{here}/nowhere"], "nowhere does not exist"),
        (["{here}"], "holds no trajectories"),
        (["{here}/empty.jsonl"], "no trajectory has been written there yet"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "{here}/empty.jsonl" in words:
        (tmp_path / "empty.jsonl").touch()
    assert main(["view", *(word.format(here=tmp_path) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["view", "--demo", "--out", str(tmp_path)])
    assert f"{tmp_path} is a folder; name a file, such as {tmp_path}/trajectories.html" in capsys.readouterr().err
