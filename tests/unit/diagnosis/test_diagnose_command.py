"""`actfocus diagnose` with a tiny model: files, continuation, what is refused."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus import envs, models
from verl_actfocus.cli.main import main
from verl_actfocus.diagnosis.charts import energy_histogram
from verl_actfocus.envs.frozenlake.env import FrozenLakeEnv
from verl_actfocus.episodes.tokens import Lengths
from verl_actfocus.evaluation import local
from verl_actfocus.evaluation.checkpoints import find_model
from verl_actfocus.evaluation.local import LocalModel
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
    # Fewer groups than there are: every figure is of those that are asked for.
    assert played(tmp_path, "correlation", "--groups", "2", "--group-size", "3") == 0
    fewer = figures(tmp_path)["correlation"]
    two = [one for one in read_trajectories(tmp_path / "trajectories.jsonl") if one.task in (0, 1)]
    assert fewer["groups"] == 2 and fewer["energies"] == energy_histogram([two, two]) != found["energies"]
    capsys.readouterr()
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
    capsys.readouterr()
    assert played(tmp_path, *words, "--states", "2") == 0
    assert (
        "4/4 states" in capsys.readouterr().err
    )  # of the turns and states that are asked for, not of all in the folder
    assert played(tmp_path, *words, "--states", "4") == 0
    assert {one["states"] for one in figures(tmp_path)["decisions"]} == {4}
    assert set(lines) <= set((tmp_path / "states.jsonl").read_text().splitlines(keepends=True))


def test_a_task_that_fails_is_tried_once_and_exchanged_for_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    reset = FrozenLakeEnv.reset

    def fails(self: FrozenLakeEnv, *, seed: int | None = None, options: Any = None) -> Any:
        if seed == 1:
            tried.append(seed)
            raise OSError("no lake")
        return reset(self, seed=seed, options=options)

    monkeypatch.setattr(FrozenLakeEnv, "reset", fails)
    words = ("decisions", "--draws", "2", "2", "1", "--states", "3")
    assert played(tmp_path, *words) == 0
    assert tried == [1]
    said = capsys.readouterr()
    assert "0 of 3 states are missing; 1 infrastructure failures" in said.err and "no lake" in said.err
    assert figures(tmp_path)["decisions"][0]["states"] == 3


def test_groups_that_failed_in_part_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reset = FrozenLakeEnv.reset
    calls: list[int | None] = []

    def fails(self: FrozenLakeEnv, *, seed: int | None = None, options: Any = None) -> Any:
        calls.append(seed)
        if seed == 1 and calls.count(1) == 1:
            raise OSError("no lake")
        return reset(self, seed=seed, options=options)

    monkeypatch.setattr(FrozenLakeEnv, "reset", fails)
    assert played(tmp_path, "correlation", "--groups", "4", "--group-size", "2") == 1
    said = capsys.readouterr()
    assert "1 of 8 episodes are missing" in said.err and "1 groups of which episodes failed are left out" in said.out
    found = figures(tmp_path)["correlation"]
    assert (found["groups"], found["groups_left_out"]) == (3, 1)


def test_the_next_batch_is_taken_after_the_last_one_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LocalModel(find_model(MODEL), device="cpu")

    class Batch:
        alive: weakref.ref[Any] | None = None

        def __init__(self, *_: object, **__: object) -> None:
            assert Batch.alive is None or Batch.alive() is None
            Batch.alive = weakref.ref(self)

    monkeypatch.setattr(local, "ContinuousBatch", Batch)
    for _ in range(2):
        model.begin(Lengths(prompt=10, response=10), 2)
    assert Batch.alive is not None and Batch.alive() is not None


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
    for name in ("over-training.png", "energies.png"):
        assert (tmp_path / "out" / name).exists()
    # Another number of steps is computed into the same folder.
    (run / "run.json").write_text(
        json.dumps({"run": {"weighting": "actfocus"}, "settings": {"algorithm.actfocus.keep_groups": 0.25}})
    )
    assert diagnose("correlation", "--run", str(run), "--pool", "2", "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "| 1–2 | 2.0 | 50.0 % | 50.0 % | 0.0 % |" in said
    assert "trained on the 25 % of its groups with the largest spread of rewards (keep_groups)" in said
    found = figures(tmp_path / "out")
    assert (found["pool"], found["keep_groups"], found["steps"][0]["groups"]) == (2, 0.25, 6)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("correlation", "--env", "sokoban"), "name a model with --model, or a training run"),
        (("correlation", "--run", "x", "--model", MODEL), "leave --model out"),
        (
            ("correlation", "--run", "x", "--env", "sokoban", "--groups", "400", "--temperature", "1", "--seed", "0"),
            "--run reads what a run saved and plays nothing; leave --env, --temperature, --seed, --groups out",
        ),
        (("correlation", "--model", MODEL, "--env", "sokoban", "--pool", "2"), "name the run with --run"),
        (
            ("correlation", "--model", MODEL, "--env", "sokoban", "--group-size", "1"),
            "--group-size 1: the spread of a group's rewards needs at least 2 episodes",
        ),
        (("decisions", "--model", "nowhere", "--env", "alone", "--future", "expert"), "has no expert"),
        (("correlation", "--model", MODEL), "name an environment with --env"),
        (("decisions", "--model", MODEL, "--profile", "cpu_frozenlake", "--at-turn", "4"), "at most 3 turns"),
        (
            ("decisions", "--model", MODEL, "--profile", "cpu_frozenlake", "--draws", "1", "5", "2"),
            "1 reasonings: a variance needs at least 2 of each",
        ),
    ],
)
def test_what_cannot_be_diagnosed_is_refused_before_anything_is_played(
    words: tuple[str, ...],
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(envs.ENVIRONMENTS, "alone", replace(envs.spec("drawn"), expert=None))
    assert diagnose(*words, "--out", str(tmp_path / "out")) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
