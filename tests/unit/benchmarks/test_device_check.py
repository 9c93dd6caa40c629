"""`actfocus bench gpu`: promises are checked and can be broken, a part that fails does not hide the others."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import warnings
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import Qwen2ForCausalLM
from verl.utils.experimental.torch_functional import FusedLinearForPPO

from verl_actfocus.benchmarks import contracts, device_check, devices
from verl_actfocus.benchmarks.contracts import Contract, check_contracts
from verl_actfocus.benchmarks.device_check import Sizes, check_device
from verl_actfocus.benchmarks.device_tables import markdown
from verl_actfocus.benchmarks.fused_models import check_fused_models
from verl_actfocus.benchmarks.runs import BenchmarkRun
from verl_actfocus.cli.main import main
from verl_actfocus.experiments.runs.composition import compose
from verl_actfocus.integration import fused
from verl_actfocus.integration.fused import projected
from verl_actfocus.storage.errors import ExperimentError

from .test_bench_command import CONDITIONS

SIZES = Sizes(tokens=32, vocabulary=100, hidden=8, contract_tokens=40, steps=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_promises_hold_on_a_cpu(dtype):
    found = check_contracts("cpu", dtype, tokens=40, vocabulary=300, hidden=16)
    assert len({one.promise for one in found}) == 9
    assert all(one.holds for one in found), [one for one in found if not one.holds]


@pytest.mark.parametrize(
    ("name", "broken", "promise"),
    [
        ("token_weights", lambda *a, **k: contracts_weights(*a, **k) * 1.001, "weights are Eq. 16-18"),
        (
            "recomputed_entropy",
            lambda logits, chunk: logits.logsumexp(dim=-1),
            "the update's entropy is that of the logits",
        ),
        ("_weighted", lambda *a: contracts_weighted(*a) + 1e-3, "value and gradient are veRL's stock loss"),
    ],
)
def test_a_broken_promise_is_found(name, broken, promise, monkeypatch):
    monkeypatch.setattr(contracts, name, broken)
    failed = [
        one.promise
        for one in check_contracts("cpu", torch.float32, tokens=40, vocabulary=300, hidden=16)
        if not one.holds
    ]
    assert any(promise in one for one in failed)


contracts_weights, contracts_weighted = contracts.token_weights, contracts._weighted


def test_an_error_that_is_no_number_breaks_a_promise():
    assert not Contract("x", "float32", float("nan"), 1.0).holds
    # Wherever it stands among the errors of a promise.
    for errors in ([float("nan"), 0.5], [0.5, float("nan")]):
        assert not Contract("x", "float32", contracts.largest(errors), 1.0).holds
    assert contracts.largest([0.25, 0.5]) == 0.5


def executed(apart: float):
    """Runs that cost nothing, whose rollout and trainer differ by `apart`."""

    def execute(run, display):
        run.folder.mkdir(parents=True)
        metrics = {name: 0.5 for name in device_check._FINITE} | {"training/rollout_probs_diff_max": apart}
        lines = [{"step": n, "data": {**metrics, "timing_s/step": 2.0, "perf/total_num_tokens": 9}} for n in (1, 2)]
        (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        peak = {"all_processes": 1.0, "training_worker": 1.0}
        done = {"overrides": run.overrides, "conditions": CONDITIONS, "seconds": 60.0, "peak_megabytes": peak}
        (run.folder / "done.json").write_text(json.dumps(done))

    return execute


def test_everything_is_checked_measured_and_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(BenchmarkRun, "execute", executed(apart=1e-6))
    monkeypatch.setitem(device_check.SIZES, "cpu", SIZES)
    assert main(["bench", "gpu", "--device", "cpu", "--out", str(tmp_path)]) == 0
    values = json.loads((tmp_path / "gpu.json").read_text())
    assert values["well"] and not values["failures"] and values["server"] == "hf_cpu"
    assert {one["dtype"] for one in values["contracts"]} == {"float32", "bfloat16"}
    assert [one["dtype"] for one in values["passes"]] == ["float32", "bfloat16"]
    assert set(values["steps"]) == set(values["runs"]) == {"grpo", "ppo"}
    text = (tmp_path / "gpu.md").read_text()
    assert text.startswith("Everything holds.") and "### A step of PPO" in text
    assert "| ActFocus, KL on | 2.00 |" in text and "**NO**" not in text
    assert capsys.readouterr().err.count("checking: ") == 9
    assert len(values["seconds"]) == 9 and values["missing"] == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_with_fused_kernels_hold_what_they_promise_on_a_cpu_and_verls_class_stays_as_it_was(dtype):
    forward = Qwen2ForCausalLM.forward
    found = check_fused_models("cpu", dtype, tokens=40, vocabulary=300, hidden=16)
    assert len(found) == 2 and all(one.holds for one in found), found
    assert Qwen2ForCausalLM.forward is forward


@pytest.mark.parametrize(
    "name",
    ["entropy", "log_probs"],
)
def test_a_fused_pass_that_is_wrong_breaks_the_promise(name, monkeypatch):
    monkeypatch.setattr(fused, "projected", lambda *a, **k: replaced(projected(*a, **k), **{name: 1.01}))
    values, gradient = check_fused_models("cpu", torch.float32, tokens=40, vocabulary=300, hidden=16)
    assert not values.holds and gradient.holds


def test_an_update_with_another_gradient_breaks_the_promise(monkeypatch):
    verls = FusedLinearForPPO.forward
    monkeypatch.setattr(FusedLinearForPPO, "forward", lambda *a, **k: tuple(1.01 * one for one in verls(*a, **k)))
    values, gradient = check_fused_models("cpu", torch.float32, tokens=40, vocabulary=300, hidden=16)
    assert values.holds and not gradient.holds


def replaced(projection, **factors):
    return dataclasses.replace(projection, **{n: factor * getattr(projection, n) for n, factor in factors.items()})


def test_without_training_everything_else_is_checked_and_what_is_left_out_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(BenchmarkRun, "execute", lambda *a: pytest.fail("a training run began"))
    monkeypatch.setitem(device_check.SIZES, "cpu", SIZES)
    assert main(["bench", "gpu", "--device", "cpu", "--no-training", "--out", str(tmp_path)]) == 0
    values = json.loads((tmp_path / "gpu.json").read_text())
    assert values["well"] and values["left_out"] == ["steps of GRPO", "steps of PPO"] and not values["steps"]
    assert len(values["seconds"]) == 7 and values["missing"] == []
    assert (tmp_path / "gpu.md").read_text().startswith("Everything holds. Left out: steps of GRPO, steps of PPO.")


def test_a_check_that_is_cut_off_leaves_what_it_found_and_says_what_is_missing(monkeypatch, tmp_path):
    def cut_off(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(device_check, "_train", cut_off)
    monkeypatch.setitem(device_check.SIZES, "cpu", SIZES)
    assert main(["bench", "gpu", "--device", "cpu", "--out", str(tmp_path)]) == 130
    values = json.loads((tmp_path / "gpu.json").read_text())
    assert values["missing"] == ["steps of GRPO", "steps of PPO"] and not values["well"]
    assert len(values["contracts"]) == 22 and values["entropy"]
    begin = (tmp_path / "gpu.md").read_text().splitlines()[0]
    assert begin == "Not finished, everything holds. Missing: steps of GRPO, steps of PPO."


def test_a_part_that_fails_is_reported_and_the_others_are_run(monkeypatch, tmp_path):
    monkeypatch.setattr(BenchmarkRun, "execute", executed(apart=0.3))
    monkeypatch.setattr(device_check, "measure_entropy_memory", lambda *a, **k: 1 / 0)
    found = check_device(tmp_path, "cpu", SIZES, lambda part: None)
    assert not found.well
    assert set(found.failures) == {"entropy of the update", "steps of GRPO", "steps of PPO"}
    assert found.failures["entropy of the update"].startswith(
        "ZeroDivisionError: division by zero (test_device_check.py"
    )
    assert "differ by 0.3, more than 0.0001" in found.failures["steps of PPO"]
    assert len(found.contracts) == 22 and len(found.passes) == 2
    text = markdown(found)
    assert text.startswith("0 promises broken, 3 parts failed.") and "**steps of GRPO**: rollout and trainer" in text


def test_what_computes_on_a_gpu_has_a_process_of_its_own_and_says_where_it_fails():
    with devices.computing("cuda") as compute:
        other = compute(os.getpid)
        assert other != os.getpid() and compute(os.getpid) == other
        with pytest.raises(ExperimentError, match=r"ValueError: .* \(device_check.py, line \d+\)"):
            compute(partial(device_check._explained, partial(math.sqrt, -1)))
        # A dead process, and one that may have lost its CUDA context, takes no later part with it.
        with pytest.raises(BrokenExecutor):
            compute(partial(os._exit, 1))
        assert compute(os.getpid) not in (other, os.getpid())
    with devices.computing("cpu") as compute:
        assert compute(os.getpid) == os.getpid()


def test_the_other_process_does_not_name_engines_that_verl_lacks(capfd):
    with devices.computing("cuda") as compute:
        compute(partial(warnings.warn, "megatron engine is not available: ModuleNotFoundError"))
        compute(partial(warnings.warn, "something else"))
    heard = capfd.readouterr().err
    assert "something else" in heard and "megatron" not in heard


def test_every_measurement_and_its_result_reach_the_other_process_and_come_back():
    found = device_check.DeviceCheck("cpu")
    with devices.computing("cuda") as compute:
        for measure, store in device_check._measured(found, "cpu", SIZES).values():
            device_check._stored(compute, measure, store)
    assert len(found.contracts) == 22 and all(one.holds for one in found.contracts)
    assert [one.dtype for one in found.passes] == ["float32", "bfloat16"] and found.entropy is not None


def test_without_a_cuda_device_it_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "gpu", "--out", str(tmp_path)]) == 2
    assert "finds no CUDA device here" in capsys.readouterr().err


@pytest.mark.parametrize(("vllm", "server"), [(True, "vllm"), (False, "hf_cpu")])
@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_a_run_on_a_gpu_composes_with_vllm_where_it_is_and_without(vllm, server, algorithm, monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "find_spec", lambda name: object() if vllm else None)
    plan = device_check.plan_of(tmp_path, "cuda", algorithm, steps=3)
    plan.check()
    for *_, run in plan.runs():
        config = compose(*run.overrides)
        rollout, trainer = config.actor_rollout_ref.rollout, config.trainer
        assert (rollout.name, trainer.device, trainer.n_gpus_per_node) == (server, "cuda", 1)
        assert config.actor_rollout_ref.model.override_config.attn_implementation == "sdpa"
        assert ("vllm" in rollout.engine_kwargs and "tokenizer" in rollout.engine_kwargs.vllm) == vllm
        assert "VERL_PLATFORM" not in run._variables


def test_the_script_is_a_thin_wrapper(tmp_path):
    script = Path(__file__).resolve().parents[3] / "scripts/gpu_check.sh"
    (tmp_path / "python").write_text('#!/bin/sh\necho "$VERL_PLATFORM" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PYTHON": str(tmp_path / "python"), "VERL_PLATFORM": "cpu"}
    for words, platform in (([], ""), (["--device", "cpu"], "cpu")):
        printed = subprocess.run([script, *words], env=environment, capture_output=True, text=True, check=True).stdout
        assert printed.split() == [*platform.split(), "-m", "verl_actfocus.cli.main", "bench", "gpu", *words]
