"""The runs that a table is made of.

Runs are named after what they are and not after the table that asked for them, so that tables share them: the ActFocus
runs of the main comparison are a point of every sweep.

A run is in ``<out>/<profile>/<condition>/<method>-seed<n>``. A condition is an environment, an algorithm, a model size,
a number of steps where the table sets it, and settings that differ from the method's; the runs of a condition are a
comparison that ``actfocus report`` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.runs import Run
from verl_actfocus.experiments.settings import compose_group, compose_settings
from verl_actfocus.experiments.specification import Profile, Row, Table, Variant


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant in one row of a table, for one model size: a run for each seed."""

    row: Row
    size: str
    #: Name of the variant.
    variant: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for.

    Raises:
        ValueError: there are no seeds.
    """

    table: Table
    profile: Profile
    #: Name of the profile.
    profile_name: str
    #: Number of training seeds.
    seeds: int
    #: Every run is in a folder below this one.
    out: Path
    #: Words that choose rows and variants; empty for all, see `select`.
    only: tuple[str, ...] = ()
    #: Hydra overrides of the user's own, for every run.
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"{self.seeds} seeds: there must be at least 1")


def cells(request: Request) -> list[Cell]:
    """Return the cells of a table, row by row.

    Raises:
        ValueError: a word of `only` names nothing, or nothing is left.
    """
    table, profile = request.table, request.profile
    return [
        Cell(
            row=row,
            size=size,
            variant=name,
            runs=tuple(_run(request, row, size, variant, seed) for seed in _seeds(request)),
        )
        for row, size, name, variant in select(table, profile, request.only)
    ]


def distinct_runs(chosen: Sequence[Cell]) -> list[Run]:
    """Return every run once, seeds in turn, so that an interrupted grid has all cells with fewer seeds."""
    most = max(len(cell.runs) for cell in chosen)
    ordered = [cell.runs[number] for number in range(most) for cell in chosen]
    return list({run.folder: run for run in ordered}.values())


def folder_of(run: Run) -> RunFolder:
    """Return the folder of a run.

    Raises:
        ExperimentError: it holds a run that was made with other settings.
    """
    folder = RunFolder(run.folder)
    if folder.exists:
        folder.check(run, compose_settings(run))
    return folder


def select(table: Table, profile: Profile, only: Sequence[str]) -> list[tuple[Row, str, str, Variant]]:
    """Choose rows, model sizes and variants by words.

    Args:
        table: the table.
        profile: the profile.
        only: words. A word chooses an environment, an algorithm, an outcome by its label, a model size or a variant;
            words of one kind add up, words of different kinds restrict each other.

    Returns:
        (row, size, variant's name, variant), row by row.

    Raises:
        ValueError: a word names nothing in the table, or nothing is left.
    """
    everything = [
        (row, size, name, variant)
        for row in table.rows
        for size in profile.sizes(row)
        for name, variant in table.variants.items()
    ]
    kinds = {
        "environments": [row.env for row in table.rows],
        "algorithms": [row.algorithm for row in table.rows],
        "outcomes": [row.label for row in table.rows if row.label],
        "model sizes": [size for _, size, _, _ in everything],
        "variants": list(table.variants),
    }
    unknown = [word for word in only if not any(word in names for names in kinds.values())]
    if unknown:
        known = [f"the {kind} {', '.join(dict.fromkeys(names))}" for kind, names in kinds.items() if names]
        raise ValueError(f"--only {' '.join(unknown)}: {table.name} has {'; '.join(known)}")
    wanted = [{word for word in only if word in names} for names in kinds.values()]
    chosen = []
    for row, size, name, variant in everything:
        values = (row.env, row.algorithm, row.label, size, name)
        if all(not words or value in words for words, value in zip(wanted, values, strict=True)):
            chosen.append((row, size, name, variant))
    if not chosen:
        raise ValueError(f"--only {' '.join(only)} leaves nothing of {table.name}")
    return chosen


def _seeds(request: Request) -> range:
    first = request.profile.first_seed
    return range(first, first + request.seeds)


def _run(request: Request, row: Row, size: str, variant: Variant, seed: int) -> Run:
    profile = request.profile
    name = profile.run.format(env=row.env, algorithm=row.algorithm)
    steps = request.table.steps or profile.steps or compose_group(name)["trainer.total_training_steps"]
    condition = [
        row.env,
        row.algorithm,
        *([size] if profile.models else []),
        *([f"{steps}steps"] if request.table.steps else []),
        *(f"{key}={value}" for key, value in variant.settings.items()),
    ]
    model = (f"actor_rollout_ref.model.path={profile.models[row.env][size]}",) if profile.models else ()
    return Run(
        algorithm=row.algorithm,
        method=variant.method,
        env=row.env,
        seed=seed,
        steps=steps,
        folder=request.out / request.profile_name / "-".join(condition) / f"{variant.method}-seed{seed}",
        extra=(*model, *variant.overrides, *request.extra),
        profile=name,
    )
