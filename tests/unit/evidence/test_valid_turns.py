"""Which runs of an archive lost their format, and what the others kept."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tools.evidence import valid_turns

METRICS = ("val/valid_turn_rate", "val/success", "val/well_formed_turn_rate")
CUT = {"val/stop/response_cut": 0.125}
#: Step → shares of valid turns and of success and, where it was recorded, of well-formed turns.
Evaluations = dict[int, tuple[float, ...]]


def archived(path: Path, runs: dict[str, Evaluations], more: dict[str, float] = CUT) -> Path:
    """Write an archive of runs: name → evaluations."""
    with tarfile.open(path, "w:xz") as archive:
        for name, evaluations in runs.items():
            lines = [
                json.dumps({"step": step, "data": dict(zip(METRICS, shares, strict=False)) | more})
                for step, shares in evaluations.items()
            ]
            content = "\n".join([*lines, json.dumps({"step": 21, "data": {"rollout/success": 0.5}})]).encode()
            for file, text in (("run.json", b"{}"), ("done.json", b"{}"), ("metrics-1.jsonl", content)):
                member = tarfile.TarInfo(f"cpu/{name}/{file}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
    return path


def test_a_run_that_lost_five_points_is_named_with_every_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {
        "lake/uniform-seed1": {0: (0.9, 0.4), 10: (0.875, 0.5), 20: (0.95, 0.6)},
        "lake/actfocus-seed1": {0: (0.9, 0.4), 10: (0.8125, 0.625), 20: (0.9, 0.25)},
    }
    valid_turns.main([str(archived(tmp_path / "runs.tar.xz", runs))])
    assert capsys.readouterr().out.splitlines() == [
        "lake/actfocus-seed1: valid turns in % (success, cut off): "
        "step 0 90.0 (40.0, 12.5); step 10 81.2 (62.5, 12.5); step 20 90.0 (25.0, 12.5)",
        "1 of 2 runs lost less than 5 points, never fewer than 87.5 % valid turns",
        "with ActFocus's weights 1 of 1 lost them, without 0 of 1: p = 1.00",
        "largest falls of success between two evaluations: 38 points (lake/actfocus-seed1)",
    ]


def test_well_formed_turns_count_where_every_evaluation_recorded_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Valid turns fall where the environment refuses more moves: the format held there."""
    refused = archived(tmp_path / "runs.tar.xz", {"shop/uniform-seed1": {0: (0.9, 0.4, 0.984375), 10: (0.5, 0.5, 1.0)}})
    older = archived(tmp_path / "older.tar.xz", {"shop/uniform-seed1": {0: (0.9, 0.4), 10: (0.5, 0.5)}})
    valid_turns.main([str(refused)])
    assert capsys.readouterr().out.splitlines()[0] == (
        "1 of 1 runs lost less than 5 points, never fewer than 98.4 % well-formed turns"
    )
    for words in ([str(refused), "--valid"], [str(older)]):
        valid_turns.main(words)
        assert capsys.readouterr().out.splitlines()[1] == "0 of 1 runs lost less than 5 points"


def test_how_many_runs_are_judged_by_which_turns_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that went on with newer code has well-formed turns at its later evaluations alone."""
    runs: dict[str, Evaluations] = {
        "shop/uniform-seed1": {0: (0.875, 0.4, 0.96875), 10: (0.5, 0.5, 1.0)},
        "shop/uniform-seed2": {0: (0.75, 0.4), 10: (0.75, 0.5)},
        "shop/uniform-seed3": {0: (0.875, 0.4), 10: (0.5, 0.5, 1.0)},
    }
    valid_turns.main([str(archived(tmp_path / "runs.tar.xz", runs))])
    assert capsys.readouterr().out.splitlines()[:3] == [
        "shop/uniform-seed3: valid turns in % (success, cut off): step 0 87.5 (40.0, 12.5); step 10 50.0 (50.0, 12.5)",
        "2 of 3 runs (1 by well-formed turns, 2 by valid turns) lost less than 5 points, "
        "never fewer than 96.9 % well-formed turns, never fewer than 75.0 % valid turns",
        "with ActFocus's weights 0 of 0 lost them, without 1 of 3: p = 1.00 (1 by well-formed turns, 2 by valid turns)",
    ]


def test_a_run_that_had_risen_is_named_once_it_falls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Never below the share before training: in Sudoku that is low, since moves are refused."""
    path = archived(tmp_path / "runs.tar.xz", {"sudoku/uniform-seed1": {0: (0.4, 0.2), 10: (0.9, 0.5), 20: (0.8, 0.5)}})
    valid_turns.main([str(path)])
    assert capsys.readouterr().out.splitlines()[:2] == [
        "sudoku/uniform-seed1: valid turns in % (success, cut off): "
        "step 0 40.0 (20.0, 12.5); step 10 90.0 (50.0, 12.5); step 20 80.0 (50.0, 12.5)",
        "0 of 1 runs lost less than 5 points",
    ]


def test_what_is_no_archive_of_such_runs_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = archived(tmp_path / "whole.tar.xz", {"lake/uniform-seed1": {0: (0.9, 0.4), 10: (0.9, 0.5)}})
    (tmp_path / "cut.tar.xz").write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "text.tar.xz").write_text("no archive")
    one = {"lake/uniform-seed1": {0: (0.9, 0.4)}}
    for path, message in (
        (tmp_path / "none.tar.xz", "there is no archive"),
        (archived(tmp_path / "empty.tar.xz", {}), "or it holds no run"),
        (tmp_path / "text.tar.xz", "cannot be read as an archive of runs"),
        (tmp_path / "cut.tar.xz", "cannot be read as an archive of runs"),
        (archived(tmp_path / "other.tar.xz", one, {}), "lacks val/stop/response_cut"),
        (archived(tmp_path / "bare.tar.xz", {"lake/uniform-seed1": {}}), "lake/uniform-seed1 has no evaluation"),
    ):
        with pytest.raises(SystemExit):
            valid_turns.main([str(path)])
        assert message in capsys.readouterr().err


def test_runs_of_all_archives_are_counted_by_their_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, lost = {0: (0.9, 0.4), 10: (0.9, 0.5)}, {0: (0.9, 0.4), 10: (0.5, 0.5)}
    one = {f"lake/actfocus-alpha=0-seed{seed}": lost for seed in range(3)}
    other = {f"lake-lr=0.0003/turn_balanced-seed{seed}": kept for seed in range(3)}
    paths = [archived(tmp_path / "one.tar.xz", one), archived(tmp_path / "other.tar.xz", other)]
    valid_turns.main([*map(str, paths)])
    # Of the 20 ways to deal out three losses among six runs two are as extreme.
    assert capsys.readouterr().out.splitlines()[-2] == (
        "with ActFocus's weights 3 of 3 lost them, without 0 of 3: p = 0.10"
    )


def test_runs_of_another_environment_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, lost = {0: (0.9, 0.4), 10: (0.9, 0.5)}, {0: (0.9, 0.4), 10: (0.5, 0.5)}
    path = archived(tmp_path / "runs.tar.xz", {"lake-grpo/uniform-seed1": kept, "pond-grpo/uniform-seed1": lost})
    valid_turns.main([str(path), "--env", "lake"])
    assert capsys.readouterr().out.splitlines()[0] == (
        "1 of 1 runs lost less than 5 points, never fewer than 90.0 % valid turns"
    )
    with pytest.raises(SystemExit):
        valid_turns.main([str(path), "--env", "puddle"])
    assert "runs.tar.xz holds no run of puddle; it holds lake with grpo, pond with grpo" in capsys.readouterr().err


def test_runs_of_another_algorithm_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, lost = {0: (0.9, 0.4), 10: (0.9, 0.5)}, {0: (0.9, 0.4), 10: (0.5, 0.5)}
    path = archived(tmp_path / "runs.tar.xz", {"lake-grpo/uniform-seed1": kept, "lake-ppo-20steps/uniform-seed1": lost})
    assert [run.lost for run in valid_turns.read(path, "lake", algorithm="ppo")] == [True]
    valid_turns.main([str(path), "--algorithm", "grpo"])
    assert capsys.readouterr().out.splitlines()[0].startswith("1 of 1 runs lost less than 5 points")
    only = archived(tmp_path / "only.tar.xz", {"lake-grpo/uniform-seed1": kept})
    with pytest.raises(SystemExit):
        valid_turns.main([str(only), "--env", "lake", "--algorithm", "ppo"])
    assert "only.tar.xz holds no run of lake with ppo; it holds lake with grpo" in capsys.readouterr().err
