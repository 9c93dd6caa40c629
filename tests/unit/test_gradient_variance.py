"""The estimator behind the table of docs/why.md."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tools.gradient_variance import Estimate


def test_variance_and_signal_are_those_of_numpys_covariance() -> None:
    gradients = np.random.default_rng(0).normal(size=(12, 5)) + np.arange(5)
    found = Estimate.of(list(torch.tensor(gradients, dtype=torch.float32)))
    variance = np.trace(np.cov(gradients, rowvar=False))
    assert found.variance == pytest.approx(variance, rel=1e-5)
    # The squared length of the mean is too long by the noise that is left in it.
    assert found.signal == pytest.approx((gradients.mean(axis=0) ** 2).sum() - variance / 12, rel=1e-5)


def test_the_error_is_that_of_leaving_out_every_group_once() -> None:
    gradients = torch.tensor(np.random.default_rng(1).normal(size=(9, 4)), dtype=torch.float32)
    left_out = [Estimate.of([row for m, row in enumerate(gradients) if m != n]).signal for n in range(9)]
    expected = np.sqrt(8 / 9 * np.square(np.array(left_out) - np.mean(left_out)).sum())
    assert Estimate.of(list(gradients)).error == pytest.approx(expected, rel=1e-4)
