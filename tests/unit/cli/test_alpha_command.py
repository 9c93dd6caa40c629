"""`--weightings 'actfocus alpha=auto'`: the untrained model is diagnosed once, before the first run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus.cli import _alpha
from verl_actfocus.cli.main import main
from verl_actfocus.diagnosis import decisions_run
from verl_actfocus.diagnosis.decisions import Decisions
from verl_actfocus.diagnosis.points import Point
from verl_actfocus.experiments.runs.alpha import alpha_of

pytestmark = pytest.mark.usefixtures("trainer")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A diagnosis of seconds."""
    monkeypatch.setattr(_alpha, "STATES", 8)
    monkeypatch.setattr(_alpha, "DRAWS", (2, 2, 2))


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

    def not_again(*_: object, **__: object) -> bool:
        raise AssertionError("measured a second time")

    monkeypatch.setattr(decisions_run, "run_decisions", not_again)
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
    monkeypatch.setattr(decisions_run, "run_decisions", lambda *_, **__: False)
    assert main(words(tmp_path / "o")) == 2
    assert "α of o is not measured: states are missing" in capsys.readouterr().err
    assert not list(tmp_path.rglob("run.json"))


def test_a_measurement_that_lacks_states_is_completed_and_never_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = Decisions.draw

    def failing(self: Decisions, missing: Sequence[Point]) -> Iterator[dict[str, Any]]:
        first, *others = missing
        yield {"turn": 1, "task": first.task, "failure": "no answer"}
        yield from draw(self, others)

    with monkeypatch.context() as patched:
        patched.setattr(Decisions, "draw", failing)
        assert main(words(tmp_path)) == 2
    assert "α of" in capsys.readouterr().err
    diagnosis = tmp_path / "diagnosis/diagnosis.json"
    assert json.loads(diagnosis.read_text(encoding="utf-8"))["decisions"][0]["states"] == 7
    assert not list(tmp_path.rglob("run.json"))
    assert main(words(tmp_path, "--dry-run")) == 0
    assert "its runs with alpha=auto are left out" in capsys.readouterr().err
    assert main(words(tmp_path)) == 0
    assert json.loads(diagnosis.read_text(encoding="utf-8"))["decisions"][0]["states"] == 8
    assert (tmp_path / "actfocus-alpha=auto-seed0/done.json").exists()


def test_a_measurement_under_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after a command that was interrupted between the measurement and its first run."""
    assert main(words(tmp_path)) == 0
    for run in tmp_path.glob("*-seed0"):
        shutil.rmtree(run)
    assert main([*words(tmp_path), "--", "data.environment.limits.turns=2"]) == 2
    assert "holds a diagnosis with other settings (evaluation.limits.turns was 3, is 2)" in capsys.readouterr().err


def test_a_measurement_that_is_none_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "diagnosis/diagnosis.json"
    path.parent.mkdir(parents=True)
    for text, words_of_it in (
        ('{"decisions": []}', "lacks ['model', 'design', 'evaluation']; delete"),
        ("{", "is not a"),
    ):
        path.write_text(text, encoding="utf-8")
        assert main(words(tmp_path)) == 2
        error = capsys.readouterr().err
        assert words_of_it in error and "Traceback" not in error


def test_a_measurement_out_of_an_archive_is_gone_on_with(tmp_path: Path) -> None:
    """An archive brings `diagnosis.json` and no other file of its folder."""
    assert main(words(tmp_path)) == 0
    for path in (tmp_path / "diagnosis").iterdir():
        if path.name != "diagnosis.json":
            path.unlink()
    assert main(words(tmp_path, "--seeds", "2")) == 0
    assert (tmp_path / "actfocus-alpha=auto-seed1/done.json").exists()
