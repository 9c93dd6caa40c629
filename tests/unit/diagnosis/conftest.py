"""What several tests of the diagnoses use."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from verl_actfocus import envs, models
from verl_actfocus.evaluation.tokenizers import load_tokenizer

from .drawn import SPEC


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny models gain nothing from more threads."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of known draws, by its name."""
    monkeypatch.setitem(envs.ENVIRONMENTS, "drawn", SPEC)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(str(models.folder("frozenlake") / "tokenizer"))
