"""Values that the YAML files of this package look up: the tiny models, what they were made for, whether a run is alone.

Free of veRL, so that a configuration can be composed and checked without importing it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_actfocus import envs, models


def register() -> None:
    """Register `${actfocus.model:…}`, `…options:…`, `…option:…`, `…limit:…` and `…alone:…`; may be repeated."""
    for resolver in (model, options, option, limit, alone):
        OmegaConf.register_new_resolver(f"actfocus.{resolver.__name__}", resolver, replace=True)


def model(*names: str) -> str:
    """Return the folder of the first of these tiny models that ships with the package.

    Raises:
        ValueError: None of them ships; the message lists those that do.

    Example:
        >>> model("chess", "frozenlake").endswith("frozenlake")
        True
    """
    shipped = models.available()
    # The last name is looked up in any case, so that its error is raised.
    return str(models.folder(next((name for name in names if name in shipped), names[-1])))


def options(environment: str) -> DictConfig:
    """Return the arguments of the environment's class in its miniature; none without a miniature.

    Example:
        >>> options("frozenlake")
        {'success_rate': 1.0}
    """
    found = envs.miniature(environment).options if environment in envs.having("miniature") else {}
    # As a configuration: OmegaConf.resolve, which veRL calls, does not take a plain dictionary.
    return OmegaConf.create(dict(found))


def option(environment: str, name: str) -> Any:
    """Return one argument of the environment's class in its miniature.

    Example:
        >>> option("sokoban", "search_depth")
        6
    """
    return envs.miniature(environment).options[name]


def limit(environment: str, budget: str) -> int | None:
    """Return a budget of the environment's miniature; the environment's own without one.

    Example:
        >>> limit("frozenlake", "actions_per_turn")
        2
    """
    described = envs.miniature(environment) if environment in envs.having("miniature") else envs.spec(environment)
    return asdict(described.limits)[budget]


def alone(nodes: int, value: Any) -> Any:
    """Return a value of a run that has one node; None for a run on several, whose Ray others have started.

    Example:
        >>> alone(1, 16), alone(2, 16)
        (16, None)
    """
    if nodes != 1:
        return None
    return OmegaConf.create(value) if isinstance(value, dict) else value
