"""The measurements of memory are exact, and what they measure is what the documentation says."""

from __future__ import annotations

import pytest
import torch

from verl_actfocus.benchmarks.allocations import kept_bytes, peak_bytes
from verl_actfocus.benchmarks.energy import measure_energy_pass
from verl_actfocus.benchmarks.entropy import OWN, measure_entropy_memory

MEGABYTE = torch.zeros(250_000)


def test_peak_counts_what_operators_allocate_within_and_what_is_freed():
    def function() -> torch.Tensor:
        two = MEGABYTE + 1  # 1 MB
        two = torch.cat([two, two])  # 3 MB, then 2
        return two.sum()

    assert peak_bytes(function) == 3_000_000
    # The exponentials, and what is left of the rows.
    assert peak_bytes(lambda: torch.logsumexp(MEGABYTE.view(10, -1), dim=1)) == pytest.approx(1_000_000, abs=1000)


def test_kept_bytes_count_each_tensor_once_and_not_the_argument():
    leaf = MEGABYTE.clone().requires_grad_()
    assert kept_bytes(lambda tensor: tensor * tensor, leaf) == 0
    assert kept_bytes(lambda tensor: tensor.exp() ** 2, leaf) == 1_000_000
    with pytest.raises(ValueError, match="no gradient"):
        kept_bytes(torch.exp, MEGABYTE)


def test_the_energy_pass_reports_every_way_and_its_memory_does_not_grow_with_the_tokens():
    short, long = (measure_energy_pass(tokens, vocabulary=400, hidden=8, rounds=2) for tokens in (1024, 4096))
    for measured in (short, long):
        assert measured.largest_difference < 1e-5
        assert len(measured.fused_energy.seconds) == 2 and measured.time_ratio > 0
        assert measured.fused_energy.peak_bytes < measured.fused.peak_bytes
    rows = 4 * 4096  # one float32 a token
    assert long.fused_energy.peak_bytes - short.fused_energy.peak_bytes < 4 * rows
    assert long.unfused_energy.peak_bytes > 4 * 4096 * 400
    assert long.as_json()["memory_ratio"] == long.fused_energy.peak_bytes / long.unfused_energy.peak_bytes


def test_the_entropy_keeps_no_byte_for_a_logit_and_its_peak_is_the_gradient_and_a_few_chunks():
    measured = measure_entropy_memory(1024, 400, chunk_size=64, rounds=1)
    logits = 1024 * 400
    assert measured.costs[OWN].kept_bytes == 4 * 1024
    assert measured.costs[OWN].peak_bytes < 2 * logits + 4 * 64 * 400 * 4
    assert measured.costs["entropy_from_logits_with_chunking"].kept_bytes >= 8 * logits
    # Checkpointing keeps nothing between the passes, and the same while the backward pass runs.
    checkpointed = measured.costs["the same, entropy_checkpointing"]
    assert checkpointed.kept_bytes == 0 and checkpointed.peak_bytes > 8 * logits
    assert measured.as_json()["peak_bytes_per_logit"][OWN] == measured.per_logit(OWN) < 3
