"""`actfocus bench gpu`: whoever has a GPU runs this first."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_actfocus.cli._bench_device import conditions_on
from verl_actfocus.cli._signals import exit_on_signals
from verl_actfocus.cli._values import positive, writable

if TYPE_CHECKING:  # torch
    from verl_actfocus.benchmarks.device_check import DeviceCheck


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmark."""
    parser.description = (
        "Check on one CUDA device what the tests check on a CPU, and measure what it costs there: contracts of "
        "signals, weights and loss in bfloat16 and float32, models with veRL's fused kernels, passes with energies and "
        "the update's entropy at a real vocabulary, a few steps of GRPO and PPO with a packaged tiny model, stock veRL "
        "beside ActFocus. Nothing is downloaded. A part that fails is reported and the others are run; what is "
        "finished is written and kept. The exit code is 0 if everything holds."
    )
    parser.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help="cpu tries the check itself, small (default cuda)"
    )
    parser.add_argument("--tokens", type=positive, metavar="N", help="rows of logits of a pass (default 8192; cpu 256)")
    parser.add_argument(
        "--vocabulary", type=positive, metavar="V", help="columns of the logits (default 151936, Qwen2.5's; cpu 4096)"
    )
    parser.add_argument(
        "--no-training", action="store_true", help="leave the steps of GRPO and PPO out: minutes instead of ten"
    )
    parser.add_argument("--out", type=writable, metavar="DIR", help="folder (default outputs/gpu-check; cpu …-cpu)")


def run(args: argparse.Namespace) -> int:
    """Check, measure, write `gpu.json` and `gpu.md`.

    Returns:
        0 if everything holds, 1 otherwise.

    Raises:
        ExperimentError: there is no such device.
    """
    measured = conditions_on(args.device)
    from verl_actfocus.benchmarks import report
    from verl_actfocus.benchmarks.device_check import SIZES, check_device
    from verl_actfocus.benchmarks.device_tables import markdown

    given = {"tokens": args.tokens, "vocabulary": args.vocabulary}
    sizes = replace(SIZES[args.device], **{name: value for name, value in given.items() if value is not None})
    folder = (args.out or Path("outputs/gpu-check" if args.device == "cuda" else "outputs/gpu-check-cpu")).resolve()
    exit_on_signals()

    def written(found: DeviceCheck) -> tuple[Path, str, dict[str, Any], str]:
        text = f"{markdown(found)}\n\n{report.conditions_line(measured)}"
        return folder, "gpu", {"conditions": measured, **found.as_json()}, text

    found = check_device(
        folder,
        args.device,
        sizes,
        _say,
        keep=lambda so_far: report.save(*written(so_far)),
        training=not args.no_training,
    )
    report.write(*written(found))
    return 0 if found.well else 1


def _say(part: str) -> None:
    print(f"checking: {part} ...", file=sys.stderr, flush=True)
