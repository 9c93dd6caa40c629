"""The runs that a table is made of.

Runs are named after what they are and not after the table that asked for them, so that tables share them: the ActFocus
runs of the main comparison are a point of every sweep.

A run is in `<out>/<scale>/<conditions>/<weighting>-seed<n>`, with `-<estimator>` before the seed where that is not the
algorithm's own. Conditions are an environment, an algorithm, a model size or variant, a number of steps where the table
sets it, a learning rate and settings that differ from the profile's; their runs are a comparison that `actfocus report`
reads, and `actfocus compare` is a grid with one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verl_actfocus.experiments.runs.choice import slug
from verl_actfocus.experiments.runs.composition import compose_profile
from verl_actfocus.experiments.runs.hydra_words import in_hydra, key_of
from verl_actfocus.experiments.runs.run import Conditions, Run
from verl_actfocus.experiments.tables.table import Row, Scale, Table, Weighting

#: Settings that name a model and a learning rate.
_MODEL = "actor_rollout_ref.model.path"
_RATE = "actor_rollout_ref.actor.optim.lr"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One weighting in one row of a table, for one model size: a run for each seed."""

    row: Row
    size: str
    #: Name of the weighting in the table.
    weighting: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for.

    Raises:
        ValueError: there are no seeds.
    """

    table: Table
    scale: Scale
    #: Name of the scale.
    scale_name: str
    #: Number of training seeds.
    seeds: int
    #: Every run is in a folder below this one.
    out: Path
    #: Words that choose rows and weightings; empty for all, see `select`.
    only: tuple[str, ...] = ()
    #: Hydra overrides of the user's own, for every run.
    extra: tuple[str, ...] = ()
    #: What the table was asked for by, a name or the path of a file; empty for its name.
    asked_for: str = ""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"{self.seeds} seeds: there must be at least 1")


def cells(request: Request) -> list[Cell]:
    """Return the cells of a table, row by row.

    Raises:
        ValueError: a word of `only` names nothing, or nothing is left.
    """
    return [
        Cell(row=row, size=size, weighting=name, runs=tuple(_runs(request, row, size, name, weighting)))
        for row, size, name, weighting in select(request.table, request.scale, request.only)
    ]


def distinct_runs(chosen: Sequence[Cell]) -> list[Run]:
    """Return every run once, seeds in turn, so that an interrupted grid has all cells with fewer seeds.

    Rows that wait for something have no runs yet.

    Raises:
        ValueError: two tables mean different runs by the same name.
    """
    ready = [cell for cell in chosen if not cell.row.waits_for]
    most = max((len(cell.runs) for cell in ready), default=0)
    found: dict[Path, Run] = {}
    for run in (cell.runs[number] for number in range(most) for cell in ready if number < len(cell.runs)):
        known = found.setdefault(run.folder, run)
        if known != run:
            one, other = (
                " ".join(sorted({*a.overrides()} - {*b.overrides()})) or "the profile's settings"
                for a, b in ((known, run), (run, known))
            )
            raise ValueError(
                f"{run.title} would be two runs, with {one} and with {other}; give the tables' "
                "variants different names, or write the tables one after the other with an --out of their own"
            )
    return list(found.values())


def waits(chosen: Sequence[Cell]) -> list[str]:
    """Say of every row that waits what it waits for."""
    rows = [cell.row for cell in chosen if cell.row.waits_for]
    return list(dict.fromkeys(f"{row.name}, {row.algorithm}, waits for {row.waits_for}" for row in rows))


def select(table: Table, scale: Scale, only: Sequence[str]) -> list[tuple[Row, str, str, Weighting]]:
    """Choose rows, model sizes and weightings by words.

    Args:
        table: the table.
        scale: the scale.
        only: words. A word chooses an environment, an algorithm, an outcome by its label, a model size or a weighting;
            words of one kind add up, words of different kinds restrict each other.

    Returns:
        (row, size, weighting's name, weighting), row by row.

    Raises:
        ValueError: a word names nothing in the table, or nothing is left.
    """
    everything = [
        (row, size, name, weighting)
        for row in table.rows
        for size in scale.sizes(row)
        for name, weighting in table.weightings.items()
    ]
    kinds = {
        "environments": [row.env for row in table.rows],
        "algorithms": [row.algorithm for row in table.rows],
        "outcomes": [row.label for row in table.rows if row.label],
        "model sizes": [size for _, size, _, _ in everything],
        "weightings": list(table.weightings),
    }
    unknown = [word for word in only if not any(word in names for names in kinds.values())]
    if unknown:
        known = [f"the {kind} {', '.join(dict.fromkeys(names))}" for kind, names in kinds.items() if names]
        raise ValueError(f"--only {' '.join(unknown)}: {table.name} has {'; '.join(known)}")
    wanted = [{word for word in only if word in names} for names in kinds.values()]
    chosen = []
    for row, size, name, weighting in everything:
        values = (row.env, row.algorithm, row.label, size, name)
        if all(not words or value in words for words, value in zip(wanted, values, strict=True)):
            chosen.append((row, size, name, weighting))
    if not chosen:
        raise ValueError(f"--only {' '.join(only)} leaves nothing of {table.name}")
    return chosen


def _runs(request: Request, row: Row, size: str, name: str, weighting: Weighting) -> list[Run]:
    scale, steps = request.scale, request.table.steps
    profile = scale.run.format(env=row.env, algorithm=row.algorithm)
    declared = row.learning_rates.get(name, weighting.learning_rate)
    # The profile's own makes no other run of it.
    usual = None if declared is None else float(compose_profile(profile).actor_rollout_ref.actor.optim.lr)
    rate = None if declared == usual else declared
    conditions = [
        row.env,
        row.algorithm,
        *([size] if scale.models or row.variant else []),
        *([f"{steps}steps"] if steps else []),
        *([] if rate is None else [f"lr={rate}"]),
        *(f"{key}={value}" for key, value in weighting.settings.items()),
    ]
    first_seed = scale.first_seed if request.table.first_seed is None else request.table.first_seed
    # A group of the user's own may set another rate than the profile, so that the profile's is named as well.
    groups = any("/" in key_of(override) for override in request.extra)
    said = rate is not None or (declared is not None and groups)
    own = (*_model(scale, row, size), *([f"{_RATE}={declared}"] if said else []), *weighting.overrides)
    named = {key_of(override) for override in own if row.variant or not override.startswith(_MODEL)}
    named |= set() if declared is None else {_RATE}
    for override in request.extra:
        # By itself, or in a section that is given as a whole.
        if reached := sorted(name for name in named if f"{name}.".startswith(f"{key_of(override)}.")):
            raise ValueError(
                f"{override!r} would change what {request.table.name} sets in its rows or columns: "
                f"{', '.join(reached)}; name the settings that you mean one by one"
            )
    return Conditions(
        profile=profile,
        algorithm=row.algorithm,
        env=row.env,
        steps=steps or scale.steps,
        folder=request.out / slug(request.scale_name) / slug("-".join(conditions)),
        extra=(*own, *request.extra),
    ).runs(
        [weighting.choice],
        range(first_seed, first_seed + request.seeds),
        [weighting.estimator_choice] if weighting.estimator_choice else [],
    )


def _model(scale: Scale, row: Row, size: str) -> tuple[str, ...]:
    """Overrides that name the model of a row, where the profile's is not meant."""
    if row.model:
        paths = {"path": f"{row.model}/model", "tokenizer_path": f"{row.model}/tokenizer"}
        return tuple(f"actor_rollout_ref.model.{key}={in_hydra(value)}" for key, value in paths.items())
    return (f"{_MODEL}={scale.models[row.env][size]}",) if scale.models else ()
