"""What weights and advantages can be computed from, by name, and where each comes from: all that a trainer knows of it.

An input that needs a new output of the engine is one function of the logits and one entry of `ENGINE_INPUTS`.
Everything taken from logits is at temperature 1, whatever temperature the rollout samples at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from verl_actfocus.weighting.base import BATCH_FIELDS
from verl_actfocus.weighting.signals import token_energy, token_entropy, token_sum_pi_squared

#: Positions per chunk: bounds the float32 working memory of an input to this many rows of the vocabulary.
CHUNK_SIZE = 1024
LogitFunction = Callable[[Tensor, Tensor], Tensor]
LogProbFunction = Callable[[Tensor, Tensor], Tensor]


class Reader(Protocol):
    """What reads inputs: a weighting, an estimator, or both together."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the inputs."""


class Model(Enum):
    """The forward pass of a training step that an input comes from."""

    REFERENCE = "the frozen reference model"
    OLD_POLICY = "the policy before the update"


def _energy(logits: Tensor, labels: Tensor) -> Tensor:
    return token_energy(logits, CHUNK_SIZE)


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return token_entropy(logits, CHUNK_SIZE)


def _sum_pi_squared(logits: Tensor, labels: Tensor) -> Tensor:
    return token_sum_pi_squared(logits, CHUNK_SIZE)


def _log_prob(logits: Tensor, labels: Tensor) -> Tensor:
    # The label's logit plus the energy.
    return logits.gather(1, labels.unsqueeze(1)).squeeze(1).float() + token_energy(logits, CHUNK_SIZE)


def _energy_of_log_prob(log_probs: Tensor, label_logits: Tensor) -> Tensor:
    return log_probs - label_logits


def _same(log_probs: Tensor, label_logits: Tensor) -> Tensor:
    return log_probs


@dataclass(frozen=True)
class EngineInput:
    """An input that a forward pass delivers."""

    #: Whose forward pass.
    model: Model
    #: `(N, V)` raw logits and `(N,)` tokens that they predict → `(N,)` float32.
    function: LogitFunction
    #: The same out of what the engine computes anyway at temperature 1: `(N,)` log-probabilities of the tokens and
    #: `(N,)` their raw logits; None if that does not tell.
    of_log_prob: LogProbFunction | None = None
    #: Field that holds it when veRL does not run the old policy (`rollout_correction.bypass_mode`), at the rollout's
    #: temperature; None where there is none.
    bypass_field: str | None = None


ENGINE_INPUTS: dict[str, EngineInput] = {
    "ref_energy": EngineInput(Model.REFERENCE, _energy, _energy_of_log_prob),
    "ref_entropy": EngineInput(Model.REFERENCE, _entropy),
    "ref_log_prob": EngineInput(Model.REFERENCE, _log_prob, _same),
    # veRL's own log-probabilities and entropies of this pass are at the rollout's temperature.
    "old_log_prob": EngineInput(Model.OLD_POLICY, _log_prob, _same, bypass_field="old_log_probs"),
    "old_entropy": EngineInput(Model.OLD_POLICY, _entropy),
    "old_energy": EngineInput(Model.OLD_POLICY, _energy, _energy_of_log_prob),
    "old_sum_pi_squared": EngineInput(Model.OLD_POLICY, _sum_pi_squared),
}
"""Inputs out of a forward pass."""


@dataclass(frozen=True)
class RolloutInput:
    """An input that this package's agent loop stores, on the last token of every turn; 0 elsewhere."""

    #: Field that holds it.
    field: str
    dtype: torch.dtype


ROLLOUT_INPUTS = {
    # Reward of the turn.
    "turn_rewards": RolloutInput("actfocus_turn_rewards", torch.float32),
    # Which state of the environment the turn began in (`verl_actfocus.episodes.states`); stored where it is asked for.
    "anchor_states": RolloutInput("actfocus_anchor_states", torch.int64),
}
"""Inputs out of the rollout."""

VERL_INPUTS = {"values": "values", "rollout_is_weights": "rollout_is_weights"}
"""What veRL's steps before the advantages have left, and the field: the critic's value before each token, importance
weights of rollout correction. Estimators alone may read them, and get those that the run has."""


def engine_inputs(reader: Reader, *models: Model) -> list[str]:
    """Return the inputs that these models' forward passes deliver, by default those of any."""
    known = (name for name in dict.fromkeys(reader.needs) if name in ENGINE_INPUTS)
    return [name for name in known if ENGINE_INPUTS[name].model in (models or Model)]


def rollout_inputs(reader: Reader) -> list[str]:
    """Return the inputs that the rollout stores."""
    return [name for name in dict.fromkeys(reader.needs) if name in ROLLOUT_INPUTS]


def unknown_inputs(names: Iterable[str], *, of_verl: Iterable[str] = ()) -> list[str]:
    """Return the names that are no input.

    Args:
        names: what is asked for.
        of_verl: names of `VERL_INPUTS` that may be read beside the others.
    """
    return sorted(set(names) - {*BATCH_FIELDS, *ENGINE_INPUTS, *ROLLOUT_INPUTS, *of_verl})
