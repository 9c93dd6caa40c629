"""What an advantage estimator is: a class with settings that turns the rewards of a training batch into advantages.

An estimator is one file: a frozen dataclass below `Estimator` whose fields are its settings, and
`@register_estimator` above it. A configuration chooses it by name, `algorithm.adv_estimator=actfocus_<name>`; its
settings stand in `algorithm.actfocus.estimator`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from torch import Tensor

from verl_actfocus.weighting.settings import Settings, register, settings_from

#: Where an estimator's settings stand in a configuration.
SECTION = "algorithm.actfocus.estimator"
#: What stands before an estimator's name in `algorithm.adv_estimator`.
PREFIX = "actfocus_"
#: A column of a batch: for each row its tokens' values, `(T,)`.
Rows = Sequence[Tensor]


class Place(NamedTuple):
    """Whose output a row is: sessions of one group answer the same prompt."""

    group: str
    session: str
    #: Number of the output; an agent loop may split an episode into several.
    output: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What an estimator returns, for each row `(T,)` float32."""

    advantages: list[Tensor]
    #: What a critic learns; veRL's estimators without a critic repeat the advantages.
    returns: list[Tensor]
    #: Metrics of the estimator's own, logged as `actfocus/<name>`.
    metrics: Mapping[str, float] = field(default_factory=dict)


class StockEstimator(Protocol):
    """Computes what veRL's estimator of that name does, from the batch's rewards, mask and groups."""

    def __call__(self, name: str, *, inputs: Mapping[str, Rows], **settings: Any) -> Estimate:
        """Pass the columns and settings on under veRL's own names for them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrajectoryBatch:
    """What an estimator may read of a training batch; all columns have the same rows."""

    places: Sequence[Place]
    #: Reward of each token, floating point, the KL penalty included where it is a part of the reward.
    rewards: Rows
    #: 1 on tokens that the model wrote.
    model_mask: Rows
    #: 1 on those of them that are in the loss: rollout correction may reject some.
    response_mask: Rows
    #: Advantages of veRL's estimator that this one starts from, float32.
    advantages: Rows
    #: Further columns by name: those that the estimator `needs`, as far as the run has them.
    inputs: Mapping[str, Rows] = field(default_factory=dict)
    #: veRL's `algorithm.gamma` and `algorithm.lam`.
    gamma: float = 1.0
    lam: float = 1.0
    #: veRL's `algorithm.norm_adv_by_std_in_grpo`.
    divide_by_std: bool = True
    stock: StockEstimator | None = None

    def input(self, name: str) -> Rows:
        """Return an input by name.

        Raises:
            ValueError: the batch does not hold it.
        """
        if name not in self.inputs:
            raise ValueError(
                f"the batch has no input {name!r}, only {sorted(self.inputs)}; an estimator gets what its `needs` name"
            )
        return self.inputs[name]


@dataclass(frozen=True, kw_only=True)
class Estimator(Settings, ABC):
    """An advantage estimator. Its settings are the fields of the subclass, a frozen keyword-only dataclass.

    Raises:
        ValueError: a setting has the wrong type or is out of range; the message names it.
    """

    section: ClassVar[str] = SECTION
    #: What it is called; `PREFIX` before it makes the value of `algorithm.adv_estimator`.
    name: ClassVar[str]
    #: veRL's estimator that runs before: `grpo`, or `gae`, which brings a critic. With it come veRL's KL penalty and
    #: rollout correction.
    base: ClassVar[str]

    @property
    def verl_name(self) -> str:
        """Value of `algorithm.adv_estimator`."""
        return PREFIX + self.name

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the inputs that it reads (`verl_actfocus.weighting.inputs` lists what there is)."""
        return ()

    @abstractmethod
    def estimate(self, batch: TrajectoryBatch) -> Estimate | None:
        """Return the advantages; None where those that veRL has computed stand."""


_E = TypeVar("_E", bound=type[Estimator])

#: The estimators by name.
ESTIMATORS: dict[str, type[Estimator]] = {}


def register_estimator(cls: _E) -> _E:
    """Make an estimator known to configurations under its name (class decorator).

    Outside this package, name the module in `VERL_USE_EXTERNAL_MODULES` so that every process of a run imports it.

    Raises:
        ValueError: another class has the name, veRL's estimator that it starts from is neither of the two, or something
            is wrong with the class (`verl_actfocus.weighting.settings.register`).
    """
    base = getattr(cls, "base", None)
    if base not in ("grpo", "gae"):
        raise ValueError(f"{cls.__qualname__}.base={base!r}: an estimator starts from veRL's 'grpo' or 'gae'")
    register(ESTIMATORS, cls, "estimator")
    return cls


def estimator_from(verl_name: str, section: Any = None) -> Estimator:
    """Build the estimator that `algorithm.adv_estimator` names.

    Args:
        verl_name: that value, `actfocus_` included.
        section: `algorithm.actfocus.estimator`, its settings; None for its defaults.

    Raises:
        ValueError: the name or a setting is unknown, or a value has the wrong type or is out of range. The message
            names the setting, the value and the remedy.

    Example:
        >>> estimator_from("actfocus_gigpo", {"omega": 0.5})
        GiGPO(omega=0.5, gamma=0.95)
    """
    cls = ESTIMATORS.get(str(verl_name).removeprefix(PREFIX)) if str(verl_name).startswith(PREFIX) else None
    if cls is None:
        raise ValueError(
            f"algorithm.adv_estimator={verl_name} does not go with +actfocus: use one of "
            f"{sorted(PREFIX + name for name in ESTIMATORS)} (+actfocus=uniform is the baseline)"
        )
    return settings_from(cls, SECTION, section)


def computed_estimate(estimator: Estimator, batch: TrajectoryBatch) -> Estimate | None:
    """Return an estimator's estimate after checking that it is what a training step can take.

    Raises:
        ValueError: it is no `Estimate`, or its rows are not those of the batch, or hold something else than finite
            floating-point numbers; the message names the estimator and the place.
    """
    found = estimator.estimate(batch)
    if found is None:
        return None
    who = f"the estimator {estimator.name!r} must return"
    if not isinstance(found, Estimate):
        raise ValueError(f"{who} an Estimate or None, got {type(found).__name__}")
    lengths = [len(row) for row in batch.rewards]
    for name in ("advantages", "returns"):
        rows = getattr(found, name)
        if not isinstance(rows, list) or len(rows) != len(lengths):
            what = f"{len(rows)} rows" if isinstance(rows, list) else type(rows).__name__
            raise ValueError(f"{who} {name} as a list of {len(lengths)} rows without padding, got {what}")
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            if not isinstance(row, Tensor) or row.shape != (length,) or not row.is_floating_point():
                got = f"{row.dtype}, {tuple(row.shape)}" if isinstance(row, Tensor) else type(row).__name__
                raise ValueError(f"{who} floating-point {name} of shape ({length},) for row {place}, got {got}")
            if not row.isfinite().all():
                raise ValueError(f"{who} finite {name}; row {place} has {row[~row.isfinite()][0].item()}")
    return Estimate(
        advantages=[row.float() for row in found.advantages],
        returns=[row.float() for row in found.returns],
        metrics=found.metrics,
    )
