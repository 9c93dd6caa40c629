"""Runs whose stand-ins end in no time."""

from __future__ import annotations

import pytest

from verl_actfocus.experiments.execution import processes, supervision


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often and wait briefly."""
    monkeypatch.setattr(supervision, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.3)
