"""A table of the user's own, trained by `actfocus reproduce` on the CPU from nothing to its files.

It trains what the other end-to-end runs leave out: signals of the policy, the other normalisers, veRL's optimal token
baseline with a weighting.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from verl_actfocus.cli.main import main
from verl_actfocus.experiments.results.run_result import read_runs

from .conftest import TINY

pytestmark = pytest.mark.e2e

TABLE = """
title: A table of my own
source: nobody
algorithm: grpo
quantity: success
baseline: shift
steps: 1
weightings:
  shift: {label: "shift, batch", weighting: actfocus signal=shift, settings: {normalize_over: batch}}
  entropy:
    label: "optimal token baseline and entropy, micro-batch"
    estimator: tir_optimal_token_baseline
    weighting: actfocus signal=entropy
    settings: {normalize_over: micro_batch}
rows:
  - env: frozenlake
"""
SCALES = 'cpu: {summary: Two very short runs., run: "cpu_{env}", first_seed: 7, seeds: 1, size: tiny}\n'
#: Those that the command decides itself.
_DECIDED = ("trainer.total_training_steps", "trainer.resume_mode")


def test_a_table_of_ones_own_is_trained_and_written(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TABLE, encoding="utf-8")
    (tmp_path / "_scales.yaml").write_text(SCALES, encoding="utf-8")
    overrides = [word for word in TINY if not word.startswith(_DECIDED)]
    out = tmp_path / "out"
    words = ["reproduce", str(tmp_path / "mine.yaml"), "--scale", "cpu", "--out", str(out)]
    assert main([*words, "--", *overrides]) == 0

    names = [f"frozenlake-grpo-1steps-normalize_over={whole}" for whole in ("batch", "micro_batch")]
    for name in names:
        (run,) = read_runs(out / "cpu" / name)
        step = run.metrics[1]
        assert run.seed == 7
        assert math.isfinite(step["actor/pg_loss"]) and step["actor/grad_norm"] > 0
        assert step["actfocus/signal_std"] > 0
        assert step["actfocus/mean_weight/reasoning"] == pytest.approx(0.1)
        assert 1 < step["actfocus/mean_weight/action"] < 1.5
    # The old policy is the reference model before the first update, up to the rounding of two passes.
    (shift,) = read_runs(out / "cpu" / names[0])
    assert abs(shift.metrics[1]["actfocus/signal_mean"]) < 1e-4

    with (out / "cpu/mine-cpu.csv").open() as file:
        finals = {row["weighting"]: float(row["value"]) for row in csv.DictReader(file) if row["number"] == "final"}
    assert finals == {
        name: read_runs(out / "cpu" / folder)[0].final.success
        for name, folder in zip(("shift", "entropy"), names, strict=True)
    }
