"""Progress says where a run stands, how well it does and how long it takes."""

from __future__ import annotations

import io

import pytest

from verl_actfocus.experiments.execution.progress import Display, RunProgress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress_after_ten_steps() -> RunProgress:
    """Started at 0 s, first evaluation at 50 s, step n at 50 + 4n s."""
    progress = RunProgress(steps=60, started=0.0)
    progress.update(0, {"val/success": 0.2, "val/success_standard_error": 0.025}, 50.0)
    for step in range(1, 11):
        metrics = {"rollout/success": step / 100}
        if step == 10:
            metrics |= {"val/success": 0.25, "val/success_standard_error": 0.03}
        progress.update(step, metrics, 50.0 + 4 * step)
    return progress


def test_before_the_first_metrics_the_line_says_that_verl_is_starting() -> None:
    line = RunProgress(steps=60, started=100.0).line(now=123.0)
    assert "starting veRL" in line and "23 s" in line and "40-60 s" in line


def test_the_line_holds_step_successes_pace_and_time_left() -> None:
    line = progress_after_ten_steps().line(now=90.0)
    # 50 steps of 4 s are left.
    assert line == (
        "step 10/60 | training success 10.0% | evaluation 25.0% ± 3.0% (step 10) | 4.0 s/step | 3 min 20 s left"
    )


def test_time_passes_between_steps() -> None:
    assert progress_after_ten_steps().seconds_left(now=93.0) == pytest.approx(197.0)


def test_runs_to_come_count_with_start_up_and_all_steps() -> None:
    # This run: 200 s left. Two more like it: 50 s start-up + 60 · 4 s each = 290 s. In all 780 s.
    assert "3 min 20 s left, 13 min 00 s overall" in progress_after_ten_steps().line(90.0, runs_after=2)


def test_runs_to_come_count_what_a_finished_run_took() -> None:
    # 200 s + 2 · 500 s = 1200 s.
    assert "20 min 00 s overall" in progress_after_ten_steps().line(90.0, runs_after=2, seconds_of_others=500.0)


def test_a_resumed_run_counts_its_own_steps_only() -> None:
    progress = RunProgress(steps=60, started=0.0)
    progress.update(40, {"val/success": 0.2, "val/success_standard_error": 0.02}, 60.0)
    progress.update(41, {}, 70.0)
    assert progress.seconds_per_step == pytest.approx(10.0)
    assert progress.seconds_left(70.0) == pytest.approx(190.0)


def test_after_the_first_evaluation_the_time_left_is_not_made_up() -> None:
    progress = RunProgress(steps=60, started=0.0)
    progress.update(0, {"val/success": 0.2, "val/success_standard_error": 0.02}, 60.0)
    assert "known after the next step" in progress.line(61.0)


def test_a_run_resumed_at_its_last_step_has_nothing_left() -> None:
    progress = RunProgress(steps=60, started=0.0)
    progress.update(60, {"val/success": 0.2, "val/success_standard_error": 0.02}, 60.0)
    assert progress.line(61.0).endswith("| 0 s left")


def test_without_a_terminal_only_news_are_written_as_plain_lines() -> None:
    stream, now = io.StringIO(), [0.0]
    display = Display("[1/2] run", stream, clock=lambda: now[0])
    display.show("starting", news=False)
    display.show("starting", news=False)
    display.show("step 1", news=True)
    now[0] = 30.0
    display.show("step 1", news=False)
    display.close("done")
    assert stream.getvalue() == "[1/2] run  starting\n[1/2] run  step 1\n[1/2] run  done\n"


def test_without_a_terminal_silence_is_broken_every_minute() -> None:
    stream, now = io.StringIO(), [0.0]
    display = Display("run", stream, clock=lambda: now[0])
    for now[0] in (0.0, 59.0, 61.0, 100.0, 122.0):
        display.show(f"at {now[0]:.0f}", news=False)
    assert stream.getvalue().splitlines() == ["run  at 0", "run  at 61", "run  at 122"]


def test_on_a_terminal_one_line_changes_and_the_end_stays() -> None:
    stream = Terminal()
    display = Display("run", stream)
    display.show("step 1", news=True)
    display.show("step 2", news=False)
    display.close("done")
    assert stream.getvalue() == "\r\x1b[Krun  step 1\r\x1b[Krun  step 2\r\x1b[Krun  done\n"


def test_on_a_terminal_a_long_line_is_cut_so_that_it_stays_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    Display("run", stream).show("x" * 100, news=True)
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) == 19


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (7384, "2 h 03 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_evaluation_of_a_single_task_has_no_standard_error() -> None:
    progress = RunProgress(steps=60, started=0.0)
    progress.update(0, {"val/success": 0.25}, 50.0)
    assert "evaluation 25.0% (step 0)" in progress.line(now=51.0)
