"""A training step of stock veRL against one of this package, phase by phase: whole runs in alternation.

A run of veRL's trainer starts Ray anew, so that the finest alternation is that of runs; a round is one run of every
variant, and rounds go through the variants in turn, every other one backwards, so that a drift of the machine meets
all of them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from verl_actfocus import models
from verl_actfocus.benchmarks import report
from verl_actfocus.benchmarks.devices import variables_of
from verl_actfocus.benchmarks.runs import BenchmarkRun
from verl_actfocus.benchmarks.statistics import Ratio, Spread, ratio_of_medians
from verl_actfocus.benchmarks.variants import VARIANTS, Variant, run_overrides
from verl_actfocus.config.compatibility import checked_settings
from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.experiments.execution.supervision import refuse_orphans
from verl_actfocus.experiments.runs.composition import compose, subject
from verl_actfocus.experiments.runs.hydra_words import in_hydra
from verl_actfocus.storage.locks import locked

#: veRL's timer → what the tables call the phase. `step` is everything, data and metrics included.
PHASES = {
    "gen": "generation",
    "old_log_prob": "old log-prob",
    "ref": "reference",
    "values": "values",
    "adv": "advantage",
    "update_critic": "critic update",
    "update_actor": "actor update",
    "step": "whole step",
}
#: Field of a run's peak memory → what the tables call it.
MEMORY = {"all_processes": "peak memory, all processes", "training_worker": "peak memory, training worker"}
#: veRL's metric that says how much work a step was.
TOKENS = "perf/total_num_tokens"
TINY, LARGE = "tiny", "large"
#: Sizes of a step → Hydra overrides: those of the profile, or a quarter of its trajectories in two mini-batches.
SIZES = {TINY: (), LARGE: ("data.train_batch_size=4", "actor_rollout_ref.actor.ppo_mini_batch_size=2")}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured.

    Raises:
        ValueError: a name is unknown, a variant lacks its baseline, or every step would be dropped.
    """

    folder: Path
    variants: tuple[str, ...]
    algorithms: tuple[str, ...]
    sizes: tuple[str, ...]
    #: Runs of every variant.
    rounds: int
    #: Steps of a run, and how many of its first ones are dropped: they warm caches and allocators up.
    steps: int
    drop: int
    profile: str = "cpu_frozenlake"
    #: Where runs compute, a key of `verl_actfocus.experiments.runs.run.DEVICES`.
    device: str = "cpu"
    #: The user's own Hydra overrides.
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.variants:
            if name not in VARIANTS:
                raise ValueError(f"{name!r} is not a variant; choose from {', '.join(VARIANTS)}")
            baseline = VARIANTS[name].baseline
            if baseline is not None and baseline not in self.variants:
                raise ValueError(f"the variant {name} is compared with {baseline}, which is missing; add it")
        if self.drop >= self.steps:
            raise ValueError(f"--drop {self.drop} of --steps {self.steps} leaves no step to measure; raise --steps")
        if "$" in str(self.folder):
            raise ValueError(f"the folder {self.folder} holds a '$', which Hydra takes for a reference; choose another")

    def chosen(self) -> list[Variant]:
        """Return the variants in the order of the tables."""
        return [variant for name, variant in VARIANTS.items() if name in self.variants]

    def runs(self) -> list[tuple[str, str, int, Variant, BenchmarkRun]]:
        """Return (size, algorithm, round, variant, run) in the order in which they are executed."""
        order = []
        for size in self.sizes:
            for algorithm in self.algorithms:
                for number in range(1, self.rounds + 1):
                    turn = self.chosen() if number % 2 else self.chosen()[::-1]
                    order += [(size, algorithm, number, one, self.run(size, algorithm, number, one)) for one in turn]
        return order

    def run(self, size: str, algorithm: str, number: int, variant: Variant) -> BenchmarkRun:
        """Return one run; its folder says which."""
        folder = self.folder / f"{size}-{algorithm}" / f"round-{number}" / variant.name
        model = (f"actor_rollout_ref.model.path={in_hydra(str(self.larger_model))}",) if size == LARGE else ()
        overrides = run_overrides(
            variant,
            algorithm,
            profile=self.profile,
            device=self.device,
            steps=self.steps,
            folder=folder,
            extra=(*SIZES[size], *model, *self.extra),
        )
        return BenchmarkRun(folder, overrides, self.steps, variables_of(self.device))

    @property
    def larger_model(self) -> Path:
        """Folder of the larger model."""
        return self.folder / "larger-model"

    def check(self) -> None:
        """Compose every run, and read what is finished, before anything starts.

        Raises:
            ExperimentError: Hydra refuses an override, or a folder holds a run with other settings.
            ValueError: a setting is out of range, or there is no such profile.
        """
        for _, _, number, variant, run in self.runs():
            _ = run.done
            if number == 1:  # other rounds differ in their folder alone
                config = compose(*run.overrides)
                OmegaConf.to_container(config, resolve=True)
                if variant.weighted:
                    checked_settings(config)


def measure(plan: Plan) -> None:
    """Execute the runs that are not finished, and write `step.json` and `step.md`.

    Raises:
        ExperimentError: a run failed; the same command goes on from there.
    """
    plan.check()
    with locked(plan.folder):
        refuse_orphans(plan.folder)
        sizes = {TINY: models.folder(subject(plan.profile)[0]) / "model", LARGE: plan.larger_model}
        if LARGE in plan.sizes:
            from verl_actfocus.benchmarks.larger_model import make_larger_model

            print(f"the larger model: {make_larger_model(sizes[TINY], plan.larger_model):,} parameters", flush=True)
        runs = plan.runs()
        for number, (size, algorithm, round_number, variant, run) in enumerate(runs, start=1):
            if run.done is None:
                title = f"[{number}/{len(runs)}] {size} {algorithm} round {round_number} {variant.name}"
                display = Display(title)
                run.execute(display)
                display.close(_result_line(plan, run))
        values = collect(plan)
        report.write(plan.folder, "step", values, markdown(plan, values))


def collect(plan: Plan) -> dict[str, Any]:
    """Read the finished runs: every value of every step, medians, spreads, ratios to the baseline."""
    tables = []
    for size in plan.sizes:
        for algorithm in plan.algorithms:
            rounds = {one.name: _rounds(plan, size, algorithm, one) for one in plan.chosen()}
            tables.append({"size": size, "algorithm": algorithm, **_table(plan, rounds)})
    first = plan.runs()[0][-1].done
    loads = [done["conditions"]["load"] for *_, run in plan.runs() if (done := run.done) is not None]
    return {
        "conditions": None if first is None else first["conditions"],
        "loads_at_the_start_of_runs": loads,
        "profile": plan.profile,
        "device": plan.device,
        "rounds": plan.rounds,
        "steps": plan.steps,
        "dropped": plan.drop,
        "extra": list(plan.extra),
        "tables": tables,
    }


def _rounds(plan: Plan, size: str, algorithm: str, variant: Variant) -> dict[str, list[list[float]]]:
    """Quantity → round → values, of the steps that count; quantities that the runs do not have are left out."""
    found: dict[str, list[list[float]]] = {}
    for number in range(1, plan.rounds + 1):
        run = plan.run(size, algorithm, number, variant)
        steps = [metrics for step, metrics in sorted(run.metrics().items()) if step > plan.drop]
        for name in (*(f"timing_s/{phase}" for phase in PHASES), TOKENS):
            values = [metrics[name] for metrics in steps if name in metrics]
            if values:
                found.setdefault(name.removeprefix("timing_s/"), []).append(values)
        done = run.done or {}
        for name in MEMORY:
            found.setdefault(name, []).append([done["peak_megabytes"][name]])
    return found


def _table(plan: Plan, rounds: dict[str, dict[str, list[list[float]]]]) -> dict[str, Any]:
    variants = {
        name: {
            "rounds": quantities,
            "spread": {
                quantity: Spread.of([value for one in values for value in one]).as_json()
                for quantity, values in quantities.items()
            },
        }
        for name, quantities in rounds.items()
    }
    ratios = {
        one.name: {
            quantity: {
                **ratio_of_medians(values, rounds[one.baseline][quantity]).as_json(),
                "of_least": min(map(min, values)) / min(map(min, rounds[one.baseline][quantity])),
            }
            for quantity, values in rounds[one.name].items()
            if quantity in rounds[one.baseline]
        }
        for one in plan.chosen()
        if one.baseline is not None
    }
    return {"variants": variants, "ratios": ratios}


def markdown(plan: Plan, values: dict[str, Any]) -> str:
    """Write the tables."""
    loads = values["loads_at_the_start_of_runs"]
    parts = [
        f"{plan.rounds} rounds of {plan.steps} steps in alternation, the first {plan.drop} of a run dropped; profile "
        f"`{plan.profile}`. Seconds: median (least) [quartiles] of all steps. Memory in MB (10⁶ bytes): of all "
        "processes the largest sum of proportional set sizes, looked at every second; of the training worker the "
        "kernel's mark of the largest resident set. Ratios are of medians (of the least values, which other programs "
        "disturb least), with a 95 % bootstrap interval over rounds for those of medians.",
        f"{report.conditions_line(values['conditions'])} Load at the start of runs: {min(loads)} to {max(loads)}.",
    ]
    for table in values["tables"]:
        quantities = [
            name for name in (*PHASES, *MEMORY) if any(name in one["spread"] for one in table["variants"].values())
        ]
        names = {**PHASES, **MEMORY}
        rows = [
            [VARIANTS[name].title, *(_cell(one["spread"].get(quantity)) for quantity in quantities)]
            for name, one in table["variants"].items()
        ]
        rows += [
            [
                f"**{VARIANTS[name].title} / {VARIANTS[VARIANTS[name].baseline or name].title}**",
                *(_ratio_cell(ratios.get(quantity)) for quantity in quantities),
            ]
            for name, ratios in table["ratios"].items()
        ]
        tokens = {round(one["spread"][TOKENS]["median"]) for one in table["variants"].values()}
        parts.append(
            f"### {table['algorithm'].upper()}, {table['size']} model\n\n"
            f"Tokens of a step, median: {' or '.join(map(str, sorted(tokens)))}.\n\n"
            + report.markdown_table(["", *(names[quantity] for quantity in quantities)], rows)
        )
    return "\n\n".join(parts)


def _cell(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "–"
    if spread["median"] >= 100:
        return f"{spread['median']:.0f} ({spread['least']:.0f})"
    low, high = spread["quartiles"]
    return f"{spread['median']:.2f} ({spread['least']:.2f}) [{low:.2f}, {high:.2f}]"


def _ratio_cell(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return "–"
    medians = Ratio(ratio["value"], ratio["interval"])
    interval = "" if medians.interval is None else f" [{medians.interval[0]:.2f}, {medians.interval[1]:.2f}]"
    return f"{medians.value:.2f} ({ratio['of_least']:.2f}){interval}"


def _result_line(plan: Plan, run: BenchmarkRun) -> str:
    steps: Sequence[float] = [one["timing_s/step"] for number, one in run.metrics().items() if number > plan.drop]
    done = run.done or {}
    return f"{Spread.of(steps).median:.2f} s a step (median of {len(steps)}), {done['seconds']:.0f} s in all"
