"""`--weightings 'actfocus alpha=auto'`: the untrained model is diagnosed once, before the first run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from verl_actfocus.cli import _alpha, _diagnosis
from verl_actfocus.cli.main import main
from verl_actfocus.experiments.alpha import alpha_of

pytestmark = pytest.mark.usefixtures("trainer")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A diagnosis of seconds."""
    monkeypatch.setattr(_alpha, "STATES", 8)
    monkeypatch.setattr(_alpha, "DRAWS", [2, 2, 2])


def words(out: Path, *options: str) -> list[str]:
    weightings = ["--weightings", "uniform", "actfocus alpha=auto"]
    return ["compare", "--steps", "1", "--out", str(out), *options, *weightings]


def test_alpha_is_measured_once_recorded_and_the_same_for_all_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path)) == 0
    diagnosis = json.loads((tmp_path / "diagnosis/diagnosis.json").read_text(encoding="utf-8"))
    assert diagnosis["design"]["reasonings"] == 2 and diagnosis["evaluation"]["temperature"] == 1
    # Neither the tasks of the evaluation, 0 to 63, nor those of training.
    assert diagnosis["evaluation"]["first_task"] == 64
    (share,) = (
        one["reasoning_over_reasoning_and_action"]["value"]
        for one in diagnosis["decisions"]
        if one["outcome"] == "success"
    )
    assert f"α = {alpha_of(share):g} for alpha=auto" in capsys.readouterr().err

    def not_again(*_: object) -> int:
        raise AssertionError("measured a second time")

    monkeypatch.setattr(_diagnosis, "decisions", not_again)
    assert main(words(tmp_path, "--seeds", "2")) == 0
    for seed in (0, 1):
        run = json.loads((tmp_path / f"actfocus-alpha=auto-seed{seed}/run.json").read_text(encoding="utf-8"))
        assert run["settings"]["algorithm.actfocus.weighting.alpha"] == alpha_of(share)
    assert "ActFocus alpha=auto" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_dry_run_measures_nothing_and_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path / "o", "--dry-run")) == 0
    printed = capsys.readouterr()
    assert (
        f"note: α of o is not in {tmp_path / 'o' / 'diagnosis'} yet; its runs with alpha=auto are left out"
        in printed.err
    )
    assert "uniform-seed0: to do" in printed.out and "1 runs, 0 done" in printed.out
    assert not (tmp_path / "o").exists()


def test_a_measurement_of_another_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words(tmp_path))
    path = tmp_path / "diagnosis/diagnosis.json"
    diagnosis = json.loads(path.read_text(encoding="utf-8"))
    diagnosis["model"]["weights"] = [["model.safetensors", 1, 2]]
    path.write_text(json.dumps(diagnosis), encoding="utf-8")
    assert main(words(tmp_path)) == 2
    assert "is of another model than" in capsys.readouterr().err


def test_states_that_failed_end_the_command_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_diagnosis, "decisions", lambda args, settings: 1)
    assert main(words(tmp_path / "o")) == 2
    assert "α of o is not measured: states are missing" in capsys.readouterr().err
    assert not list(tmp_path.rglob("run.json"))
