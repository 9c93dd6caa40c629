"""A `ContinuousBatch` in a thread of its own, for coroutines that ask it and wait."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from verl_actfocus.generation.batch import ContinuousBatch, Generated
from verl_actfocus.generation.sampling import SamplingParams

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    """A request and the coroutine that waits for its response."""

    request_id: str
    prompt_ids: list[int]
    params: SamplingParams
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Generated]

    def answer(self, generated: Generated) -> None:
        self.loop.call_soon_threadsafe(self.future.set_result, generated)

    def fail(self, error: Exception) -> None:
        self.loop.call_soon_threadsafe(self.future.set_exception, error)


class BackgroundBatch:
    """Runs a batch in a daemon thread, which takes new requests from an inbox between two forward passes.

    Args:
        batch: nobody else works with it, but for `paused`.
        failed: what callers are told when the thread has died of an error.
    """

    def __init__(self, batch: ContinuousBatch, failed: Callable[[BaseException], str]) -> None:
        self._batch, self._failed = batch, failed
        #: Requests that the thread has not seen. Whoever asks never waits for a forward pass to end.
        self._inbox: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        #: Set whenever something is put there.
        self._new = threading.Event()
        self._asked: dict[str, _Request] = {}
        #: Held by whoever works with the batch.
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, name="generation", daemon=True).start()

    async def generate(self, request_id: str, prompt_ids: list[int], params: SamplingParams) -> Generated:
        """Return the response to a prompt.

        Raises:
            ValueError: the batch refuses the request, see `ContinuousBatch.add`.
            RuntimeError: the thread has died.
        """
        loop = asyncio.get_running_loop()
        request = _Request(request_id, prompt_ids, params, loop, loop.create_future())
        self._inbox.put(request)
        self._new.set()
        if self._failure is not None:  # asked afterwards: the thread may die in between
            raise RuntimeError(self._failed(self._failure)) from self._failure
        return await request.future

    @contextmanager
    def paused(self) -> Iterator[ContinuousBatch]:
        """Give out the batch, with every request that was handed in, while the thread stands still."""
        with self._lock:
            self._open_inbox()
            yield self._batch

    def abort(self) -> None:
        """End every request with what it has so far, stop reason `aborted`."""
        with self.paused() as batch:
            self._resolve(batch.abort())

    def _run(self) -> None:
        try:
            while True:
                if not self._batch.busy:
                    self._new.wait()
                # Nothing is out of the inbox and not yet in the batch when somebody else gets the lock.
                with self._lock:
                    self._new.clear()
                    self._open_inbox()
                    self._resolve(self._batch.step())
        except BaseException as error:
            # Every caller must hear of it: a dead thread would otherwise be a hang with nothing printed.
            logger.exception("the generation thread has died")
            self._failure = error
            waiting = list(self._asked.values())
            while not self._inbox.empty():
                waiting.append(self._inbox.get())
            for request in waiting:
                request.fail(RuntimeError(self._failed(error)))

    def _open_inbox(self) -> None:
        while not self._inbox.empty():
            self._take(self._inbox.get())

    def _take(self, request: _Request) -> None:
        """Hand a request to the batch; one that is refused fails alone."""
        try:
            self._batch.add(request.request_id, request.prompt_ids, request.params)
        except ValueError as error:
            request.fail(error)
        except BaseException:
            self._inbox.put(request)  # it is still waiting, and hears of what the thread dies of
            raise
        else:
            self._asked[request.request_id] = request

    def _resolve(self, finished: dict[str, Generated]) -> None:
        for request_id, generated in finished.items():
            self._asked.pop(request_id).answer(generated)
