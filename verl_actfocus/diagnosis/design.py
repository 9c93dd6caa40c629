"""How many draws of each kind a diagnosis of decisions makes, and who plays on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Who plays the turns after the decision.
Future = Literal["model", "greedy", "expert"]


@dataclass(frozen=True)
class Design:
    """How many draws of each kind.

    Raises:
        ValueError: too few draws for a variance.
    """

    #: Reasonings of a state (M).
    reasonings: int = 5
    #: Actions of a reasoning (K).
    actions: int = 5
    #: Futures of an action (F).
    futures: int = 2
    #: Who plays the turns after the decision: the model at the temperature of the sampling, the model's most likely
    #: tokens, or the environment's expert.
    future: Future = "model"

    def __post_init__(self) -> None:
        for name in ("reasonings", "actions"):
            if (value := getattr(self, name)) < 2:
                raise ValueError(f"{value} {name}: a variance needs at least 2 of each")
        if self.futures < 1:
            raise ValueError(f"{self.futures} futures: every action needs at least 1")

    @property
    def episodes(self) -> int:
        """Episodes that are played from a state on."""
        return self.reasonings * self.actions * self.futures
