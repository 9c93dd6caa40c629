"""TextWorld games that several tests play: each takes a second or more to compile."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands in for the user's cache directory; skips where the extra `textworld` is not installed."""
    pytest.importorskip("textworld", reason="the extra `textworld` is not installed")
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def cache(user_cache: Path) -> Path:
    """Where games are kept in it."""
    return user_cache / "verl_actfocus" / "textworld"
