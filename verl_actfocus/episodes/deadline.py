"""Calls an environment with a deadline, so that one that never returns ends its episode and nothing else.

Python cannot end a thread from outside, so the environment runs in a daemon thread: one that is given up holds neither
the end of its process nor a place in a pool. The environments of a process run one at a time, as they always did: many
seed global generators.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from verl_actfocus.envs import TextEnv, make

T = TypeVar("T")

#: Held by whoever waits for an environment, not by its thread, so that the deadline frees it.
_ONE_AT_A_TIME = threading.Lock()


#: Seconds that an environment gets for a call, unless somebody says otherwise.
STEP_TIMEOUT = 60.0
#: Seconds in which a thread shows whether it computes or is blocked.
_LOOK_SECONDS = 0.05


class EnvironmentTimeoutError(TimeoutError):
    """An environment did not return in time."""


def within(seconds: float, steps: Iterator[T]) -> Iterator[T]:
    """Yield what an iterator yields, computed in another thread, each item within a deadline.

    The iterator runs ahead of whoever reads, and must end by itself. All its items cost one thread together: an
    environment's step can take less time than a thread needs to start.

    Args:
        seconds: most time for each item.
        steps: the work; what it raises is raised here.

    Raises:
        EnvironmentTimeoutError: an item took longer. The work is given up: its thread is told to end, which code in
            Python does and a blocking call does when it returns.
    """
    items: queue.SimpleQueue[tuple[bool, T | BaseException | None]] = queue.SimpleQueue()
    given_up = threading.Event()

    def work() -> None:
        try:
            for step in steps:
                items.put((True, step))
                if given_up.is_set():
                    return
            items.put((False, None))
        except BaseException as error:  # whatever it is, it is raised where the work was asked for
            items.put((False, error))

    with _ONE_AT_A_TIME:
        thread = _start(work)
        try:
            while True:
                try:
                    goes_on, item = items.get(timeout=seconds)
                except queue.Empty:
                    _end_if_computing(thread)
                    problem = f"no answer within {seconds:g} s (data.environment.step_timeout)"
                    raise EnvironmentTimeoutError(problem) from None
                if isinstance(item, Exception | KeyboardInterrupt):
                    raise item
                if isinstance(item, BaseException):  # meant for the process, such as SystemExit: ends the episode alone
                    raise RuntimeError(f"it raised {type(item).__name__}({item})") from item
                if not goes_on:
                    return
                yield cast(T, item)
        finally:
            given_up.set()


def call_within(seconds: float, function: Callable[[], T]) -> T:
    """Return what a function returns, computed in another thread within a deadline.

    Args:
        seconds: most time.
        function: the work.

    Raises:
        EnvironmentTimeoutError: it took longer, see `within`.
    """
    return next(within(seconds, (call() for call in [function])))


def make_within(seconds: float, name: str, /, **options: Any) -> TextEnv:
    """Make an environment within a deadline: a constructor may wait for a server.

    Args:
        seconds: most time.
        name: the environment.
        options: arguments of its class.

    Raises:
        EnvironmentTimeoutError: it took longer, see `within`; the message names the environment.
        Exception: whatever `verl_actfocus.envs.make` raises.
    """
    try:
        return call_within(seconds, partial(make, name, **options))
    except EnvironmentTimeoutError as error:
        raise EnvironmentTimeoutError(f"the environment {name} could not be made: {error}") from None


async def off_loop(function: Callable[[], T]) -> T:
    """Return what a function returns, computed in a daemon thread while the event loop goes on.

    Threads are used again: the event loop would stand still until a new one has begun to run.

    Args:
        function: may block; none of its exceptions is lost.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # whoever waits may be cancelled, the function cannot

    def work() -> Callable[[], None]:
        try:
            return partial(future.set_result, function())
        except BaseException as error:  # raised where the result is awaited
            return partial(future.set_exception, error)

    try:
        _idle.pop().put(work)
    except IndexError:
        _start(partial(_serve, work))
    return await asyncio.wrap_future(future)


#: Does something and returns how to tell whoever waits for it.
_Work: TypeAlias = Callable[[], Callable[[], None]]
#: Where threads of `off_loop` that have nothing to do wait for work.
_idle: list[queue.SimpleQueue[_Work]] = []
os.register_at_fork(after_in_child=_idle.clear)  # threads do not live on in a fork


def _serve(work: _Work) -> None:
    own: queue.SimpleQueue[_Work] = queue.SimpleQueue()
    while True:
        tell = work()
        # Before the result is known: whoever has it may call again at once, and finds this thread.
        _idle.append(own)
        tell()
        del work, tell  # an environment that nobody else holds must not live until the next work comes
        work = own.get()


def _start(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name="environment", daemon=True)
    thread.start()
    return thread


def _end_if_computing(thread: threading.Thread) -> None:
    """Let an endless loop in Python end, which would take half the time of all other threads.

    A thread that is blocked is left alone: it could not take the exception, and one that is not taken slows down all
    threads of the process and hangs those that are traced (CPython 3.11).

    Source: https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc
    """
    clock = time.pthread_getcpuclockid(thread.ident or 0)
    before = time.clock_gettime(clock)
    thread.join(_LOOK_SECONDS)
    if thread.is_alive() and time.clock_gettime(clock) - before > _LOOK_SECONDS / 50:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
