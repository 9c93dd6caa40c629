"""Which advantage estimator a run trains with, as it is written on a command line: `gigpo`, `'gigpo omega=0.5'`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Self

from verl_actfocus.experiments.runs.choice import Choice
from verl_actfocus.experiments.runs.weightings import WeightingChoice

#: The section of a configuration that holds an estimator's settings.
ESTIMATOR_SECTION = "algorithm.actfocus.estimator"
#: Estimator → the algorithm whose profiles it trains with. Named without torch; a test compares with the registry.
PACKAGED = {
    "grpo": "grpo",
    "gigpo": "grpo",
    "optimal_token_baseline": "grpo",
    "tir_optimal_token_baseline": "grpo",
    "gae": "ppo",
    "turn_gae": "ppo",
}
#: What stands before an estimator's name in `algorithm.adv_estimator`.
_PREFIX = "actfocus_"


@dataclass(frozen=True, order=True)
class EstimatorChoice(Choice):
    """The name of an estimator, without `actfocus_`, and those of its settings that differ from its own.

    Example:
        >>> EstimatorChoice.parse("actfocus_gigpo omega=0.50").slug
        'gigpo-omega=0.5'
    """

    what: ClassVar[str] = "an estimator such as gigpo or 'gigpo omega=0.5'"
    labels: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"grpo": "GRPO", "gigpo": "GiGPO", "gae": "GAE", "turn_gae": "turn GAE"}
    )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a choice; its name may have `actfocus_` in front.

        Raises:
            ValueError: as of `Choice.parse`.
        """
        read = super().parse(text)
        return cls(read.name.removeprefix(_PREFIX), read.settings)

    @property
    def verl_name(self) -> str:
        """Value of `algorithm.adv_estimator`."""
        return _PREFIX + self.name

    def assigned(self) -> dict[str, str]:
        """Return the settings of the configuration that choose the estimator's own, by their dotted names."""
        return {f"{ESTIMATOR_SECTION}.{key}": value for key, value in self.settings}


#: Algorithm → its own estimator.
OWN = {"grpo": EstimatorChoice("grpo"), "ppo": EstimatorChoice("gae")}


def method_label(weighting: WeightingChoice, estimator: EstimatorChoice | None) -> str:
    """Return the name for people of a weighting and an estimator; None for one that need not be named.

    Example:
        >>> method_label(WeightingChoice("uniform"), EstimatorChoice("gigpo"))
        'Uniform, GiGPO'
    """
    return weighting.label if estimator is None else f"{weighting.label}, {estimator.label}"


def estimators_of(algorithm: str) -> list[str]:
    """Return the names of the packaged estimators of an algorithm, its own first."""
    return [name for name, of in PACKAGED.items() if of == algorithm]
