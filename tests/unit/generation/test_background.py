"""Coroutines that ask a batch in its own thread are answered, refused or told what went wrong, and never held up."""

from __future__ import annotations

import asyncio
import time

import pytest

from verl_actfocus.generation.background import BackgroundBatch
from verl_actfocus.generation.batch import Generated
from verl_actfocus.generation.sampling import SamplingParams

PARAMS = SamplingParams(max_tokens=3)


class Batch:
    """Answers every request after one step of a given length with its own prompt, or never."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None, endless: bool = False) -> None:
        self.seconds, self.error, self.endless = seconds, error, endless
        self.asked: dict[str, list[int]] = {}
        self.together: list[int] = []

    @property
    def busy(self) -> bool:
        return bool(self.asked)

    def add(self, request_id, prompt_ids, params):
        if not prompt_ids:
            raise ValueError(f"request {request_id}: the prompt is empty")
        self.asked[request_id] = prompt_ids

    def step(self):
        if self.error is not None:
            raise self.error
        if self.endless:
            time.sleep(0.01)
            return {}
        finished = {name: Generated(prompt, [0.0] * len(prompt), "length") for name, prompt in self.asked.items()}
        time.sleep(self.seconds)
        self.together.append(len(finished))
        self.asked = {name: prompt for name, prompt in self.asked.items() if name not in finished}
        return finished

    def abort(self):
        aborted = {name: Generated([], [], "aborted") for name in self.asked}
        self.asked.clear()
        return aborted


def background(batch: Batch) -> BackgroundBatch:
    return BackgroundBatch(batch, lambda error: f"ended: {error}")


def test_every_caller_gets_the_response_to_its_own_prompt():
    async def ask_many():
        server = background(Batch())
        return await asyncio.gather(*(server.generate(str(n), [n, n], PARAMS) for n in range(40)))

    assert [response.token_ids for response in asyncio.run(ask_many())] == [[n, n] for n in range(40)]


def test_a_refused_request_fails_alone():
    async def ask():
        server = background(Batch())
        good, bad = (asyncio.create_task(server.generate(name, ids, PARAMS)) for name, ids in (("a", [1]), ("b", [])))
        with pytest.raises(ValueError, match="request b: the prompt is empty"):
            await bad
        return await good, await server.generate("c", [2], PARAMS)

    assert [response.token_ids for response in asyncio.run(ask())] == [[1], [2]]


def test_whoever_asks_during_a_forward_pass_is_not_held_up_and_shares_the_next_one():
    batch = Batch(seconds=0.3)

    async def ask():
        server = background(batch)
        first = asyncio.create_task(server.generate("first", [1], PARAMS))
        while not batch.asked:
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        later = [asyncio.create_task(server.generate(str(n), [n], PARAMS)) for n in range(5)]
        await asyncio.sleep(0)  # all of them have asked
        waited = time.monotonic() - begun
        await asyncio.gather(first, *later)
        return waited

    assert asyncio.run(ask()) < 0.15
    assert batch.together == [1, 5]


def test_when_the_thread_dies_everybody_hears_of_it():
    async def ask():
        server = background(Batch(error=RuntimeError("the weights are damaged")))
        with pytest.raises(RuntimeError, match="ended: the weights are damaged"):
            await server.generate("a", [1], PARAMS)
        with pytest.raises(RuntimeError, match="ended: the weights are damaged"):
            await asyncio.wait_for(server.generate("b", [1], PARAMS), timeout=5)

    asyncio.run(ask())


def test_a_request_that_kills_the_thread_is_answered_too():
    class Fragile(Batch):
        def add(self, request_id, prompt_ids, params):
            raise TypeError("seeds are int, float or str")

    async def ask():
        server = background(Fragile())
        with pytest.raises(RuntimeError, match="ended: seeds are int"):
            await asyncio.wait_for(server.generate("a", [1], PARAMS), timeout=5)

    asyncio.run(ask())


def test_what_was_asked_while_the_batch_was_given_out_is_there_when_it_is_given_out_again():
    async def ask():
        server = background(Batch(endless=True))
        with server.paused():
            late = asyncio.create_task(server.generate("late", [9], PARAMS))
            await asyncio.sleep(0.2)  # the thread would take it now if it took anything on its own
        with server.paused() as batch:
            assert [*batch.asked] == ["late"]
        server.abort()
        await asyncio.wait_for(late, timeout=5)

    asyncio.run(ask())


def test_abort_ends_what_runs_and_what_no_pass_has_seen():
    batch = Batch(endless=True)

    async def ask():
        server = background(batch)
        responses = [asyncio.create_task(server.generate(str(n), [n], PARAMS)) for n in range(3)]
        while not batch.asked:
            await asyncio.sleep(0.01)
        responses.append(asyncio.create_task(server.generate("late", [9], PARAMS)))
        await asyncio.sleep(0)
        server.abort()
        return await asyncio.wait_for(asyncio.gather(*responses), timeout=5)

    assert [response.stop_reason for response in asyncio.run(ask())] == ["aborted"] * 4
