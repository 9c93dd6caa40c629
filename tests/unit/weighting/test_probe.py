"""A weighting is tried before anything is built: what it does wrong on any batch is said at once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from verl_actfocus.weighting import WEIGHTINGS, TokenBatch, Weighting
from verl_actfocus.weighting.inputs import ENGINE_INPUTS, ROLLOUT_INPUTS
from verl_actfocus.weighting.probe import try_weighting


@pytest.mark.parametrize("name", ["actfocus", "entropy_top", "turn_balanced", "uniform"])
def test_packaged_weightings_pass(name: str) -> None:
    try_weighting(WEIGHTINGS[name]())


@dataclass(frozen=True, kw_only=True)
class Mine(Weighting):
    name = "mine"
    what: str

    @property
    def needs(self) -> tuple[str, ...]:
        return ("spans", *ENGINE_INPUTS, *ROLLOUT_INPUTS) if self.what != "unnamed" else ()

    def weights(self, batch: TokenBatch) -> torch.Tensor:
        mask = batch.response_mask.float()
        if self.what == "whole numbers":
            return batch.response_mask.long()
        if self.what == "everywhere":
            return torch.ones_like(mask)
        if self.what in ("unnamed", "read"):
            assert batch.input("anchor_states").dtype == torch.int64
            return mask * batch.input("ref_entropy")
        return mask[:, :3] * mask


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("whole numbers", r"'mine' must return float32 weights of shape \(8, 64\), got torch.int64"),
        ("everywhere", r"0 outside the response mask; not so at sequence 0, position 7"),
        ("unnamed", r"no input 'anchor_states', only \[\].*tried on eight trajectories"),
        ("shapes", r"'mine' fails on eight trajectories of 64 tokens: RuntimeError: The size of tensor"),
    ],
)
def test_what_fails_on_any_batch_is_named(what: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        try_weighting(Mine(what=what))


def test_every_input_that_a_weighting_may_read_is_there() -> None:
    try_weighting(Mine(what="read"))


def test_a_weighting_that_reads_rows_has_to_say_so() -> None:
    @dataclass(frozen=True, kw_only=True)
    class ByLength(Weighting):
        name = "by_length"
        reads_rows = False

        def weights(self, batch: TokenBatch) -> torch.Tensor:
            mask = batch.response_mask.float()
            return mask / mask.sum(dim=1, keepdim=True)

    with pytest.raises(ValueError, match=r"'by_length' says reads_rows=False, but .*; set reads_rows=True"):
        try_weighting(ByLength())
    ByLength.reads_rows = True
    try_weighting(ByLength())
