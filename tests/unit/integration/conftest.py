"""Importing veRL on a machine without an accelerator needs the CPU platform named first."""

from __future__ import annotations

import os
from importlib.resources import files

import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer

os.environ.setdefault("VERL_PLATFORM", "cpu")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))


@pytest.fixture
def build(monkeypatch, tokenizer):
    """A trainer that has only what the weighting of a batch touches, and its queue."""

    from verl_actfocus.config.settings import ActFocusSettings
    from verl_actfocus.estimators import GAE
    from verl_actfocus.integration import trainer
    from verl_actfocus.integration.response_tagger import ResponseTagger
    from verl_actfocus.integration.trajectories import TrajectoryLog

    from .queue_standin import Queue

    def build(weighting, step=1, bypass=False, estimator=None, **columns):
        queue = Queue(**columns)
        monkeypatch.setattr(trainer, "tq", queue)
        built = object.__new__(trainer.ActFocusTrainer)
        built.settings = ActFocusSettings(weighting=weighting, estimator=estimator or GAE())
        built.config = OmegaConf.create({"algorithm": {"use_kl_in_reward": False, "gamma": 1.0, "lam": 1.0}})
        built.global_steps, built.tokenizer, built._bypass = step, tokenizer, bypass
        built._weight_sum = 6.0  # set where tokens are weighted, before every update
        built._tagger = ResponseTagger(tokenizer, built.settings.tags)
        built._trajectories = TrajectoryLog(built.settings.trajectories, None)
        return built, queue

    return build
