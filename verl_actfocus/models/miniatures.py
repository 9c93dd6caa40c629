"""What the tiny models were made for: a miniature of one environment each, small enough for a million parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from verl_actfocus.envs import EpisodeLimits, TextEnv, make


@dataclass(frozen=True, kw_only=True)
class Miniature:
    """A task of an environment.

    Attributes:
        name: Name of the task, of its model's folder and in commands.
        environment: Name in the environment registry.
        limits: Budgets of an episode.
        env_options: Keyword arguments of the environment.
        evaluation_options: Keyword arguments that differ in evaluation, where other seeds alone do not keep the tasks
            apart.
    """

    name: str
    environment: str
    limits: EpisodeLimits
    env_options: Mapping[str, Any] = field(default_factory=dict)
    evaluation_options: Mapping[str, Any] = field(default_factory=dict)

    def make_env(self) -> TextEnv:
        """Construct the task's environment."""
        return make(self.environment, **self.env_options)

    @property
    def options_in_evaluation(self) -> dict[str, Any]:
        """Keyword arguments of the environment that a model is measured in."""
        return {**self.env_options, **self.evaluation_options}


MINIATURES: dict[str, Miniature] = {
    miniature.name: miniature
    for miniature in (
        Miniature(
            name="frozenlake",
            environment="frozenlake",
            env_options={"success_rate": 1.0},
            limits=EpisodeLimits(turns=3, actions_per_turn=2, actions=6, words=40, response_tokens=64),
        ),
        Miniature(
            name="sokoban",
            environment="sokoban",
            env_options={"search_depth": 6},
            limits=EpisodeLimits(turns=3, actions_per_turn=2, actions=6, words=40, response_tokens=64),
        ),
        Miniature(
            name="sudoku",
            environment="sudoku",
            env_options={"empty_cells": 3},
            limits=EpisodeLimits(turns=4, actions_per_turn=1, actions=4, words=40, response_tokens=64),
        ),
        Miniature(
            name="webshop",
            environment="webshop",
            env_options={"split": "train", "hits_per_page": 4},
            evaluation_options={"split": "validation"},
            limits=EpisodeLimits(turns=5, actions_per_turn=1, actions=5, words=40, response_tokens=64),
        ),
    )
}


def miniature(name: str) -> Miniature:
    """Look a miniature up by name.

    Raises:
        ValueError: If there is none of that name; the message lists the names.
    """
    if name not in MINIATURES:
        raise ValueError(f"unknown miniature task {name!r}; there are {', '.join(sorted(MINIATURES))}")
    return MINIATURES[name]
