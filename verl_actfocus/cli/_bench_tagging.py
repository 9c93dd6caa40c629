"""`actfocus bench tagging`: spans found per second, by the length of the response."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from verl_actfocus.cli._values import positive, writable

_LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmark."""
    parser.description = (
        "Tag responses of growing length in turn, by CPU time: linear means the same time per token at all."
    )
    parser.add_argument(
        "--lengths", nargs="+", type=positive, default=list(_LENGTHS), metavar="N",
        help=f"tokens of a response (default {' '.join(map(str, _LENGTHS))})",
    )  # fmt: skip
    parser.add_argument("--rounds", type=positive, default=10, metavar="R", help="measurements of each (default 10)")
    parser.add_argument(
        "--tokenizer", default="frozenlake", metavar="NAME", help="named as for 'actfocus eval' (default %(default)s)"
    )
    parser.add_argument(
        "--out", type=writable, default=Path("outputs/bench-tagging"), help="folder (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and write the table."""
    from verl_actfocus.benchmarks import report, tagging
    from verl_actfocus.evaluation.checkpoints import find_tokenizer

    measured = report.conditions()
    rows, power = tagging.measure(sorted(set(args.lengths)), args.rounds, find_tokenizer(args.tokenizer).tokenizer)
    values = {"conditions": measured, "exponent": power, "rows": [dataclasses.asdict(row) for row in rows]}
    text = f"{tagging.markdown(rows, power)}\n\n{report.conditions_line(measured)}"
    report.write(args.out, "tagging", values, text)
    return 0
