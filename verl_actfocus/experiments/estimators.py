"""Which advantage estimator a run trains with, as it is written on a command line: `gigpo`, `'gigpo omega=0.5'`."""

from __future__ import annotations

from dataclasses import dataclass

from verl_actfocus.experiments.weightings import WeightingChoice, parsed_choice, slug

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
#: Estimator → how people write it; others are written as they are.
_LABELS = {"grpo": "GRPO", "gigpo": "GiGPO", "gae": "GAE", "turn_gae": "turn GAE"}


@dataclass(frozen=True, order=True)
class EstimatorChoice:
    """The name of an estimator and those of its settings that differ from its own.

    Args:
        name: a packaged estimator or one that a user's module registers, without `actfocus_`.
        settings: (setting, value as Hydra reads it), ascending; see `parse`.

    Example:
        >>> EstimatorChoice.parse("gigpo omega=0.50").slug
        'gigpo-omega=0.5'
    """

    name: str
    settings: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> EstimatorChoice:
        """Read a name, with or without `actfocus_`, followed by settings as `<setting>=<value>`.

        Raises:
            ValueError: the text is of another form, or a setting is named twice.
        """
        name, settings = parsed_choice(text, "an estimator such as gigpo or 'gigpo omega=0.5'")
        return cls(name.removeprefix(_PREFIX), settings)

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.settings)])

    @property
    def label(self) -> str:
        """Name for people, such as `GiGPO omega=0.5`."""
        return str(EstimatorChoice(_LABELS.get(self.name, self.name), self.settings))

    @property
    def slug(self) -> str:
        """Name as a part of a file's name, see `verl_actfocus.experiments.weightings.slug`."""
        return slug(str(self))

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
