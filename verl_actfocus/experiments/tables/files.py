"""Finds, reads and checks the declarative files of `recipes/paper/`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from verl_actfocus.envs import outcomes
from verl_actfocus.experiments.runs.choice import slug
from verl_actfocus.experiments.runs.estimators import PACKAGED
from verl_actfocus.experiments.runs.run import ESTIMATORS
from verl_actfocus.experiments.tables.table import AS_IN_TRAINING, IN_TRAINING, NUMBERS, Quantity, Row, Scale, Table
from verl_actfocus.storage.errors import ExperimentError

#: Name of the file with the scales.
SCALES_FILE = "_scales.yaml"
_Settings = TypeVar("_Settings")


def tables_folder() -> Path:
    """Return the folder of the packaged checkout's tables, `recipes/paper`."""
    return Path(str(files("verl_actfocus"))).parent / "recipes" / "paper"


def find_table(name: str) -> Path:
    """Find the file of a table.

    Args:
        name: a name such as `table2`, or the path of a YAML file.

    Raises:
        ValueError: there is no such table; the message lists the names.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ValueError(f"there is no file {name}")
        return Path(name)
    folder = tables_folder()
    known = sorted(path.stem for path in folder.glob("[!_]*.yaml"))
    if not known:
        raise ValueError(
            f"{folder} holds no tables: it is part of the project's checkout, not of the installed package; run the "
            "command from an editable install (pip install -e .) or give the path of a YAML file"
        )
    if name not in known:
        raise ValueError(f"unknown table {name!r}: choose one of {', '.join(known)}, or give the path of a YAML file")
    return folder / f"{name}.yaml"


def find_tables(names: Sequence[str]) -> list[Path]:
    """Find the files of tables that one command makes.

    Args:
        names: names and paths, see `find_table`.

    Raises:
        ValueError: there is no such table, or what is written of two tables would have the same names.
    """
    paths = [find_table(name) for name in names]
    known: dict[str, Path] = {}
    for path in paths:
        other = known.setdefault(path.stem, path)
        if not path.samefile(other):
            raise ValueError(
                f"{other} and {path} are both called {path.stem}, by which the files of a table are named: one table "
                "would replace the other; rename one of them, or make them by two commands, each with a --write-to of "
                "its own"
            )
    return paths


def read_table(path: Path) -> Table:
    """Read and check the file of a table.

    Raises:
        ExperimentError: something in the file is not understood; the message names file, place and remedy.
    """
    table = _read(path, Table)
    table.name = path.stem
    for row in table.rows:
        row.algorithm = row.algorithm or table.algorithm
        _require(path, row.algorithm in ESTIMATORS, f"algorithm {row.algorithm!r} is not one of {list(ESTIMATORS)}")
        _check_outcome(path, row)
        for size, numbers in row.paper.items():
            unknown = sorted(set(numbers) - set(table.weightings))
            _require(path, not unknown, f"row {row.env}, paper.{size}: {unknown} are not weightings of the table")
            for name, pair in numbers.items():
                _require(
                    path, _is_pair(pair), f"row {row.env}, paper.{size}.{name}: {pair!r} is not two numbers or nulls"
                )
    _require(path, bool(table.rows), "there are no rows")
    _require(path, bool(table.weightings), "there are no weightings")
    _require(path, table.baseline in table.weightings, f"the baseline {table.baseline!r} is not a weighting")
    _check_names(path, table)
    _check_evaluations(path, table)
    for name, weighting in table.weightings.items():
        for part in ("weighting", "estimator"):
            try:
                _ = weighting.choice if part == "weighting" else weighting.estimator_choice
            except ValueError as error:
                raise ExperimentError(f"{path}: weightings.{name}.{part}: {error}") from error
        own = PACKAGED.get(weighting.estimator_choice.name) if weighting.estimator_choice else None
        for row in table.rows:
            message = f"weightings.{name}.estimator: {weighting.estimator} is for {own}, and row {row.env} for"
            _require(path, own in (None, row.algorithm), f"{message} {row.algorithm}")
    return table


def _check_outcome(path: Path, row: Row) -> None:
    """Check that what a row counts is something that its environment says about every episode."""
    try:
        known = outcomes(row.env)
    except (ValueError, ImportError, AttributeError) as error:
        raise ExperimentError(f"{path}: row {row.name}: {error}") from error
    if known is None:  # the first evaluation will tell
        return
    message = f"row {row.name}: outcome {row.outcome!r} is not one of those of {row.env}: {', '.join(known)}"
    _require(path, row.outcome in known, message)


def _check_names(path: Path, table: Table) -> None:
    """Check what rows and contrasts call weightings and rows."""
    for row in table.rows:
        _require(path, bool(row.variant) == bool(row.model), f"row {row.name} needs both variant and model, or neither")
        _require(path, not (row.variant and row.sizes), f"row {row.name} has a variant, so no sizes")
        unknown = sorted(set(row.learning_rates) - set(table.weightings))
        _require(path, not unknown, f"row {row.name}, learning_rates: {unknown} are not weightings of the table")
        one = {other.model for other in table.rows if (other.env, other.variant) == (row.env, row.variant)}
        _require(path, len(one) == 1, f"the variant {row.variant!r} of {row.env} names the models {sorted(one)}")
    rates = [rate for row in table.rows for rate in row.learning_rates.values()]
    rates += [weighting.learning_rate for weighting in table.weightings.values() if weighting.learning_rate is not None]
    for name, least, values in (
        ("learning_rate", "above 0", [rate for rate in rates if not 0 < rate < math.inf]),
        ("seeds", "at least 1", [table.seeds] if table.seeds is not None and table.seeds < 1 else []),
        ("steps", "at least 1", [table.steps] if table.steps is not None and table.steps < 1 else []),
        (
            "first_seed",
            "at least 0",
            [table.first_seed] if table.first_seed is not None and table.first_seed < 0 else [],
        ),
    ):
        _require(path, not values, f"{name} {values and values[0]} must be {least}")
    rows = [row.name for row in table.rows]
    area = table.quantity is Quantity.area
    _require(path, area or not table.contrasts, f"contrasts are of tables with quantity: area, not {table.quantity}")
    _require(path, area or not table.pooled, f"pooled is of tables with quantity: area, not {table.quantity}")
    _require(path, table.pooled in ("", *NUMBERS), f"pooled: number {table.pooled!r} is not one of {NUMBERS}")
    for contrast in table.contrasts:
        _require(path, contrast.number in NUMBERS, f"contrasts: number {contrast.number!r} is not one of {NUMBERS}")
        _require(path, contrast.larger != contrast.than, f"contrasts: {contrast.larger!r} is compared with itself")
        known = contrast.weighting in table.weightings and contrast.weighting != table.baseline
        _require(path, known, f"contrasts: {contrast.weighting!r} is no weighting beside the baseline")
        for name in (contrast.larger, contrast.than):
            _require(path, rows.count(name) == 1, f"contrasts: {rows.count(name)} rows are called {name!r}, of {rows}")


def _check_evaluations(path: Path, table: Table) -> None:
    """Check the evaluations of finished runs that a table declares."""
    some = table.quantity.of_success or not table.evaluations
    _require(path, some, f"evaluations are of tables of success, not of {table.quantity}")
    labels = [AS_IN_TRAINING, *(other.label for other in table.evaluations.values())]
    for name, other in table.evaluations.items():
        place = f"evaluations.{name}"
        _require(path, slug(name) == name, f"{place} names a folder: take letters, digits and hyphens")
        _require(path, name != IN_TRAINING, f"{place}: that is what the training's own evaluation is called")
        _require(path, labels.count(other.label) == 1, f"{place}.label {other.label!r} is another one's, too")
        for key, value in other.changes.items():
            _require(path, 0 <= value < math.inf, f"{place}.{key} {value} must be at least 0")


def read_scale(path: Path, name: str) -> Scale:
    """Read a scale of the file beside a table, or of the packaged tables where there is none beside it.

    Args:
        path: file of the table.
        name: name of the scale.

    Raises:
        ValueError: there is no such scale; the message lists the names.
        ExperimentError: something in the file is not understood.
    """
    source = path.parent / SCALES_FILE
    if not source.is_file():
        source = tables_folder() / SCALES_FILE
    if not source.is_file():
        raise ExperimentError(f"{source} is missing: it says what --scale {name} means for {path.name}")
    known = OmegaConf.to_container(_load(source))
    if not isinstance(known, dict):
        raise ExperimentError(f"{source} holds no mapping of scales")
    if name not in known:
        raise ValueError(f"unknown scale {name!r}: {source} has {', '.join(map(str, known))}")
    scale = _structured(source, Scale, known[name])
    _require(source, bool(scale.size) != bool(scale.models), f"{name} needs either size or models")
    return scale


def _read(path: Path, kind: type[_Settings]) -> _Settings:
    return _structured(path, kind, _load(path))


def _load(path: Path) -> Any:
    try:
        return OmegaConf.load(path)
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ExperimentError(f"{path} cannot be read as YAML: {reason}; correct the file") from error


def _structured(path: Path, kind: type[_Settings], values: Any) -> _Settings:
    try:
        merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except OmegaConfBaseException as error:
        raise ExperimentError(f"{path}: {str(error).splitlines()[0]} (at {error.full_key or 'the top'})") from error
    if isinstance(merged, kind):
        return merged
    raise ExperimentError(f"{path} holds no mapping")


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(v is None or isinstance(v, int | float) for v in value)


def _require(path: Path, holds: bool, message: str) -> None:
    if not holds:
        raise ExperimentError(f"{path}: {message}")
