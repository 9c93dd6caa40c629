"""From a long log, the lines that say what went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from verl_actfocus.experiments.execution.logs import DeathNotices, clean_line, error_lines

RAY_LOG = """\
2026-01-01 00:00:00,000 INFO worker.py:2038 -- Started a local Ray instance.
\x1b[36m(TaskRunnerV1 pid=12)\x1b[0m /verl/workers/engine/__init__.py:32: UserWarning: torchtitan is missing
\x1b[36m(TaskRunnerV1 pid=12)\x1b[0m WARNING:00:00:03:target_num_threads\x1b[32m [repeated 4x across cluster]\x1b[0m
Error executing job with overrides: ['algorithm.actfocus.alpha=7']
Traceback (most recent call last):
  File "/site-packages/verl/trainer/main_ppo.py", line 88, in run_ppo
    ray.get(runner.run.remote(config))
ray.exceptions.RayTaskError(ValueError): \x1b[36mray::TaskRunnerV1.run()\x1b[39m (pid=12, ip=10.0.0.1)
  File "/site-packages/verl/trainer/main_ppo.py", line 160, in run
    self.trainer = trainer_cls(config=config)
ValueError: algorithm.actfocus.alpha=7.0 must lie in [0, 1]
\x1b[36m(TaskRunnerV1 pid=12)\x1b[0m WARNING:2026-01-01 00:00:04:late warning
"""


DEATH = (
    "\x1b[33m(raylet)\x1b[0m A worker died or was killed while executing a task by an unexpected system error. To "
    "troubleshoot the problem, check the logs for the dead worker. Lease ID: 07 Worker ID: 48 Node ID: 80 Worker IP "
    "address: 192.0.2.2 Worker port: 33441 Worker PID: 16283 Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file.\n"
)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_cause_behind_rays_wrapping_is_found(tmp_path: Path) -> None:
    lines = error_lines(write(tmp_path / "log", RAY_LOG))
    assert lines == ["ValueError: algorithm.actfocus.alpha=7.0 must lie in [0, 1]"]


def test_an_error_of_an_earlier_attempt_is_not_reported_again(tmp_path: Path) -> None:
    log = write(tmp_path / "log", "ValueError: old\n" + "RuntimeError: new\n")
    assert error_lines(log, offset=len("ValueError: old\n")) == ["RuntimeError: new"]


def test_the_same_line_is_shown_once_and_the_latest_last(tmp_path: Path) -> None:
    log = write(tmp_path / "log", "KeyError: 'a'\nTypeError: b\nKeyError: 'a'\n")
    assert error_lines(log) == ["TypeError: b", "KeyError: 'a'"]


def test_without_an_error_the_last_words_are_shown(tmp_path: Path) -> None:
    log = write(tmp_path / "log", "one\ntwo\nINFO three\nfour\nfive\n\n")
    assert error_lines(log) == ["two", "four", "five"]


def test_an_empty_log_has_no_lines(tmp_path: Path) -> None:
    assert error_lines(write(tmp_path / "log", "")) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "\x1b[36m(WorkerDict pid=3)\x1b[0m KeyError: 'x'\x1b[32m [repeated 3x across cluster]\x1b[0m",
            "KeyError: 'x'",
        ),
        ("(raylet) out of memory", "out of memory"),
        ("(pid=13822) hello", "hello"),
        ("(parentheses) stay", "(parentheses) stay"),
    ],
)
def test_rays_decoration_is_removed(line: str, expected: str) -> None:
    assert clean_line(line) == expected


def test_ray_tells_which_workers_died_at_work_each_of_them_once_and_from_this_attempt_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    notices = DeathNotices(log, offset=len(DEATH))
    assert notices.new() == []
    write(log, DEATH + RAY_LOG + DEATH.replace("16283", "7")[:-30])
    assert notices.new() == []  # the line has not ended
    write(log, DEATH + RAY_LOG + DEATH.replace("16283", "7") + "more\n" + DEATH)
    assert notices.new() == [7, 16283] and notices.new() == []
