"""What a weighting is: a class with settings that turns a training batch into one weight per token.

A scheme is one file: a frozen dataclass below `Weighting` whose fields are its settings, and
`@register_weighting` above it. A configuration chooses it by name, in `algorithm.actfocus.weighting`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from verl_actfocus.weighting._checks import as_bool_mask, check_batch, check_same_shape, first_position
from verl_actfocus.weighting.settings import Settings, register, settings_from

SECTION = "algorithm.actfocus.weighting"
"""Where a weighting's name and settings stand in a configuration."""
BATCH_FIELDS = ("spans", "turns", "advantages")
"""What every batch has; a scheme may name them among its needs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenBatch:
    """What a weighting may read of a training batch. All tensors have shape (B, T), over response tokens.

    Raises:
        ValueError: If shapes differ, or the response mask holds something else than 0 and 1.
    """

    spans: Tensor
    """`verl_actfocus.weighting.Span` of every token, integer."""
    response_mask: Tensor
    """Tokens that the model wrote; the rest is padding, or what the environment said. Bool once constructed."""
    turns: Tensor
    """Index of the model's turn that a token belongs to, from 0, integer; -1 outside the model's turns."""
    advantages: Tensor
    """Advantages of the algorithm, floating point; 0 on tokens that rollout correction keeps out of the loss."""
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """Further tensors by name: those that the scheme `needs`."""

    def __post_init__(self) -> None:
        """Check shapes."""
        check_batch("spans", self.spans)
        others = {"response_mask": self.response_mask, "turns": self.turns, "advantages": self.advantages}
        check_same_shape("spans", self.spans, {**others, **self.inputs})
        object.__setattr__(self, "response_mask", as_bool_mask("response_mask", self.response_mask))

    def input(self, name: str) -> Tensor:
        """Return an input by name.

        Raises:
            ValueError: If the batch does not hold it.
        """
        if name not in self.inputs:
            raise ValueError(
                f"the batch has no input {name!r}, only {sorted(self.inputs)}; a weighting gets what its `needs` name"
            )
        return self.inputs[name]

    def sum_over_turns(self, values: Tensor) -> Tensor:
        """Give every token the sum over its turn.

        Args:
            values: Shape (B, T), floating point.

        Returns:
            Shape (B, T): on each token of a turn the sum of the turn's values, 0 outside the turns.

        Example:
            >>> mask = torch.tensor([[1, 1, 0, 1]])
            >>> batch = TokenBatch(spans=mask, response_mask=mask, turns=turn_indices(mask), advantages=mask.float())
            >>> batch.sum_over_turns(torch.ones(1, 4))
            tensor([[2., 2., 0., 1.]])
        """
        inside = self.turns >= 0
        turns = self.turns.clamp(min=0)
        sums = torch.zeros_like(values).scatter_add_(1, turns, torch.where(inside, values, 0))
        return torch.where(inside, sums.gather(1, turns), 0)


def turn_indices(model_mask: Tensor) -> Tensor:
    """Number the model's turns of every trajectory: each unbroken run of its tokens is one.

    Args:
        model_mask: 1 on tokens that the model wrote, 0 on the environment's and on padding, shape (B, T).

    Returns:
        Index of each token's turn, shape (B, T), int64; -1 outside the turns.

    Example:
        >>> turn_indices(torch.tensor([[1, 1, 0, 1]]))
        tensor([[ 0,  0, -1,  1]])
    """
    inside = model_mask.bool()
    begins = inside.clone()
    begins[:, 1:] &= ~inside[:, :-1]
    return torch.where(inside, begins.long().cumsum(dim=1) - 1, -1)


@dataclass(frozen=True, kw_only=True)
class Weighting(Settings, ABC):
    """A scheme of token weights. Its settings are the fields of the subclass, a frozen keyword-only dataclass.

    The weights multiply the loss of every token, and the loss is divided by their sum (He et al. 2026, Eq. 6).

    Raises:
        ValueError: If a setting has the wrong type or is out of range; the message names it.
    """

    section: ClassVar[str] = SECTION
    name: ClassVar[str]
    """What a configuration calls the scheme."""
    reads_rows: ClassVar[bool] = True
    """Whether the weight of a token depends on which others are of its trajectory or turn. Without that a trainer may
    give the trajectories one behind another, as a batch of one row without padding."""

    @property
    def needs(self) -> tuple[str, ...]:
        """What the weights are computed from, by name.

        Of what every batch has: `turns`, `advantages`, and `spans`, which also says that a batch without any
        action token is a mistake. Everything else becomes part of `TokenBatch.inputs` because it is named here
        (`verl_actfocus.weighting.inputs` lists what there is).
        """
        return ()

    @abstractmethod
    def weights(self, batch: TokenBatch) -> Tensor:
        """Return the weight of every token: finite, at least 0, shape (B, T), float32, 0 outside the response mask."""

    def token_signal(self, batch: TokenBatch) -> Tensor | None:
        """Return what the weights follow, shape (B, T), for the trajectory log; None if that is nothing per token."""
        return None

    def metrics(self, batch: TokenBatch, weights: Tensor) -> dict[str, float]:
        """Return metrics of the scheme's own, logged as `actfocus/<name>`."""
        return {}


_W = TypeVar("_W", bound=type[Weighting])

WEIGHTINGS: dict[str, type[Weighting]] = {}
"""The weightings by the name that a configuration gives them."""


def register_weighting(cls: _W) -> _W:
    """Make a weighting known to configurations under its name (class decorator).

    Outside this package, name the module in `VERL_USE_EXTERNAL_MODULES` so that every process of a run imports it.

    Raises:
        ValueError: If another class has the name, or something is wrong with the class (`settings.register`).
    """
    register(WEIGHTINGS, cls, "weighting")
    return cls


def weighting_from(section: Any) -> Weighting:
    """Build the weighting that `algorithm.actfocus.weighting` describes.

    Args:
        section: `name` and the settings of that scheme, interpolations resolved.

    Raises:
        ValueError: If the section is missing or no mapping, the name or a setting is unknown, or a value has the
            wrong type or is out of range. The message names the setting, the value and the remedy.

    Example:
        >>> weighting_from({"name": "entropy_top", "share": 0.1})
        EntropyTop(share=0.1)
    """
    if not isinstance(section, Mapping) or "name" not in section:
        raise ValueError(f"{SECTION}={section!r} must be a section with the name of a weighting: {sorted(WEIGHTINGS)}")
    settings = dict(section)
    name = settings.pop("name")
    if not isinstance(name, str) or name not in WEIGHTINGS:
        raise ValueError(
            f"{SECTION}.name={name!r} is not a weighting; choose one of {sorted(WEIGHTINGS)}, or name the module that "
            "registers it: by --module of actfocus, or in VERL_USE_EXTERNAL_MODULES before veRL's command (on a "
            "cluster that runs already also among ray_kwargs.ray_init.runtime_env.env_vars)"
        )
    return settings_from(WEIGHTINGS[name], SECTION, settings)


@torch.no_grad()
def compute_weights(weighting: Weighting, batch: TokenBatch) -> Tensor:
    """Return a weighting's weights after checking that they are what the loss can take.

    Raises:
        ValueError: If the shape or dtype is wrong, a weight is negative or not finite, or a token outside the
            response mask has weight; the message names the weighting and the place.
    """
    weights = weighting.weights(batch)
    if weights.shape != batch.spans.shape or weights.dtype != torch.float32:
        raise ValueError(
            f"the weighting {weighting.name!r} must return float32 weights of shape {tuple(batch.spans.shape)}, got "
            f"{weights.dtype}, {tuple(weights.shape)}"
        )
    place = first_position(~(torch.isfinite(weights) & (weights >= 0)) | (weights.ne(0) & ~batch.response_mask))
    if place is not None:
        raise ValueError(
            f"the weighting {weighting.name!r} must return finite weights of at least 0, and 0 outside the response "
            f"mask; not so at {place}"
        )
    return weights
