"""Which runs of an archive lost their format, and what the others kept."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tools import valid_turns

CUT = {"val/stop/response_cut": 0.125}


def archived(path: Path, runs: dict[str, dict[int, tuple[float, float]]]) -> Path:
    """Run → step → shares of valid turns and of success."""
    with tarfile.open(path, "w:xz") as archive:
        for name, evaluations in runs.items():
            lines = [
                json.dumps({"step": step, "data": {"val/valid_turn_rate": valid, "val/success": success} | CUT})
                for step, (valid, success) in evaluations.items()
            ]
            content = "\n".join([*lines, json.dumps({"step": 21, "data": {"rollout/success": 0.5}})]).encode()
            member = tarfile.TarInfo(f"cpu/{name}/metrics-1.jsonl")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
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
    ]


def test_what_is_no_archive_of_runs_is_refused_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.tar.xz").write_text("no archive")
    for path in (tmp_path / "none.tar.xz", tmp_path / "text.tar.xz", archived(tmp_path / "empty.tar.xz", {})):
        with pytest.raises(SystemExit):
            valid_turns.main([str(path)])
        assert path.name in capsys.readouterr().err


def test_runs_of_all_archives_are_counted_by_their_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, lost = {0: (0.9, 0.4), 10: (0.9, 0.5)}, {0: (0.9, 0.4), 10: (0.5, 0.5)}
    one = {f"lake/actfocus-alpha=0-seed{seed}": lost for seed in range(3)}
    other = {f"lake-lr=0.0003/turn_balanced-seed{seed}": kept for seed in range(3)}
    paths = [archived(tmp_path / "one.tar.xz", one), archived(tmp_path / "other.tar.xz", other)]
    valid_turns.main([*map(str, paths)])
    # Of the 20 ways to deal out three losses among six runs two are as extreme.
    assert capsys.readouterr().out.splitlines()[-1] == (
        "with ActFocus's weights 3 of 3 lost them, without 0 of 3: p = 0.10"
    )
