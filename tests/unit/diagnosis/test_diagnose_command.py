"""`actfocus diagnose` with a tiny model: files, continuation, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus import models
from verl_actfocus.cli.main import main
from verl_actfocus.trajectories import Trajectory, read_trajectories, write_trajectory

MODEL = str(models.folder("frozenlake"))


def diagnose(*words: str) -> int:
    return main(["diagnose", *words])


def played(out: Path, *words: str) -> int:
    return diagnose(words[0], "--model", MODEL, "--profile", "cpu_frozenlake", *words[1:], "--out", str(out))


def figures(out: Path) -> dict[str, Any]:
    """The figures, in which nothing is NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found: dict[str, Any] = json.loads((out / "diagnosis.json").read_text(), parse_constant=refuse)
    return found


def test_correlation_writes_its_files_and_is_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("correlation", "--groups", "4", "--group-size", "3")
    assert played(tmp_path, *words) == 0
    said = capsys.readouterr()
    assert "4 groups × 3 = 12 episodes of up to 3 responses of 64 tokens" in said.err
    assert "the policy is its own reference, so that there is no shift" in said.out
    for name in ("correlation.png", "energies.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert f"({name})" in (tmp_path / "diagnosis.md").read_text()
    found = figures(tmp_path)["correlation"]
    assert found["groups"] == 4 and len(found["correlations"]) == 12
    lines = (tmp_path / "trajectories.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 12
    (tmp_path / "trajectories.jsonl").write_text("".join(lines[:7]) + lines[7][:50])  # killed in the middle of a line
    assert played(tmp_path, *words) == 0
    assert "7 are there, 5 are left" in capsys.readouterr().err
    assert sorted(_keys(tmp_path)) == [(task, session) for task in range(4) for session in range(3)]
    assert figures(tmp_path)["correlation"]["correlations"] == found["correlations"]
    assert played(tmp_path, *words, "--temperature", "0.5") == 2
    assert "holds a diagnosis with other settings" in capsys.readouterr().err


def _keys(folder: Path) -> list[tuple[int | None, int]]:
    return [(one.task, one.session) for one in read_trajectories(folder / "trajectories.jsonl")]


def test_another_reference_gives_the_shift(tmp_path: Path) -> None:
    words = ("correlation", "--groups", "4", "--group-size", "3", "--reference", MODEL)
    assert played(tmp_path, *words) == 0
    one = next(read_trajectories(tmp_path / "trajectories.jsonl"))
    # The same weights, loaded twice: a shift of zero that was computed.
    assert {value for value in one.signals["shift"] if value is not None} == {0.0}
    shift = [one for one in figures(tmp_path)["correlation"]["correlations"] if one["signal"] == "shift"]
    assert "the log-probability shift of all groups is the same" in shift[0]["problem"]


def test_decisions_write_their_files_and_are_continued_with_more_states(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("decisions", "--at-turn", "1", "2", "--draws", "2", "2", "2")
    assert played(tmp_path, *words, "--states", "3") == 0
    said = capsys.readouterr()
    assert "2 turns × 3 states × 2 reasonings × 2 actions × 2 futures = 48 episodes" in said.err
    assert (tmp_path / "decisions.png").read_bytes().startswith(b"\x89PNG")
    found = figures(tmp_path)["decisions"]
    assert [(one["turn"], one["outcome"], one["states"]) for one in found] == [
        (1, "success", 3), (1, "reward", 3), (2, "success", 3), (2, "reward", 3)
    ]  # fmt: skip
    lines = (tmp_path / "states.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "states.jsonl").write_text("".join(lines[:-1]) + lines[-1][:30])
    assert played(tmp_path, *words, "--states", "3") == 0
    assert sorted((tmp_path / "states.jsonl").read_text().splitlines(keepends=True)) == sorted(lines)
    assert figures(tmp_path)["decisions"] == found
    assert played(tmp_path, *words, "--states", "4") == 0
    assert {one["states"] for one in figures(tmp_path)["decisions"]} == {4}
    assert set(lines) <= set((tmp_path / "states.jsonl").read_text().splitlines(keepends=True))


def test_a_run_is_followed_over_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    (run / "trajectories").mkdir(parents=True)
    for step, groups in ((1, 4), (2, 2)):
        for number in range(2 * groups):
            line = Trajectory(
                group=str(number // 2),
                session=number % 2,
                step=step,
                prompt_ids=[1],
                prompt="?",
                ids=[1, 2],
                tokens=["a", "b"],
                spans=["reasoning", "action"],
                turns=[0, 0],
                signals={"ref_energy": [float(number), float(-number)]},
                reward=float(number % 2) * number,
            )
            write_trajectory(run / "trajectories" / f"{step}.jsonl", line)
    assert diagnose("correlation", "--run", str(run), "--out", str(tmp_path / "out")) == 0
    first, second = figures(tmp_path / "out")["steps"]
    rho = {one["part"]: one["rho"] for one in first["correlations"] if one["signal"] == "energy"}
    assert (rho["reasoning"], rho["action"]) == (1.0, -1.0)
    assert "- all, reasoning, action tokens, step 2: not defined: 2 groups are too few" in capsys.readouterr().out
    assert {one["rho"] for one in second["correlations"]} == {None}
    assert (tmp_path / "out" / "over-training.png").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("correlation", "--env", "sokoban"), "name a model with --model, or a training run"),
        (("correlation", "--run", "x", "--model", MODEL), "name one of the two"),
        (("correlation", "--model", MODEL), "name an environment with --env"),
        (("decisions", "--model", MODEL, "--profile", "cpu_frozenlake", "--at-turn", "4"), "at most 3 turns"),
        (
            ("decisions", "--model", MODEL, "--profile", "cpu_frozenlake", "--draws", "1", "5", "2"),
            "1 reasonings: a variance needs at least 2 of each",
        ),
    ],
)
def test_what_cannot_be_diagnosed_is_refused_before_anything_is_played(
    words: tuple[str, ...], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert diagnose(*words, "--out", str(tmp_path / "out")) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
