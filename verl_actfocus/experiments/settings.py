"""The complete configuration behind a run's command line, composed by Hydra without starting veRL.

It shows a mistyped override in a second instead of after veRL's start, and tells whether a folder was made with the
same settings.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.requirements import require_verl
from verl_actfocus.experiments.runs import BASELINE, ESTIMATORS, METHOD_KEYS, Run, packaged_groups, require_profile


def compose_settings(run: Run) -> dict[str, Any]:
    """Compose the configuration that veRL would train with.

    Args:
        run: the run.

    Returns:
        Dotted name → value, without the settings that only say where the run is written. Interpolations are left
        as they are.

    Raises:
        ExperimentError: veRL is not installed in the right version, Hydra refuses an override, the run would not be
            what it says it is, or it would have no evaluation.
    """
    return dict(_compose_run(run))


@cache
def _compose_run(run: Run) -> dict[str, Any]:
    try:
        settings = _compose(run.overrides())
    except (HydraException, OmegaConfBaseException) as error:
        raise ExperimentError(f"the overrides of {run.name} are not valid: {_first_sentence(error)}") from error
    _require_profile_of_run(run)
    _require_untouched(run, settings)
    for key in run.folder_keys():
        settings.pop(key, None)
    _require_evaluations(settings)
    return settings


@cache
def compose_group(profile: str) -> dict[str, Any]:
    """Compose the configuration of a run profile by itself.

    Args:
        profile: a group under ``+actfocus/run`` or ``+actfocus/recipe``.

    Returns:
        Dotted name → value; interpolations are left as they are.
    """
    folder = "run" if profile in packaged_groups("run") else "recipe"
    return _compose(["+actfocus=default", f"+actfocus/{folder}={profile}"])


def subject(profile: str) -> tuple[str, str | None]:
    """Return the environment that a run profile trains, and the algorithm: None if the profile leaves that open.

    Raises:
        ValueError: there is no such profile.

    Example:
        >>> subject("sokoban_ppo"), subject("cpu_sokoban")
        (('sokoban', 'ppo'), ('sokoban', None))
    """
    require_profile(profile)
    settings = compose_group(profile)
    algorithms = {estimator: algorithm for algorithm, estimator in ESTIMATORS.items()}
    return settings["data.environment.name"], algorithms.get(settings["algorithm.adv_estimator"])


@cache
def _baseline_weights() -> dict[str, Any]:
    settings = _compose([f"+actfocus={BASELINE}"])
    return {key: settings[key] for key in METHOD_KEYS}


def _compose(overrides: list[str]) -> dict[str, Any]:
    with initialize_config_dir(str(_verl_config_folder()), version_base=None):
        config = compose("ppo_trainer", overrides=["hydra.searchpath=[pkg://verl_actfocus.config]", *overrides])
    return flatten(OmegaConf.to_container(config, resolve=False))


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested dictionaries into one with dotted names.

    Example:
        >>> flatten({"a": {"b": 1}, "c": [2]})
        {'a.b': 1, 'c': [2]}
    """
    if not isinstance(value, dict) or (not value and prefix):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, part in value.items():
        flat.update(flatten(part, f"{prefix}.{name}" if prefix else str(name)))
    return flat


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Describe in words where two configurations differ, sorted by name.

    Example:
        >>> differences({"a": 1, "b": 2}, {"a": 1, "b": 3})
        ['b was 2, is 3']
    """
    missing = "absent"
    names = sorted({*before, *after})
    return [
        f"{name} was {before.get(name, missing)!r}, is {after.get(name, missing)!r}"
        for name in names
        if before.get(name, missing) != after.get(name, missing)
    ]


def in_words(changes: list[str], most: int = 5) -> str:
    """Join differences, the first few by name and the rest by number."""
    rest = [f"and {len(changes) - most} more"] if len(changes) > most else []
    return "; ".join([*changes[:most], *rest])


def _verl_config_folder() -> Path:
    require_verl()
    spec = find_spec("verl")
    if spec is None or spec.origin is None:
        raise ExperimentError("the distribution verl is installed but its package cannot be found; reinstall it")
    return Path(spec.origin).parent / "trainer" / "config"


def _require_profile_of_run(run: Run) -> None:
    env, algorithm = subject(run.profile)
    if env != run.env:
        raise ExperimentError(
            f"the run profile {run.profile} trains {env}, not {run.env}; "
            f"choose a profile of {run.env}, or ask for {env}"
        )
    if algorithm not in (None, run.algorithm):
        raise ExperimentError(
            f"the run profile {run.profile} is for {algorithm}, not for {run.algorithm}; "
            f"choose a profile for {run.algorithm}, or ask for {algorithm}"
        )


def _require_untouched(run: Run, settings: dict[str, Any]) -> None:
    """Refuse overrides that change what a run says it is: by a whole section at once, or by another group."""
    claims = {**run.assigned(), "data.environment.name": run.env}
    # Hydra's own, which is no part of the configuration.
    del claims["hydra.run.dir"]
    if run.method == BASELINE:
        claims |= _baseline_weights()
    for key, value in claims.items():
        if settings.get(key) != value:
            sections = {text: text.partition("=")[0].lstrip("+~") for text in run.extra}
            named = [text for text, section in sections.items() if _is_within(key, section)]
            raise ExperimentError(
                f"{' '.join(named or run.extra) or run.profile} would change {key} from {value!r} to "
                f"{settings.get(key)!r}, but {run.name} on {run.env} sets it itself; leave that out"
            )


def _is_within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _require_evaluations(settings: dict[str, Any]) -> None:
    every, first = settings.get("trainer.test_freq"), settings.get("trainer.val_before_train")
    if not isinstance(every, int) or every < 1 or not first:
        raise ExperimentError(
            f"trainer.test_freq={every!r} trainer.val_before_train={first!r}: a comparison needs evaluations, before "
            "training and at its end; leave both out or set test_freq to a whole number of at least 1"
        )


def _first_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:2])
