"""What the benchmarks that can compute on a GPU have in common."""

from __future__ import annotations

import argparse
from typing import Any


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device", default="cpu", choices=["cpu", "cuda"], help="where to compute (default %(default)s)"
    )


def conditions_on(device: str) -> dict[str, Any]:
    """Return the conditions of a measurement on a device; asked for before veRL is imported, which takes a while.

    Raises:
        ExperimentError: there is no such device.
    """
    from verl_actfocus.benchmarks import report
    from verl_actfocus.benchmarks.devices import described, require_device

    require_device(device)
    return {**report.conditions(), "device": described(device)}
