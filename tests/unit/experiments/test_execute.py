"""A run ends with its result or with an explanation, is continued where it died, and leaves nothing running."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus.experiments.errors import ExperimentError, RunFailedError
from verl_actfocus.experiments.execute import execute
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.metrics import merge_attempts
from verl_actfocus.experiments.progress import Display
from verl_actfocus.experiments.runs import Run

SETTINGS: dict[str, Any] = {"trainer.test_freq": 10}
#: Writes metrics as veRL's file logger does: evaluations at `first` and at the last step.
TRAINER = """
import json, os, sys
first, last = int(sys.argv[1]), int(sys.argv[2])
with open(sys.argv[-1].partition("VERL_FILE_LOGGER_PATH=")[2], "w") as file:
    for step in range(first, last + 1):
        data = {"rollout/success": 0.5, "attempt": first}
        if step in (first, 3):
            data |= {"val/success": 0.25, "val/success_standard_error": 0.1}
        file.write(json.dumps({"step": step, "data": data}) + "\\n")
print("platform", os.environ["VERL_PLATFORM"], os.environ["HYDRA_FULL_ERROR"], os.getcwd())
"""


pytestmark = pytest.mark.usefixtures("quick")


def make(folder: Path, **values: Any) -> Run:
    defaults = {"algorithm": "grpo", "method": "actfocus", "env": "frozenlake", "seed": 0, "steps": 3}
    return Run(**{**defaults, "folder": folder, **values})


def train(run: Run, code: str, *arguments: str, display: Display | None = None, **options: Any) -> dict[str, Any]:
    command = [sys.executable, "-c", code, *arguments]
    return execute(run, SETTINGS, display or Display("run", io.StringIO()), command=command, **options)


def test_a_finished_run_leaves_its_record_and_is_never_run_again(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    stream = io.StringIO()
    record = train(run, TRAINER, "0", "3", display=Display("run", stream))
    assert record == json.loads((tmp_path / "r/done.json").read_text())
    assert (record["steps"], record["attempts"]) == (3, 1)
    assert record["command"] == run.shell_command()
    assert record["versions"]["verl"] == "0.9.1"
    assert record["hardware"]["cores"] >= 1 and record["seconds"] > 0
    assert "step 3/3 | training success 50.0% | evaluation 25.0% ± 10.0% (step 3)" in stream.getvalue()
    assert train(run, "raise SystemExit('must not run')") == record


def test_the_command_gets_the_cpu_platform_full_errors_and_the_runs_folder(tmp_path: Path) -> None:
    train(make(tmp_path / "r"), TRAINER, "0", "3")
    assert f"platform cpu 1 {(tmp_path / 'r').resolve()}" in (tmp_path / "r/log.txt").read_text()


def test_a_failing_run_shows_its_error_and_where_the_log_is(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    with pytest.raises(RunFailedError) as error:
        train(run, "import sys; print('noise'); sys.exit(int('seven'))")
    text = str(error.value)
    assert "grpo actfocus seed 0 failed with exit code 1 (before its first evaluation)" in text
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
    with pytest.raises(ExperimentError, match=r"steps was 3, is 4.*choose another --out or delete"):
        train(make(tmp_path / "r", steps=4), TRAINER, "0", "4")
    with pytest.raises(ExperimentError, match=r"trainer.test_freq was 10, is 5"):
        execute(make(tmp_path / "r"), {"trainer.test_freq": 5}, Display("run", io.StringIO()))


def test_a_run_that_died_before_its_first_evaluation_may_come_back_with_other_settings(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError):
        train(make(tmp_path / "r", steps=4), "raise SystemExit('a wrong setting')")
    record = train(make(tmp_path / "r"), TRAINER, "0", "3")
    assert (record["steps"], record["attempts"]) == (3, 2)
    assert RunFolder(tmp_path / "r").identity["steps"] == 3


def test_a_folder_with_other_peoples_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(ExperimentError, match="holds files but no run"):
        train(make(tmp_path), TRAINER, "0", "3")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_evaluation_that_is_no_number_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="without an evaluation at step 3"):
        train(make(tmp_path / "r"), TRAINER.replace('"val/success": 0.25', '"val/success": float("nan")'), "0", "3")
    assert RunFolder(tmp_path / "r").done is None
