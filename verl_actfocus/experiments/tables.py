"""What the declarative files of `recipes/paper/` say.

`<table>.yaml` names the rows of a table, its weightings and the paper's numbers; `_scales.yaml` beside it says
what a GPU run and a CPU miniature are. Training settings are not in these files: they are the packaged profiles that a
scale names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.estimators import PACKAGED, EstimatorChoice
from verl_actfocus.experiments.run import ESTIMATORS
from verl_actfocus.experiments.weightings import ACTFOCUS, WeightingChoice

#: Name of the file with the scales.
SCALES_FILE = "_scales.yaml"
_Settings = TypeVar("_Settings")


class Quantity(StrEnum):
    """What a table shows."""

    #: Success rate at the last step and at the best evaluation.
    success = "success"
    #: Generated tokens per trajectory and the share of action tokens, before training.
    action_tokens = "action_tokens"


@dataclass(kw_only=True)
class Weighting:
    """One way of weighting tokens (and of estimating advantages), under a name of the table's own."""

    #: Label in the table.
    label: str
    #: Name and settings, as `actfocus compare --weightings` takes them.
    weighting: str = str(ACTFOCUS)
    #: Estimator and settings, as `actfocus compare --estimators` takes them; empty for the algorithm's own.
    estimator: str = ""
    #: Settings under `algorithm.actfocus` that differ from the profile's.
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def choice(self) -> WeightingChoice:
        """The weighting that the runs train with."""
        return WeightingChoice.parse(self.weighting)

    @property
    def estimator_choice(self) -> EstimatorChoice | None:
        """The estimator that the runs train with; None for the algorithm's own."""
        return EstimatorChoice.parse(self.estimator) if self.estimator else None

    @property
    def overrides(self) -> tuple[str, ...]:
        """The settings as Hydra overrides."""
        return tuple(
            f"algorithm.actfocus.{name}={'null' if value is None else value}" for name, value in self.settings.items()
        )


@dataclass(kw_only=True)
class Row:
    """One row of the paper's table."""

    #: Name of an environment.
    env: str
    #: `grpo` or `ppo`; empty for the table's.
    algorithm: str = ""
    #: Which outcome of an episode counts: a key of the evaluation episodes.
    outcome: str = "success"
    #: Label of the outcome in the table; empty for none.
    label: str = ""
    #: Model sizes of the row where a scale has several; empty for all of them.
    sizes: list[str] = field(default_factory=list)
    #: Model size → weighting → the paper's two numbers: final and peak success in percent, or tokens per trajectory
    #: and share of action tokens in percent. Null is a number that the paper does not give.
    paper: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Table:
    """A table or ablation of the paper."""

    title: str
    #: Where the paper's numbers stand.
    source: str
    rows: list[Row]
    quantity: Quantity = Quantity.success
    #: Algorithm of the rows that name none.
    algorithm: str = "ppo"
    #: Name → weighting, in the order of the table.
    weightings: dict[str, Weighting] = field(default_factory=dict)
    #: Weighting that the others are compared with.
    baseline: str = "uniform"
    #: Training steps of every run; null for the scale's.
    steps: int | None = None
    #: Sentences under the table.
    notes: list[str] = field(default_factory=list)
    #: File name without its ending.
    name: str = ""


@dataclass(kw_only=True)
class Scale:
    """Where and how large the runs are."""

    #: Profile of a run, with `{env}` and `{algorithm}`.
    run: str
    #: What the scale is, in a sentence.
    summary: str
    #: First training seed; the others follow it.
    first_seed: int
    #: Training seeds unless the command says otherwise.
    seeds: int
    #: Training steps; null for the profile's.
    steps: int | None = None
    #: Label of the model size if there is but one; the paper's numbers of all sizes stand beside it.
    size: str = ""
    #: Environment → model size → model; empty for the profile's one model.
    models: dict[str, dict[str, str]] = field(default_factory=dict)

    def sizes(self, row: Row) -> list[str]:
        """Return the model sizes of a row, in the order of the table.

        Raises:
            ExperimentError: the scale has no model for the row.
        """
        if self.size:
            return [self.size]
        known = self.models.get(row.env, {})
        unknown = sorted(set(row.sizes) - set(known))
        if unknown or not known:
            raise ExperimentError(f"the scale has no models {unknown or 'at all'} for {row.env}; it has {list(known)}")
        return row.sizes or list(known)


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


def read_scale(path: Path, name: str) -> Scale:
    """Read a scale of the file beside a table.

    Args:
        path: file of the table.
        name: name of the scale.

    Raises:
        ValueError: there is no such scale; the message lists the names.
        ExperimentError: something in the file is not understood.
    """
    source = path.parent / SCALES_FILE
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
