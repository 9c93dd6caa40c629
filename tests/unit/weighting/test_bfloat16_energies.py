"""Energies of rounded logits hardly move a weight: what docs/memory.md says of bfloat16."""

from __future__ import annotations

import pytest

from tools.bf16_energies import measure, packaged
from verl_actfocus import models


@pytest.fixture(scope="module")
def moved():
    return measure(str(models.folder("frozenlake") / "model"), packaged())


@pytest.mark.parametrize("what", ["logits", "the whole pass"])
def test_weights_move_by_less_than_three_thousandths(moved, what):
    assert moved[what].tokens == 557
    assert 0 < moved[what].mean_weight < moved[what].weight < 0.003


def test_an_energy_moves_by_no_more_than_the_largest_logit_is_rounded(moved):
    """bfloat16 has 8 significant bits: a logit between 8 and 16 is off by 2**-5 at most, and so is their logsumexp."""
    assert moved["logits"].energy <= 2**-5
