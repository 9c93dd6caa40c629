"""Tagging, shared prompts, weighting memory, peak memory: what each measures is what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest
import torch

from verl_actfocus.benchmarks import padding, prefixes, tagging
from verl_actfocus.benchmarks.memory import PeakMemory, high_water_mark
from verl_actfocus.cli.main import main
from verl_actfocus.experiments.execution.processes import MARK


def test_tagging_is_measured_for_every_length_and_written(tmp_path):
    assert main(["bench", "tagging", "--lengths", "200", "100", "--rounds", "2", "--out", str(tmp_path)]) == 0
    values = json.loads((tmp_path / "tagging.json").read_text())
    assert [row["tokens"] for row in values["rows"]] == [100, 200]
    assert values["rows"][0]["ratio"]["value"] == 1.0
    assert "CPU time grows as length to the power of" in (tmp_path / "tagging.md").read_text()


def test_the_exponent_is_that_of_a_power_law():
    lengths = [1024, 4096, 32768]
    assert tagging.exponent(lengths, [3e-6 * length**1.5 for length in lengths]) == pytest.approx(1.5)


def test_a_shared_prompt_gives_the_same_log_probabilities_and_energies():
    result = prefixes.measure(prompt=20, response=10, group=3, rounds=1)
    assert result.log_prob_difference < 1e-5
    assert result.energy_difference < 1e-5
    assert result.tokens_gain == 3 * 30 / (20 + 3 * 10)


def test_the_plain_way_is_log_softmax_and_logsumexp_of_the_whole_sequence():
    torch.manual_seed(0)
    model = prefixes._model(12)
    prompt, responses = torch.randint(100, (1, 7)), torch.randint(100, (2, 5))
    log_probs, energy = prefixes.plain(model, prompt, responses)
    with torch.no_grad():
        logits = model(torch.cat([prompt.expand(2, -1), responses], dim=1)).logits[:, 6:11]
    expected = logits.log_softmax(-1).gather(2, responses.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(energy, -logits.logsumexp(-1))


def test_weights_are_the_same_both_ways_and_padding_takes_memory():
    costs = padding.measure(padding.long_tailed_lengths(30, 2000))
    assert costs[padding.PADDED].total == pytest.approx(costs[padding.JAGGED].total, rel=1e-12)
    # Of the weights alone: four bytes for each of 30 × 2000 places, and for each token.
    assert costs[padding.PADDED].peak > 4 * 30 * 2000
    assert costs[padding.JAGGED].peak > 4 * sum(padding.long_tailed_lengths(30, 2000))


def test_lengths_have_a_long_tail_up_to_the_longest():
    lengths = padding.long_tailed_lengths(1000, 16000)
    assert max(lengths) == lengths[0] == 16000 and min(lengths) >= 1
    assert sorted(lengths)[500] < sum(lengths) / 1000 < 16000 / 4


def test_the_high_water_mark_remembers_what_was_freed():
    # In a process of its own: this one has had more, depending on the tests before.
    code = "x = bytearray(b'x' * 300_000_000); del x; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert psutil.Process(process.pid).memory_info().rss < 100e6
        assert 300e6 < high_water_mark(process.pid) < 800e6
        process.communicate(b"\n")


def test_the_peak_of_a_run_is_that_of_the_processes_with_its_mark(tmp_path):
    code = "x = bytearray(b'x' * 50_000_000); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, MARK: str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        peak = PeakMemory()
        peak.look(tmp_path, now=100.0)
        process.communicate("\n")
    assert 50 < peak.as_json()["all_processes"] < 150
    assert peak.as_json()["training_worker"] == 0


@pytest.mark.parametrize("name", ["energy", "entropy"])
def test_the_costs_of_logits_are_written_as_a_table(name, tmp_path):
    sizes = ["--tokens", "64", "--vocabulary", "100", "--rounds", "2"]
    assert main(["bench", name, *sizes, "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / f"{name}.json").read_text())["tokens"] == 64
    text = (tmp_path / f"{name}.md").read_text()
    assert text.startswith("64 tokens × 100 of the vocabulary")
    assert text.count("\n| ") == 5
