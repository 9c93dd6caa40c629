"""What the documentation says of a GPU is what the check wrote there."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"
FOUND = json.loads((DOCS / "results/gpu-h100.json").read_text(encoding="utf-8"))
TABLES = (DOCS / "results/gpu-h100.md").read_text(encoding="utf-8")
PAGE = (DOCS / "performance.md").read_text(encoding="utf-8")
SECTION = " ".join(PAGE[PAGE.index("## On an H100") : PAGE.index("## A training step")].split())


def milliseconds(cost: dict[str, list[float]], digits: int = 0) -> str:
    return f"{1000 * median(cost['seconds']):.{digits}f} ms"


def test_every_contract_of_the_tables_is_that_of_the_file() -> None:
    assert len(FOUND["contracts"]) == 18
    for one in FOUND["contracts"]:
        error, allowed = f"{one['error']:.1e}", f"{one['tolerance']:.1e}"
        assert f"| {one['promise']} | {one['dtype']} | {error} | {allowed} | yes |" in TABLES
        assert one["error"] <= one["tolerance"]


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
    assert FOUND["well"] and not FOUND["missing"] and not FOUND["failures"]
    assert "everything holds" in SECTION
