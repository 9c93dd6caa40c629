"""`actfocus bench`: what this package costs, as ratios to what a user has without it."""

from __future__ import annotations

import argparse
from importlib import import_module

#: Benchmark → its module in this package, and what the list says about it.
BENCHMARKS = {
    "gpu": ("_bench_gpu", "one GPU: what the tests check on a CPU, and what it costs there"),
    "step": (
        "_bench_step",
        "a training step of stock veRL and of this package in alternation, phase by phase, with memory",
    ),
    "energy": ("_bench_energy", "energies beside log-probabilities, fused and not: time and memory"),
    "entropy": ("_bench_entropy", "memory of the update's entropy, by the way it is computed"),
    "environments": ("_bench_environments", "steps of the environments, beside gymnasium's plain FrozenLake"),
    "tagging": ("_bench_tagging", "spans found per second, by the length of the response"),
    "prefixes": ("_bench_prefixes", "what it gains to compute the shared prompt of a group once"),
    "transport": (
        "_bench_transport",
        "bytes through TransferQueue and driver, all-reduces, weighting memory at a large scale",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmarks."""
    parser.description = (
        "Measure what this package costs. What is compared is measured in alternation in one run of the command; every "
        "benchmark writes JSON and Markdown with machine, versions and load."
    )
    which = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for name, (module, summary) in BENCHMARKS.items():
        benchmark = which.add_parser(name, help=summary)
        import_module(f"{__package__}.{module}").add_arguments(benchmark)


def run(args: argparse.Namespace) -> int:
    """Run the benchmark that was asked for."""
    module, _ = BENCHMARKS[args.benchmark]
    return int(import_module(f"{__package__}.{module}").run(args))
