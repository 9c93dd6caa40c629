"""The weighting that docs/methods.md shows does what it says there, and the page names every input that there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

from verl_actfocus.weighting import Span, TokenBatch, base, compute_weights, turn_indices
from verl_actfocus.weighting.inputs import ENGINE_INPUTS, ROLLOUT_INPUTS, VERL_INPUTS

PAGE = (Path(__file__).parents[3] / "docs/methods.md").read_text(encoding="utf-8")


def test_the_documented_weighting_weighs_actions_and_the_ends_of_reasoning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "WEIGHTINGS", dict(base.WEIGHTINGS))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "documented_weighting.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    weighting = importlib.import_module("documented_weighting").Decisions(last=0.5)
    r, a, tag = Span.REASONING, Span.ACTION, Span.NONE
    spans = torch.tensor([[r, r, tag, a, a, tag, r, a, r], [a, r, r, r, tag, tag, tag, tag, tag]])
    mask = torch.tensor([[1] * 9, [1, 1, 1, 1, 0, 0, 0, 0, 0]])
    batch = TokenBatch(spans=spans, response_mask=mask, turns=turn_indices(mask), advantages=mask.float())
    weights = compute_weights(weighting, batch)
    assert weights.tolist() == [[0, 0.5, 0, 1, 1, 0, 0.5, 1, 0.5], [1, 0, 0, 0.5, 0, 0, 0, 0, 0]]


def test_the_page_names_every_input() -> None:
    table = PAGE[PAGE.index("`needs` names what it reads") :]
    names = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    named = re.findall(r"`(\w+)`", "".join(names))
    assert sorted(named) == sorted([*base.BATCH_FIELDS, *ENGINE_INPUTS, *ROLLOUT_INPUTS, *VERL_INPUTS])
