"""What the documentation says of a GPU is what the check wrote there."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"
FOUND = json.loads((DOCS / "results/gpu-h100.json").read_text(encoding="utf-8"))
TABLES = (DOCS / "results/gpu-h100.md").read_text(encoding="utf-8")
FUSED = json.loads((DOCS / "results/gpu-h100-fused.json").read_text(encoding="utf-8"))
FUSED_TABLES = (DOCS / "results/gpu-h100-fused.md").read_text(encoding="utf-8")
RUNS = json.loads((DOCS / "results/gpu-h100-runs.json").read_text(encoding="utf-8"))["runs"]
PAGE = (DOCS / "performance.md").read_text(encoding="utf-8")
SECTION = " ".join(PAGE[PAGE.index("## On an H100") : PAGE.index("## A training step")].split())


def milliseconds(cost: dict[str, list[float]], digits: int = 0) -> str:
    return f"{1000 * median(cost['seconds']):.{digits}f} ms"


@pytest.mark.parametrize(("found", "tables", "number"), [(FOUND, TABLES, 18), (FUSED, FUSED_TABLES, 26)])
def test_every_contract_of_the_tables_is_that_of_the_file(found: dict[str, Any], tables: str, number: int) -> None:
    assert len(found["contracts"]) == number
    for one in found["contracts"]:
        error, allowed = f"{one['error']:.1e}", f"{one['tolerance']:.1e}"
        assert f"| {one['promise']} | {one['dtype']} | {error} | {allowed} | yes |" in tables
        assert one["error"] <= one["tolerance"]


def test_the_page_has_the_errors_of_models_with_fused_kernels() -> None:
    errors = {
        (backend, one["dtype"]): f"{one['error']:.1e}"
        for one in FUSED["contracts"]
        for backend in ("torch", "triton")
        if one["promise"] == f"a model with {backend} kernels gives what it gives without"
    }
    assert f"at most {errors['torch', 'float32']} with the `torch` backend" in SECTION
    assert f"and {errors['triton', 'float32']} with `triton`" in SECTION
    assert f"by {errors['torch', 'bfloat16']} and {errors['triton', 'bfloat16']}, where" in SECTION


def test_the_page_has_the_runs_of_the_file() -> None:
    runs = [RUNS[name] for name in ("fused_torch", "fused_triton", "lora")]
    assert all(run["steps"] == 4 for run in runs)
    (before,) = {run["evaluated_success"]["0"] for run in runs}
    after = [f"{100 * run['evaluated_success']['4']:.1f}" for run in runs]
    assert f"success {100 * before:.1f} % before, {after[0]}, {after[1]} and {after[2]} % after" in SECTION
    apart = [f"{run['largest_rollout_probs_diff']:.3f}" for run in runs]
    assert f"differ by at most {apart[0]}, {apart[1]} and {apart[2]}" in SECTION


def test_the_page_has_the_passes_of_the_file() -> None:
    (one,) = (one for one in FOUND["passes"] if one["dtype"] == "bfloat16")
    energies, stock, complete = (one[name] for name in ("fused_energy", "fused", "unfused_energy"))
    own = f"took {milliseconds(energies, 1)} and {energies['peak_bytes'] / 1e9:.2f} GB"
    assert own in SECTION and f"alone {milliseconds(stock, 1)}" in SECTION
    assert f"energies {milliseconds(complete)} and {complete['peak_bytes'] / 1e9:.1f} GB" in SECTION


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("this package's engine", "with this package's engine"),
        ("entropy_from_logits_with_chunking", "with veRL's chunking"),
        ("veRL's default", "with veRL's default"),
    ],
)
def test_the_page_has_the_entropies_of_the_file(way: str, words: str) -> None:
    cost = FOUND["entropy"]["costs"][way]
    assert f"{cost['peak_bytes'] / 1e9:.1f} GB and {milliseconds(cost)} {words}" in SECTION


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_the_page_has_the_steps_of_the_file(algorithm: str) -> None:
    (table,) = FOUND["steps"][algorithm]["tables"]
    stock, weighted = (table["variants"][name]["spread"]["step"]["median"] for name in ("stock-kl", "actfocus-kl"))
    assert f"{stock:.1f} and {weighted:.1f} s with {algorithm.upper()}" in SECTION


def test_the_page_says_that_everything_holds_because_it_does() -> None:
    for found in (FOUND, FUSED):
        assert found["well"] and not found["missing"] and not found["failures"]
    assert FUSED["left_out"] == ["steps of GRPO", "steps of PPO"]
    assert "everything holds. Tables" in SECTION and "everything holds again" in SECTION
