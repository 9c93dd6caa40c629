"""A run with its complete configuration: whether it is what it says it is, and what it is called in `run.json`.

What can be refused without starting veRL is refused here, and whether a folder was made with the same settings follows
from what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from verl_actfocus.config.engines import FLASH_ATTENTION
from verl_actfocus.experiments.runs.checks import check_models, check_values
from verl_actfocus.experiments.runs.composition import check_references, compose, configuration, first_sentence, subject
from verl_actfocus.experiments.runs.estimators import OWN, EstimatorChoice
from verl_actfocus.experiments.runs.hydra_words import key_of
from verl_actfocus.experiments.runs.own_code import own_code
from verl_actfocus.experiments.runs.run import ESTIMATORS, PROPOSED_KEYS, Conditions, Run
from verl_actfocus.experiments.runs.step import Step
from verl_actfocus.experiments.runs.weightings import ACTFOCUS, SECTION, WeightingChoice
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.settings import flatten, within


@dataclass(frozen=True, eq=False)
class ComposedRun:
    """A run with everything that follows from its configuration."""

    run: Run
    #: Dotted name → value, as veRL would train with it, without what only says where the run is written.
    #: References to other settings are left as they are; what this package looks up is looked up.
    settings: dict[str, Any]
    #: What a training step consists of.
    step: Step

    @property
    def steps(self) -> int:
        """Training steps."""
        return self.settings["trainer.total_training_steps"]

    @property
    def nodes(self) -> int:
        """Machines that it runs on."""
        return self.settings["trainer.nnodes"]

    @property
    def attention(self) -> str:
        """Attention of the policy; the critic's follows it unless that is said."""
        return self.settings.get("actor_rollout_ref.model.override_config.attn_implementation") or FLASH_ATTENTION

    def identity(self) -> dict[str, Any]:
        """Return what the run is, as plain values for `run.json`; the folder is not part of it."""
        given, estimator = self.run.conditions, self.run.estimator
        other = {} if estimator == OWN[given.algorithm] else {"estimator": str(estimator)}
        elsewhere = {"device": given.device} if given.device not in ("", "cpu") else {}
        return {
            "profile": given.profile,
            "trial": given.trial,
            # Absent for a CPU, and for recipes.
            **elsewhere,
            "algorithm": given.algorithm,
            "env": self.settings["data.environment.name"],
            "steps": self.steps,
            "weighting": str(self.run.weighting),
            # Absent for the algorithm's own.
            **other,
            "seed": self.run.seed,
            "extra": list(given.extra),
        }


def compose_run(run: Run, *, starts: bool = True) -> ComposedRun:
    """Compose a run's configuration and check what can be checked without starting it.

    Args:
        run: the run.
        starts: whether it may be started, so that its models must be there.

    Raises:
        ExperimentError: Hydra refuses an override, a value is out of range, sizes do not fit, the run would not be what
            it says it is, or it would have no evaluation.
    """
    try:
        config = configuration(run)
        settings = flatten(OmegaConf.to_container(config, resolve=False))
        _require_profile(run.conditions)
        _require_untouched(run, settings)
        _require_evaluations(settings)
        check_values(config, settings, _usual(run) if run.conditions.extra else settings)
        if starts:
            check_models(config)
        _require_own_algorithm(run, config)
        check_references(*run.common_overrides()[0])
        step = Step.of(config)
    except OmegaConfBaseException as error:
        raise ExperimentError(f"{run.title}: {first_sentence(error)}") from error
    except (ExperimentError, ValueError) as error:
        raise ExperimentError(f"{run.title}: {error}") from error
    elsewhere = {*run.places(), *PROPOSED_KEYS}
    kept = {key: value for key, value in _looked_up(config, settings).items() if key not in elsewhere}
    kept |= own_code(config)
    return ComposedRun(run, kept, step)


def _looked_up(config: DictConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """Put values in the place of `${actfocus.…}`; packaged files are named independently of the installation."""
    package = str(files("verl_actfocus"))
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if "${actfocus." not in str(value):
            values[key] = value
            continue
        found = OmegaConf.select(config, key)
        plain = OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
        values |= flatten(plain.replace(package, "verl_actfocus") if isinstance(plain, str) else plain, key)
    return values


def _usual(run: Run) -> dict[str, Any]:
    """The settings of a run without the user's own overrides."""
    plain = replace(run, conditions=replace(run.conditions, extra=()))
    return flatten(OmegaConf.to_container(configuration(plain), resolve=False))


@cache
def _weighting_settings(choice: WeightingChoice) -> dict[str, Any]:
    return within(flatten(OmegaConf.to_container(compose(*choice.overrides()), resolve=False)), SECTION)


@cache
def _estimator_settings(choice: EstimatorChoice) -> dict[str, Any]:
    """Return the settings of an estimator as Hydra reads them, by their dotted names."""
    added = [f"++{key}={value}" for key, value in choice.assigned().items()]
    settings = flatten(OmegaConf.to_container(compose(*ACTFOCUS.overrides(), *added), resolve=False))
    return {key: settings[key] for key in choice.assigned()}


def _require_profile(conditions: Conditions) -> None:
    env, algorithm = subject(conditions.profile)
    if conditions.env not in ("", env):
        raise ExperimentError(
            f"the profile {conditions.profile} trains {env}, not {conditions.env}; "
            f"choose a profile of {conditions.env}, or ask for {env}"
        )
    if algorithm not in (None, conditions.algorithm):
        raise ExperimentError(
            f"the profile {conditions.profile} is for {algorithm}, not for {conditions.algorithm}; "
            f"choose a profile for {conditions.algorithm}, or ask for {algorithm}"
        )


def _require_untouched(run: Run, settings: dict[str, Any]) -> None:
    """Refuse overrides that change what a run says it is: by a whole section at once, or by another group."""
    claims = run.assigned()
    # Hydra's own, which is no part of the configuration.
    del claims["hydra.run.dir"]
    claims |= {f"{SECTION}.{key}": value for key, value in _weighting_settings(run.weights).items()}
    claims |= _estimator_settings(run.estimator)
    if run.conditions.env:
        claims["data.environment.name"] = run.conditions.env
    for key, value in claims.items():
        # As text: what is no number at all differs even from itself.
        if str(settings.get(key)) != str(value):
            sections = {text: key_of(text) for text in run.conditions.extra}
            named = [text for text, section in sections.items() if key == section or key.startswith(f"{section}.")]
            source = " ".join(named or run.conditions.extra) or run.conditions.profile
            raise ExperimentError(
                f"{source} would change {key} from {value!r} to {settings.get(key)!r}, which the run sets itself; "
                "leave that out"
            )
    loggers = settings["trainer.logger"]
    if not isinstance(loggers, list) or "file" not in loggers:
        raise ExperimentError(f"trainer.logger={loggers!r} lacks file, from which a run is watched; add it to the list")


def _require_own_algorithm(run: Run, config: DictConfig) -> None:
    """Refuse an estimator of a user's module that trains with a critic under grpo, or without one under ppo."""
    from verl_actfocus.config.settings import ActFocusSettings  # torch

    base, algorithm = ActFocusSettings.from_config(config).estimator.base, run.conditions.algorithm
    if f"actfocus_{base}" != ESTIMATORS[algorithm]:
        raise ExperimentError(
            f"the estimator {run.estimator.name} starts from veRL's {base}, which is not what --algorithm {algorithm} "
            "trains with; choose the other algorithm"
        )


def _require_evaluations(settings: dict[str, Any]) -> None:
    every, first = settings.get("trainer.test_freq"), settings.get("trainer.val_before_train")
    if not isinstance(every, int) or every < 1 or not first:
        raise ExperimentError(
            f"trainer.test_freq={every!r} trainer.val_before_train={first!r}: a run needs evaluations, before "
            "training and at its end; leave both out or set test_freq to a whole number of at least 1"
        )
