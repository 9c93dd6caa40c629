"""Where a benchmark computes: what a run's configuration needs for it, and how time and memory are measured there."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any, TypeAlias

import torch

from verl_actfocus.benchmarks.allocations import peak_bytes
from verl_actfocus.config.engines import CPU_SERVER
from verl_actfocus.experiments.execution.logs import OTHER_ENGINES
from verl_actfocus.experiments.runs.run import DEVICES, PLATFORM_VARIABLE
from verl_actfocus.storage.errors import ExperimentError

#: Calls a function somewhere and returns what it returns.
Compute: TypeAlias = Callable[[Callable[[], Any]], Any]
#: Name → dtype of what is measured.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
#: For vLLM, which looks for the tokenizer beside the model.
_VLLM = (
    "actor_rollout_ref.rollout.name=vllm",
    # It would make room for as many tokens as the model knows positions.
    "actor_rollout_ref.rollout.max_model_len=2048",
    "+actor_rollout_ref.rollout.engine_kwargs.vllm.tokenizer=${actor_rollout_ref.model.tokenizer_path}",
)


def require_device(device: str) -> None:
    """Make sure that torch has the device.

    Raises:
        ExperimentError: it has not; the message holds the remedy.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ExperimentError(
            f"torch {torch.__version__} finds no CUDA device here (actfocus doctor says why); --device cpu measures "
            "without one"
        )


def server(device: str) -> str:
    """Return the rollout server of the runs: vLLM on a GPU if it is installed, else this package's own."""
    return "vllm" if device == "cuda" and find_spec("vllm") is not None else CPU_SERVER


def run_overrides_of(device: str) -> list[str]:
    """Return the Hydra overrides that put a miniature on a device; the group comes first."""
    return [DEVICES[device], *(_VLLM if server(device) == "vllm" else ())]


def variables_of(device: str) -> dict[str, str]:
    """Return the environment variables of a run on a device."""
    return {PLATFORM_VARIABLE: "cpu"} if device == "cpu" else {}


@contextmanager
def computing(device: str) -> Iterator[Compute]:
    """Give what calls functions on a device, and give all of its memory back at the end.

    On a GPU they run in a process of their own, since torch keeps what its allocator once had: beside training runs,
    15 GB of an H100 were taken that way. Functions, arguments and results are pickled there. After a failure, which may
    have broken the process or its CUDA context, the next function gets a new one.
    """
    if device == "cpu":
        yield lambda function: function()
        return
    apart = _Apart()
    try:
        yield apart
    finally:
        apart.close()


class _Apart:
    """Calls functions in another process, a new one after each failure."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, function: Callable[[], Any]) -> Any:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, get_context("spawn"), initializer=warnings.filterwarnings, initargs=("ignore", OTHER_ENGINES)
            )
        try:
            return self._pool.submit(function).result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown()
            self._pool = None


def described(device: str) -> str:
    """Return the device's name."""
    if device == "cpu":
        return "CPU"
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 1e9:.1f} GB, CUDA {torch.version.cuda}"


def peak_of(function: Callable[[], object], device: str) -> int:
    """Run a function and return the most bytes that it had allocated on the device at a time, its result included."""
    if device == "cpu":
        return peak_bytes(function)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = function()
    torch.cuda.synchronize()
    del result
    return torch.cuda.max_memory_allocated() - before


def seconds_of(function: Callable[[], object], device: str) -> float:
    """Run a function and return the seconds until the device has done all of it."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = function()
    if device == "cuda":
        torch.cuda.synchronize()
    del result
    return time.perf_counter() - started
