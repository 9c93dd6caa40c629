"""The CPU as a veRL platform: what veRL asks of a device, answered without an accelerator.

veRL 0.9.1 ships platforms for CUDA, ROCm and Ascend only and falls back to `nvidia` on a machine without
one (`verl/plugin/platform/platform_manager.py`). `CPUPlatform` is registered under `cpu` and is selected by
`VERL_PLATFORM=cpu`; it never takes part in auto-detection, so a GPU machine is unaffected.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

#: Name of the platform; also the value of `VERL_PLATFORM` that selects it.
PLATFORM_NAME = "cpu"


def _peak_resident_bytes() -> int:
    """Peak resident set size of this process in bytes (`ru_maxrss` is in KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_module() -> ModuleType:
    """Build the namespace that stands for `torch.cuda`: the functions that veRL's common code calls.

    "Memory allocated" is the peak resident memory of the process, so `perf/max_memory_allocated_gb` stays a
    measured figure on a CPU.
    """
    module = ModuleType("verl_actfocus_cpu_device")
    functions = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: "cpu",
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
        "manual_seed": torch.manual_seed,
        "manual_seed_all": torch.manual_seed,
        "get_rng_state": torch.get_rng_state,
        "set_rng_state": torch.set_rng_state,
        "get_device_name": lambda device=None: "cpu",
        "memory_allocated": lambda device=None: _peak_resident_bytes(),
        "memory_reserved": lambda device=None: _peak_resident_bytes(),
        "max_memory_allocated": lambda device=None: _peak_resident_bytes(),
        "max_memory_reserved": lambda device=None: _peak_resident_bytes(),
        "reset_peak_memory_stats": lambda device=None: None,
        "mem_get_info": lambda device=None: _memory_info(),
    }
    for name, function in functions.items():
        setattr(module, name, function)
    return module


def _memory_info() -> tuple[int, int]:
    """Return `(free, total)` physical memory in bytes, as `torch.cuda.mem_get_info` does for a GPU."""
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


@PlatformRegistry.register(platform=PLATFORM_NAME)
class CPUPlatform(PlatformBase):
    """`verl.plugin.platform.PlatformBase` for a machine without an accelerator.

    Ray schedules veRL's workers on a *logical* accelerator: `ray_resource_name` is `GPU` because veRL's resource
    pools count only accelerators, and the CPU configuration starts Ray with `num_gpus` set to the number of ranks.
    """

    def __init__(self) -> None:
        self._module = _device_module()

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> ModuleType:
        return self._module

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        # Only an explicit VERL_PLATFORM=cpu selects this platform (see the module docstring).
        return False

    def current_device(self) -> Any:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        return None

    def synchronize(self, device_index: int | None = None) -> None:
        return None

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        return None

    def empty_cache(self) -> None:
        return None

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        return None

    def profiler_stop(self) -> None:
        return None

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> Any:
        return None
