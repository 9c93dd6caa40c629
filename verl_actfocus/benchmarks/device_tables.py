"""The tables of a device's check: whether everything holds, and what it cost."""

from __future__ import annotations

from typing import Any

from verl_actfocus.benchmarks import report, step
from verl_actfocus.benchmarks.device_check import DeviceCheck
from verl_actfocus.benchmarks.devices import server
from verl_actfocus.benchmarks.energy import EnergyPass
from verl_actfocus.benchmarks.entropy import EntropyMemory
from verl_actfocus.benchmarks.statistics import Spread


def markdown(found: DeviceCheck) -> str:
    """Write the tables, and first of all whether everything is well."""
    failed = [contract for contract in found.contracts if not contract.holds]
    verdict = (
        "Everything holds."
        if not failed and not found.failures
        else f"{len(failed)} promises broken, {len(found.failures)} parts failed."
    )
    if found.missing:
        verdict = f"Not finished, {verdict[0].lower()}{verdict[1:]} Missing: {', '.join(found.missing)}."
    if found.left_out:
        verdict += f" Left out: {', '.join(found.left_out)}."
    parts = [verdict, *(f"**{part}**: {reason}" for part, reason in found.failures.items())]
    if found.contracts:
        rows = [
            [one.promise, one.dtype, f"{one.error:.1e}", f"{one.tolerance:.1e}", "yes" if one.holds else "**NO**"]
            for one in found.contracts
        ]
        parts += ["### Contracts", report.markdown_table(["", "dtype", "largest error", "allowed", "holds"], rows)]
    if found.passes:
        parts += ["### From hidden states to log-probabilities", *map(_pass_table, found.passes)]
    if found.entropy is not None:
        parts += ["### The update's entropy and its gradient", _entropy_table(found.entropy)]
    if found.seconds:
        taken = ", ".join(f"{name} {seconds:.0f}" for name, seconds in found.seconds.items())
        parts += [f"Seconds that the parts took, starting veRL included: {taken}."]
    for algorithm, values in found.steps.items():
        parts += [f"### A step of {algorithm.upper()}", f"Rollout: `{server(found.device)}`.", _step_table(values)]
        run = ", ".join(f"`{name}` {value:.4g}" for name, value in found.runs.get(algorithm, {}).items())
        parts += [f"Last step of ActFocus: {run}."] if run else []
    return "\n\n".join(parts)


def _pass_table(one: EnergyPass) -> str:
    rows = [
        [name, f"{1e3 * Spread.of(cost.seconds).median:.1f}", f"{cost.peak_bytes / 1e6:,.0f}"]
        for name, cost in one.ways.items()
    ]
    size = f"{one.tokens} × {one.vocabulary}, width {one.hidden}, {one.dtype}"
    return report.markdown_table([size, "ms, median", "peak, MB"], rows)


def _entropy_table(one: EntropyMemory) -> str:
    rows = [
        [
            way,
            f"{1e3 * Spread.of(cost.seconds).median:.1f}",
            f"{cost.peak_bytes / 1e6:,.0f}",
            f"{one.per_logit(way):.2f}",
        ]
        for way, cost in one.costs.items()
    ]
    size = f"{one.tokens} × {one.vocabulary}, {one.dtype}, chunks of {one.chunk_size}"
    return report.markdown_table([size, "ms, median", "peak, MB", "bytes a logit"], rows)


def _step_table(values: dict[str, Any]) -> str:
    (table,) = values["tables"]
    variants = table["variants"]
    phases = [name for name in step.PHASES if any(name in one["spread"] for one in variants.values())]
    rows = [
        [step.VARIANTS[name].title, *(_seconds(one["spread"].get(phase)) for phase in phases)]
        for name, one in variants.items()
    ]
    return report.markdown_table(["seconds, median", *(step.PHASES[phase] for phase in phases)], rows)


def _seconds(spread: dict[str, Any] | None) -> str:
    return "–" if spread is None else f"{spread['median']:.2f}"
