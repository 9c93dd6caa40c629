"""What the gradients of independent groups of episodes say: signal, noise, and what a step gains.

The gradient of `tools.evidence.gradient_variance` is taken group by group. Groups are independent, so that the variance
of a gradient that is averaged over `n` groups is the trace of the groups' covariance over `n`.

A gradient with much signal may point elsewhere than the objective's. So the last column is what a step of a fixed
length along the mean of `n` groups (`--step`) adds to Uniform's objective to first order, against Uniform's own step:
`(μ·u / √E|ḡ|²) / (|u|² / √E|ḡ_U|²)`, with `μ` and `u` the expected gradients of a method and of Uniform, `ḡ` the mean
of `n` groups. AdamW's step is of fixed length in every parameter rather than in all together, so that this is a
direction and no forecast.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

UNIFORM = "uniform"
STEP = 4
"""Groups of an optimizer step in the miniatures: a quarter of 16."""


@dataclass(frozen=True)
class Estimate:
    """What the gradients of independent groups say about their mean and their scatter."""

    variance: float
    """Trace of the covariance of one group's gradient, unbiased."""
    signal: float
    """Squared length of the expected gradient, unbiased, and so maybe below zero."""
    error: float
    """Standard error of the signal, by the jackknife over groups."""
    gain: float
    """What a step of fixed length adds to Uniform's objective, against Uniform's own step; see the module."""
    gain_error: float
    """Its standard error, by the jackknife over groups."""

    @classmethod
    def of(cls, gradients: Tensor, uniform: Tensor, step: int = STEP) -> Estimate:
        """Estimate from the gradient of every group.

        Args:
            gradients: Of the method, shape (groups, parameters).
            uniform: Uniform's of the same groups, same shape.
            step: Groups that a step is averaged over.
        """
        own, stock = _Products.of(gradients, gradients), _Products.of(uniform, uniform)
        both = _Products.of(gradients, uniform)
        count = len(gradients)

        def error(values: Tensor) -> float:
            return ((count - 1) / count * (values - values.mean()).square().sum()).sqrt().item()

        gain, without = (
            (crossed.pairs / mine.length(step)) / (theirs.pairs / theirs.length(step))
            for mine, theirs, crossed in zip(own, stock, both, strict=True)
        )
        signal = own[0].pairs.item()
        return cls(own[0].squares.item() - signal, signal, error(own[1].pairs), gain.item(), error(without))


@dataclass(frozen=True)
class _Products:
    """Mean inner products of the groups' gradients under two methods."""

    pairs: Tensor
    """Of different groups: the product of the two expectations, unbiased."""
    squares: Tensor
    """Of a group with itself."""

    @classmethod
    def of(cls, one: Tensor, other: Tensor) -> tuple[_Products, _Products]:
        """Return those of all groups, scalars, and those without each group in turn, shape (groups)."""
        products = (one @ other.T).double()
        count, diagonal = len(products), products.diag()
        pairs = products.sum() - diagonal.sum()
        beside = products.sum(dim=0) + products.sum(dim=1) - 2 * diagonal
        left_out = (pairs - beside) / ((count - 1) * (count - 2)), (diagonal.sum() - diagonal) / (count - 1)
        return cls(pairs / (count * (count - 1)), diagonal.mean()), cls(*left_out)

    def length(self, groups: int) -> Tensor:
        """Root of the expected squared length of the mean gradient of so many groups."""
        return (self.pairs + (self.squares - self.pairs) / groups).sqrt()


@dataclass(frozen=True)
class Measured:
    """Gradients of groups."""

    gradients: dict[str, Tensor]
    """Part or method → shape (groups that tell episodes apart, parameters)."""
    tokens: dict[str, float]
    """Share of each part's tokens."""
    groups: int
    """Groups that were played."""

    def table(self, step: int = STEP) -> list[str]:
        """Return the lines of the table."""
        uniform = self.gradients[UNIFORM]
        estimates = {name: Estimate.of(one, uniform, step) for name, one in self.gradients.items()}
        everything, stock = estimates[UNIFORM].variance, estimates[UNIFORM]
        lines = [
            f"| gradient of | tokens | variance | signal | tasks until noise equals signal | gain of {step} tasks |"
        ]
        lines.append("|---|---|---|---|---|---|")
        for name, one in estimates.items():
            signal = f"{one.signal / everything:.3%} ± {one.error / everything:.3%}"
            until = f"{one.variance / one.signal:.0f}" if one.signal > 2 * one.error else "–"
            # Against a Uniform whose own direction is not known, nothing can be said.
            gain = f"{one.gain:.2f} ± {one.gain_error:.2f}" if stock.signal > 2 * stock.error else "–"
            tokens = f"{self.tokens[name]:.1%}" if name in self.tokens else ""
            lines.append(
                f"| {name} | {tokens} | {one.variance / everything:.1%} | {signal} | {until} | "
                f"{'1' if name == UNIFORM else gain} |"
            )
        return lines
