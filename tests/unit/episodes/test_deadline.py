"""An environment that never returns ends its episode, and neither other episodes nor its process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from verl_actfocus.episodes import Episode, StopReason
from verl_actfocus.episodes.deadline import call_within, off_loop

from .conftest import LIMITS, ScriptedEnv, answer

SOON = 0.2


class Stuck(ScriptedEnv):
    """Waits in the named call until it is released."""

    def __init__(self, call: str) -> None:
        super().__init__()
        self.call, self.released, self.closed = call, threading.Event(), 0

    def wait(self, call: str) -> None:
        if call == self.call:
            self.released.wait()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.wait("reset")
        return super().reset(seed=seed)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.wait(action)
        return super().step(action)

    def close(self) -> None:
        self.closed += 1
        self.wait("close")


def failure(episode: Episode) -> tuple[str, str, int | None, str | None]:
    error = episode.error
    assert episode.stop_reason is StopReason.ENVIRONMENT_ERROR and error is not None
    return error.type, error.call, error.seed, error.action


def test_a_step_that_never_returns_is_a_failure_with_seed_and_action_and_its_environment_is_left_alone() -> None:
    env = Stuck("go 2")
    episode = Episode(env, LIMITS, step_timeout=SOON)
    episode.reset(seed=5)
    result = episode.respond(answer("go 1", "go 2"))
    assert failure(episode) == ("EnvironmentTimeoutError", "reset", 5, "go 2")
    assert "no answer within 0.2 s (data.environment.step_timeout)" in str(episode.error)
    assert (result.actions, result.reward) == (["go 1"], 1.0)
    episode.close()
    assert env.closed == 0
    env.released.set()


def test_a_step_that_returns_too_late_changes_nothing_and_takes_no_further_action() -> None:
    env = Stuck("go 1")
    episode = Episode(env, LIMITS, step_timeout=SOON)
    episode.reset(seed=5)
    episode.respond(answer("go 1", "go 2"))
    before = (episode.observation, episode.actions_used, episode.turn_rewards)
    env.released.set()
    time.sleep(0.1)
    assert "go 2" not in env.steps
    assert (episode.observation, episode.actions_used, episode.turn_rewards) == before


@pytest.mark.parametrize("call", ["reset", "close"])
def test_reset_and_close_have_the_deadline_too(call: str) -> None:
    env = Stuck(call)
    episode = Episode(env, LIMITS, step_timeout=SOON)
    if episode.reset(seed=7):
        episode.respond(answer("lose"))
        episode.close()
    assert failure(episode) == ("EnvironmentTimeoutError", call, 7, None)
    env.released.set()


def test_the_deadline_is_each_actions_own() -> None:
    class Slow(ScriptedEnv):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            time.sleep(0.6 * SOON)
            return super().step(action)

    episode = Episode(Slow(), LIMITS, step_timeout=SOON)
    episode.reset(seed=5)
    assert episode.respond(answer("go 1", "go 2")).actions == ["go 1", "go 2"]


def test_an_endless_loop_ends_and_takes_no_time_from_others() -> None:
    def spin() -> int:
        while True:
            pass

    before = set(threading.enumerate())
    with pytest.raises(TimeoutError):
        call_within(SOON, spin)
    until = time.monotonic() + 5
    while any(thread.name == "environment" for thread in set(threading.enumerate()) - before):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_environments_of_a_process_run_one_at_a_time() -> None:
    """Many of other projects seed global generators when they are reset."""
    inside: list[int] = []

    def alone() -> int:
        inside.append(1)
        time.sleep(0.01)
        return inside.pop() + len(inside)

    async def together() -> list[int]:
        return await asyncio.gather(*(off_loop(lambda: call_within(5, alone)) for _ in range(9)))

    assert asyncio.run(together()) == [1] * 9


def test_a_process_ends_though_an_environment_never_returns() -> None:
    code = """
from tests.unit.episodes.test_deadline import *
episode = Episode(Stuck("reset"), LIMITS, step_timeout=0.1)
episode.reset(seed=1)
print(episode.error)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True, check=True)
    assert "no answer within 0.1 s" in done.stdout


def test_a_call_that_stays_blocked_leaves_traced_code_running() -> None:
    """An exception that a blocked thread never takes hangs a debugger or a coverage measurement."""
    script = """
import sys, threading
from verl_actfocus.episodes.deadline import call_within
try:
    call_within(0.2, lambda: threading.Event().wait())
except TimeoutError:
    pass
sys.settrace(lambda *event: None)
print(sum(map(abs, range(1000))), [n for n in range(3)])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "499500 [0, 1, 2]"


def test_calls_one_after_the_other_are_computed_in_one_thread_and_calls_at_once_in_several():
    barrier = threading.Barrier(3)

    async def play():
        # Often: a thread that had told its result and was not yet idle would not be found.
        one_by_one = {await off_loop(threading.get_ident) for _ in range(2000)}
        at_once = await asyncio.gather(*(off_loop(lambda: barrier.wait(5)) for _ in range(3)))
        return one_by_one, at_once

    one_by_one, at_once = asyncio.run(play())
    assert len(one_by_one) == 1 and threading.get_ident() not in one_by_one
    assert sorted(at_once) == [0, 1, 2]
