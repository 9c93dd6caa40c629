"""Runs whose stand-ins end in no time."""

from __future__ import annotations

import pytest

from verl_actfocus.experiments import execution, processes


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often and wait briefly."""
    monkeypatch.setattr(execution, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.3)
