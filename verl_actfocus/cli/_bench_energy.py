"""`actfocus bench energy`: what energies cost beside log-probabilities, with fused kernels and without."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from verl_actfocus.cli._bench_device import add_device_argument, conditions_on
from verl_actfocus.cli._values import positive, writable

if TYPE_CHECKING:
    from verl_actfocus.benchmarks.energy import EnergyPass


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmark."""
    parser.description = (
        "Time and peak memory from hidden states to log-probabilities, with energies and without, fused and with "
        "complete logits, in alternation. The unfused ways hold tokens × vocabulary float32 numbers several times."
    )
    parser.add_argument("--tokens", type=positive, default=2048, metavar="N", help="of a micro-batch (default 2048)")
    parser.add_argument("--vocabulary", type=positive, default=151_936, metavar="V", help="default 151936, Qwen2.5's")
    parser.add_argument(
        "--hidden", type=positive, default=896, metavar="H", help="width (default 896, of Qwen2.5-0.5B)"
    )
    add_device_argument(parser)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="default %(default)s")
    parser.add_argument("--rounds", type=positive, default=5, metavar="R", help="measurements of each (default 5)")
    parser.add_argument(
        "--out", type=writable, default=Path("outputs/bench-energy"), help="folder (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and write the table."""
    measured = conditions_on(args.device)
    from verl_actfocus.benchmarks import report
    from verl_actfocus.benchmarks.devices import DTYPES
    from verl_actfocus.benchmarks.energy import measure_energy_pass

    settings = {"rounds": args.rounds, "device": args.device, "dtype": DTYPES[args.dtype]}
    result = measure_energy_pass(args.tokens, args.vocabulary, args.hidden, **settings)
    text = f"{_markdown(result)}\n\n{report.conditions_line(measured)}"
    report.write(args.out, "energy", {"conditions": measured, **result.as_json()}, text)
    return 0


def _markdown(result: EnergyPass) -> str:
    from verl_actfocus.benchmarks.report import markdown_table
    from verl_actfocus.benchmarks.statistics import Spread

    rows = []
    for name, cost in result.ways.items():
        spread = Spread.of(cost.seconds)
        rows.append([name, f"{spread.median:.2f} ({spread.least:.2f})", f"{cost.peak_bytes / 1e6:,.0f}"])
    return (
        f"{result.tokens} tokens × {result.vocabulary} of the vocabulary, width {result.hidden}, {result.dtype}, on "
        f"{result.device}.\n\n"
        f"{markdown_table(['', 'seconds, median (least)', 'peak memory, MB'], rows)}\n\n"
        f"Fused with energies over fused alone: {result.time_ratio:.2f} of the time; over unfused with energies: "
        f"{result.memory_ratio:.3f} of the memory. Largest difference of an energy: {result.largest_difference:.1e}."
    )
