"""What the declarative files of `recipes/paper/` say.

`<table>.yaml` names the rows of a table, its weightings and the paper's numbers; `_scales.yaml` beside it says
what a GPU run and a CPU miniature are. Training settings are not in these files: they are the packaged profiles that a
scale names.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from verl_actfocus.experiments.runs.estimators import EstimatorChoice
from verl_actfocus.experiments.runs.hydra_words import in_hydra
from verl_actfocus.experiments.runs.weightings import ACTFOCUS, WeightingChoice
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.settings import flatten

#: What a table with `quantity: area` compares.
NUMBERS = ("final", "area")
#: Name and label of the training's last evaluation, beside a table's own `evaluations`.
IN_TRAINING, AS_IN_TRAINING = "training", "in training"


class Quantity(StrEnum):
    """What a table shows."""

    #: Success rate at the last step and at the best evaluation.
    success = "success"
    #: Success rate at the last step, and its mean over all evaluations after the first: the area under the curve.
    area = "area"
    #: Generated tokens per trajectory and the share of action tokens, before training.
    action_tokens = "action_tokens"

    @property
    def of_success(self) -> bool:
        """Whether the table shows success rates, which are compared with the baseline's."""
        return self is not Quantity.action_tokens


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
    #: Learning rate of the policy; null for the profile's. A row may have another.
    learning_rate: float | None = None

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
            f"algorithm.actfocus.{name}={'null' if value is None else in_hydra(value)}"
            for name, value in flatten(self.settings).items()
        )


@dataclass(kw_only=True)
class Row:
    """One row of a table."""

    #: Name of an environment.
    env: str
    #: `grpo` or `ppo`; empty for the table's.
    algorithm: str = ""
    #: Name of a model that takes the place of the scale's in this row; empty for the scale's.
    variant: str = ""
    #: Its folder, as `actfocus warmstart` writes it: `model/` and `tokenizer/`.
    model: str = ""
    #: Weighting → learning rate of the policy, where it is not the weighting's own.
    learning_rates: dict[str, float] = field(default_factory=dict)
    #: What must be known before the row's runs are trained, in a few words; empty for nothing. Till then it is blank.
    waits_for: str = ""
    #: Which outcome of an episode counts: `success`, or one that the environment's class declares.
    outcome: str = "success"
    #: Label of the outcome in the table; empty for none.
    label: str = ""
    #: Model sizes of the row where a scale has several; empty for all of them.
    sizes: list[str] = field(default_factory=list)
    #: Model size → weighting → the paper's two numbers: final and peak success in percent, or tokens per trajectory
    #: and share of action tokens in percent. Null is a number that the paper does not give.
    paper: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What tells the row from others of its algorithm: its variant, or its environment."""
        return self.variant or self.env


@dataclass(kw_only=True)
class Contrast:
    """A difference to the baseline that is expected to be larger in one row than in another."""

    #: Weighting whose difference to the baseline it is.
    weighting: str
    #: Names of rows: variants, or environments.
    larger: str
    than: str
    #: Which number it is about: `final` or `area`.
    number: str = "area"


@dataclass(kw_only=True)
class OtherEvaluation:
    """An evaluation of the runs' last checkpoints; null is as in training.

    One that changes nothing is a control: what other samples, and the merged weights in bfloat16, change.
    """

    #: Label in the table.
    label: str
    #: Sampling temperature; 0 takes the most likely token.
    temperature: float | None = None
    #: First environment seed of as many tasks, none of them the training's.
    first_task: int | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """What differs, by the names of `verl_actfocus.evaluation.settings.EvaluationSettings`."""
        given = {"temperature": self.temperature, "first_task": self.first_task}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(kw_only=True)
class Table:
    """A table or ablation of the paper, or of a protocol of our own."""

    title: str
    #: Where the paper's numbers stand, or what declares the table.
    source: str
    rows: list[Row]
    quantity: Quantity = Quantity.success
    #: Algorithm of the rows that name none.
    algorithm: str = "ppo"
    #: Name → weighting, in the order of the table.
    weightings: dict[str, Weighting] = field(default_factory=dict)
    #: Weighting that the others are compared with.
    baseline: str = "uniform"
    #: The one scale that the table is for; empty for any.
    scale: str = ""
    #: Training steps of every run; null for the scale's.
    steps: int | None = None
    #: First training seed and number of seeds; null for the scale's.
    first_seed: int | None = None
    seeds: int | None = None
    #: What is tested between rows.
    contrasts: list[Contrast] = field(default_factory=list)
    #: Number whose probability of improvement over all rows of an algorithm is a declared answer; empty for none.
    pooled: str = ""
    #: Name → evaluation of every run's last checkpoint, made with `--evaluate`.
    evaluations: dict[str, OtherEvaluation] = field(default_factory=dict)
    #: Sentences under the table.
    notes: list[str] = field(default_factory=list)
    #: File name without its ending.
    name: str = ""

    def on(self, scale: Scale) -> Table:
        """Return the table with what it leaves to a scale: the number of seeds, and the model sizes of every row.

        They are what it declares, however few of them a command asks for.

        Raises:
            ExperimentError: the scale has no model for a row, or several for one of which a contrast is declared.
        """
        rows = [replace(row, sizes=scale.sizes(row)) for row in self.rows]
        contrasted = {name for one in self.contrasts for name in (one.larger, one.than)}
        for row in rows:
            if row.name in contrasted and len(row.sizes) > 1:
                raise ExperimentError(
                    f"{self.name}: a contrast is about one model, and row {row.name} has {', '.join(row.sizes)} at "
                    f"this scale; give the row the one that is meant, such as sizes: [{row.sizes[0]}]"
                )
        return replace(self, seeds=self.seeds or scale.seeds, rows=rows)


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
        if row.variant:
            return [row.variant]
        if self.size:
            return [self.size]
        known = self.models.get(row.env, {})
        unknown = sorted(set(row.sizes) - set(known))
        if unknown or not known:
            raise ExperimentError(f"the scale has no models {unknown or 'at all'} for {row.env}; it has {list(known)}")
        return row.sizes or list(known)
