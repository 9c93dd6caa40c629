"""What a step moves through TransferQueue, by process and field, and what that is at a scale that does not fit here.

Counted, not declared: a short real run writes down every put and get of every process (`metering`), so that a field
that the trainer reads twice is here twice. Every field has one value per token of the response, of the prompt or of
both, or one object per trajectory; that and the number of its passes are what is scaled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_actfocus.benchmarks import metering, report
from verl_actfocus.benchmarks.devices import variables_of
from verl_actfocus.benchmarks.runs import BenchmarkRun
from verl_actfocus.benchmarks.variants import VARIANTS, run_overrides
from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.experiments.execution.supervision import refuse_orphans
from verl_actfocus.experiments.runs.composition import compose
from verl_actfocus.experiments.runs.hydra_words import MODULES_VARIABLE
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import locked

#: Variants whose runs are counted: both run the reference model, so that what differs are the weights.
COUNTED = ("stock-kl", "actfocus-kl")
#: The counted run: 32 trajectories, two ranks; the second of three steps counts.
STEPS = 3
SMALL = ("data.train_batch_size=4", "actor_rollout_ref.actor.ppo_mini_batch_size=2", "trainer.n_gpus_per_node=2")
#: What Ray calls a process → what the tables call it.
ROLES = {"TaskRunnerV1": "driver", "WorkerDict": "training workers", "AgentLoopWorkerTQ": "agent loops"}


@dataclass(frozen=True)
class Scale:
    """A training step that is computed, not run."""

    trajectories: int = 1024
    #: Tokens of a trajectory, its prompt included.
    tokens: int = 16384
    #: Tokens of the first prompt.
    prompt: int = 400

    def tokens_of(self, basis: str) -> int:
        """Return the values of one pass over a field with this basis."""
        per_row = {"response": self.tokens - self.prompt, "prompt": self.prompt, "sequence": self.tokens, "row": 1}
        return self.trajectories * per_row[basis]


@dataclass(frozen=True)
class Flow:
    """One field that a kind of process puts or gets, in one step."""

    role: str
    kind: str
    field: str
    #: What it has a value for: each token of the `response`, the `prompt`, the `sequence` of both, or each `row`.
    basis: str
    #: How often the whole batch passes.
    passes: float
    bytes_per_value: float

    def at(self, scale: Scale) -> float:
        """Return the bytes of a step at a scale."""
        return self.passes * self.bytes_per_value * scale.tokens_of(self.basis)


def records_of_a_step(records: Iterable[dict[str, Any]], rows: int) -> list[dict[str, Any]]:
    """Return what was recorded from the first response of the second step to the first one of the third.

    Args:
        records: of all processes.
        rows: trajectories of a step.

    Raises:
        ExperimentError: fewer than three steps were recorded.
    """
    ordered = sorted(records, key=lambda record: record["time"])
    seen, began = 0, []
    for record in ordered:
        if record["kind"] == "put" and "responses" in record["fields"] and record["role"] == "AgentLoopWorkerTQ":
            if seen % rows == 0:
                began.append(record["time"])
            seen += int(record["fields"]["responses"][2])
    if len(began) < STEPS:
        raise ExperimentError(
            f"the records hold {seen} trajectories, less than {STEPS} steps of {rows}; delete the folder "
            "of the runs and run it again"
        )
    return [record for record in ordered if began[1] <= record["time"] < began[2]]


def flows(records: Sequence[dict[str, Any]]) -> list[Flow]:
    """Sum the records of one step by process, direction and field."""
    elements: dict[tuple[str, str, str], float] = defaultdict(float)
    volume: dict[tuple[str, str, str], float] = defaultdict(float)
    for record in records:
        if record["kind"] in ("put", "get"):
            for field, (count, size, _) in record["fields"].items():
                key = (ROLES.get(record["role"], record["role"]), record["kind"], field)
                elements[key] += count
                volume[key] += count * size
    played = {field: elements["agent loops", "put", field] for field in ("prompts", "responses", "num_turns")}
    bases = {
        "response": played["responses"],
        "sequence": played["prompts"] + played["responses"],
        "prompt": played["prompts"],
        "row": played["num_turns"],
    }
    # A field of which a part was put, such as advantages of some groups, has the basis that it has elsewhere. What is
    # never a whole number of tokens has a value for each row.
    known = {key[2]: basis for key, count in elements.items() if (basis := token_basis(count, bases)) is not None}
    found = []
    for (role, kind, field), count in sorted(elements.items()):
        basis = token_basis(count, bases) or known.get(field, "row")
        found.append(Flow(role, kind, field, basis, count / bases[basis], volume[role, kind, field] / count))
    return found


def token_basis(count: float, bases: dict[str, float]) -> str | None:
    """Return of which tokens so many values are a whole number of passes; None if of none.

    Example:
        >>> token_basis(600, {"response": 200, "sequence": 270, "prompt": 70, "row": 8})
        'response'
    """
    tokens = ((basis, values) for basis, values in bases.items() if basis != "row")
    return next((basis for basis, values in tokens if count >= values and count % values == 0), None)


def all_reduces(records: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """Return the all-reduces of one step on each rank, and the values of the largest of them."""
    found = [record for record in records if record["kind"] == "all_reduce"]
    return len(found) / len({record["pid"] for record in found}), max(record["values"] for record in found)


def count(folder: Path, profile: str) -> dict[str, tuple[list[Flow], tuple[float, int]]]:
    """Run the variants, unless their records are there, and return flows and all-reduces of a step of each.

    Raises:
        ExperimentError: there is no such profile, a run failed, or its records are not whole.
    """
    modules = ",".join(filter(None, (os.environ.get(MODULES_VARIABLE), metering.__name__)))
    plan = {}
    for name in COUNTED:
        place, records = folder / name, folder / f"{name}-records"
        overrides = run_overrides(
            VARIANTS[name], "grpo", profile=profile, device="cpu", steps=STEPS, folder=place, extra=SMALL
        )
        config = compose(*overrides)  # refuses what is wrong before anything starts
        rows = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
        variables = {**variables_of("cpu"), MODULES_VARIABLE: modules, metering.FOLDER_VARIABLE: str(records)}
        plan[name] = (BenchmarkRun(place, overrides, STEPS, variables), records, rows)
    found = {}
    with locked(folder):
        refuse_orphans(folder)
        for number, (name, (run, records, rows)) in enumerate(plan.items(), start=1):
            if run.done is None:
                shutil.rmtree(records, ignore_errors=True)
                records.mkdir()
                run.execute(Display(f"[{number}/{len(plan)}] {name}"))
            lines = [json.loads(line) for file in records.glob("*.jsonl") for line in file.read_text().splitlines()]
            step = records_of_a_step(lines, rows)
            found[name] = (flows(step), all_reduces(step))
    return found


def markdown(counted: dict[str, tuple[list[Flow], tuple[float, int]]], scale: Scale) -> str:
    """Write the tables: bytes by process, fields of the driver, all-reduces."""
    names = list(counted)
    titles = [VARIANTS[name].title for name in names]
    by_process = {name: _totals(counted[name][0], scale) for name in names}
    keys = sorted({key for totals in by_process.values() for key in totals})
    first = report.markdown_table(
        ["process, direction", *(f"{title}, GB" for title in titles)],
        [
            [f"{role}, {kind}", *(_giga(by_process[name].get((role, kind), 0.0)) for name in names)]
            for role, kind in keys
        ],
    )
    flows_of = {name: {(flow.role, flow.kind, flow.field): flow for flow in counted[name][0]} for name in names}
    driver = sorted(
        {key for found in flows_of.values() for key in found if key[0] == "driver"}, key=lambda key: key[1:]
    )
    second = report.markdown_table(
        [
            "field, direction",
            "a value for each",
            *(f"passes, {title}" for title in titles),
            *(f"{title}, GB" for title in titles),
        ],
        [
            [
                f"`{key[2]}`, {key[1]}",
                next(found[key].basis for found in flows_of.values() if key in found),
                *(f"{round(found[key].passes, 2):g}" if key in found else "–" for found in flows_of.values()),
                *(_giga(found[key].at(scale)) if key in found else "–" for found in flows_of.values()),
            ]
            for key in driver
        ],
    )
    third = report.markdown_table(
        ["all-reduces of a rank in a step", *titles],
        [
            ["number", *(f"{counted[name][1][0]:.0f}" for name in names)],
            ["values of the largest", *(str(counted[name][1][1]) for name in names)],
        ],
    )
    most = max(flow.passes for found, _ in counted.values() for flow in found if flow.kind == "put")
    return (
        f"{scale.trajectories} trajectories of {scale.tokens} tokens, {scale.prompt} of them prompt; one step. No "
        f"field was put more often than {most:.0f} times per token.\n\n{first}\n\nWhat the driver reads and "
        f"writes:\n\n{second}\n\nCounted on two ranks in a step of two mini-batches:\n\n{third}"
    )


def _totals(found: Sequence[Flow], scale: Scale) -> dict[tuple[str, str], float]:
    totals: dict[tuple[str, str], float] = defaultdict(float)
    for flow in found:
        totals[flow.role, flow.kind] += flow.at(scale)
    return totals


def _giga(value: float) -> str:
    return f"{value / 1e9:.3f}"
