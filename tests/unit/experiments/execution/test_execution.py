"""A run ends with its result or with an explanation, is continued where it died, and leaves nothing running."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.metrics import merge_attempts
from verl_actfocus.storage.errors import ExperimentError, RunFailedError

from ..standin import TRAINER, make, train

pytestmark = pytest.mark.usefixtures("quick")


def test_a_finished_run_leaves_its_record_and_is_never_run_again(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    stream = io.StringIO()
    record = train(run, TRAINER, "0", "3", display=Display("run", stream))
    assert record == json.loads((tmp_path / "r/done.json").read_text())
    assert (record["steps"], record["attempts"]) == (3, 1)
    assert record["command"].startswith("VERL_PLATFORM=cpu python ")
    assert record["versions"]["verl"] == "0.9.1"
    assert record["hardware"]["cores"] >= 1 and record["seconds"] > 0
    assert "step 3/3 | training success 50.0% | evaluation 25.0% ± 10.0% (step 3)" in stream.getvalue()
    assert train(run, "raise SystemExit('must not run')") == record


def test_the_command_gets_the_cpu_platform_full_errors_and_the_folder_of_whoever_calls(tmp_path: Path) -> None:
    """So that relative paths mean the same in the printed command."""
    train(make(tmp_path / "r"), TRAINER, "0", "3")
    assert f"platform cpu 1 {os.getcwd()}" in (tmp_path / "r/log.txt").read_text()


def test_a_failing_run_shows_its_error_and_where_the_log_is(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    with pytest.raises(RunFailedError) as error:
        train(run, "import sys; print('noise'); sys.exit(int('seven'))")
    text = str(error.value)
    assert f"{run.title} failed with exit code 1 (before its first evaluation)" in text
    assert "ValueError: invalid literal for int()" in text
    assert str(RunFolder(run.folder).log) in text
    assert RunFolder(run.folder).done is None


def test_a_killed_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="ended by signal SIGKILL, most likely for lack of memory"):
        train(make(tmp_path / "r"), "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_run_that_ends_early_without_an_error_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match=r"without an evaluation at step 3 \(after step 2 of 3\)"):
        train(make(tmp_path / "r"), TRAINER, "0", "2")
    assert RunFolder(tmp_path / "r").done is None


def test_a_run_that_died_is_continued_and_its_attempts_are_merged(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    with pytest.raises(RunFailedError):
        train(run, TRAINER + "\nsys.exit(1)", "0", "2")
    record = train(run, TRAINER, "1", "3")
    folder = RunFolder(run.folder)
    assert record["attempts"] == 2 and folder.attempts() == [1, 2]
    attempts = [json.loads((run.folder / f"attempt-{n}.json").read_text()) for n in (1, 2)]
    assert [attempt["exit_code"] for attempt in attempts] == [1, 0]
    assert record["seconds"] == pytest.approx(sum(attempt["seconds"] for attempt in attempts))
    merged = merge_attempts(folder.metrics(n) for n in (1, 2))
    assert {step: data["attempt"] for step, data in merged.items()} == {0: 0, 1: 1, 2: 1, 3: 1}
    assert folder.log.read_text().count("=== attempt") == 2


def test_the_error_of_the_first_attempt_does_not_explain_the_second(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    with pytest.raises(RunFailedError, match="first trouble"):
        train(run, "raise RuntimeError('first trouble')")
    with pytest.raises(RunFailedError) as error:
        train(run, "raise RuntimeError('second trouble')")
    assert "first trouble" not in str(error.value)


def test_a_folder_of_other_settings_is_refused_with_what_differs(tmp_path: Path) -> None:
    train(make(tmp_path / "r"), TRAINER, "0", "3")
    with pytest.raises(ExperimentError, match=r"total_training_steps was 3, is 4.*choose another --out or delete"):
        train(make(tmp_path / "r", steps=4), TRAINER, "0", "4")
    with pytest.raises(ExperimentError, match=r"trainer.test_freq was 10, is 5"):
        train(make(tmp_path / "r"), TRAINER, "0", "3", **{"trainer.test_freq": 5})


def test_a_run_that_died_before_its_first_evaluation_may_come_back_with_other_settings(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError):
        train(make(tmp_path / "r", steps=4), "raise SystemExit('a wrong setting')")
    record = train(make(tmp_path / "r"), TRAINER, "0", "3")
    assert (record["steps"], record["attempts"]) == (3, 2)
    assert RunFolder(tmp_path / "r").identity["steps"] == 3


def test_an_evaluation_that_is_no_number_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="without an evaluation at step 3"):
        train(make(tmp_path / "r"), TRAINER.replace('"val/success": 0.25', '"val/success": float("nan")'), "0", "3")
    assert RunFolder(tmp_path / "r").done is None
