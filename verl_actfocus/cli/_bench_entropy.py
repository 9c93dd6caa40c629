"""`actfocus bench entropy`: what the entropy of the update costs in memory, by the way it is computed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from verl_actfocus.cli._bench_device import add_device_argument, conditions_on
from verl_actfocus.cli._values import positive, writable

if TYPE_CHECKING:
    from verl_actfocus.benchmarks.entropy import EntropyMemory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmark."""
    parser.description = (
        "Memory that an entropy and its gradient take beside the logits (bfloat16), and time, for each of veRL's "
        "ways and for this package's, in alternation."
    )
    parser.add_argument("--tokens", type=positive, default=1024, metavar="N", help="of a micro-batch (default 1024)")
    parser.add_argument("--vocabulary", type=positive, default=151_936, metavar="V", help="default 151936, Qwen2.5's")
    parser.add_argument("--chunk", type=positive, default=512, metavar="N", help="tokens of a chunk (default 512)")
    add_device_argument(parser)
    parser.add_argument("--rounds", type=positive, default=3, metavar="R", help="measurements of each (default 3)")
    parser.add_argument(
        "--out", type=writable, default=Path("outputs/bench-entropy"), help="folder (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and write the table."""
    measured = conditions_on(args.device)
    from verl_actfocus.benchmarks import report
    from verl_actfocus.benchmarks.entropy import measure_entropy_memory

    settings = {"chunk_size": args.chunk, "rounds": args.rounds, "device": args.device}
    result = measure_entropy_memory(args.tokens, args.vocabulary, **settings)
    text = f"{_markdown(result)}\n\n{report.conditions_line(measured)}"
    report.write(args.out, "entropy", {"conditions": measured, **result.as_json()}, text)
    return 0


def _markdown(result: EntropyMemory) -> str:
    from verl_actfocus.benchmarks.report import markdown_table
    from verl_actfocus.benchmarks.statistics import Spread

    logits = result.tokens * result.vocabulary
    rows = []
    for way, cost in result.costs.items():
        spread = Spread.of(cost.seconds)
        kept, peak = cost.kept_bytes / logits, result.per_logit(way)
        rows.append([way, f"{kept:.2f}", f"{peak:.2f}", f"{spread.median:.2f} ({spread.least:.2f})"])
    header = ["entropy", "kept between passes, bytes a logit", "peak, bytes a logit", "seconds, median (least)"]
    return (
        f"{result.tokens} tokens × {result.vocabulary} of the vocabulary, {result.dtype}, on {result.device}, chunks "
        f"of {result.chunk_size}; beside the logits themselves, their gradient included in the "
        f"peak.\n\n{markdown_table(header, rows)}"
    )
