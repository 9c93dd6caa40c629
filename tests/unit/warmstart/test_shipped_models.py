"""The models in the repository load, are small, and play as their cards say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl_actfocus import envs, models
from verl_actfocus.episodes.tokens import ChatML
from verl_actfocus.warmstart.demonstrations import demonstrate
from verl_actfocus.warmstart.evaluation import evaluate
from verl_actfocus.warmstart.loop import TrainingSettings
from verl_actfocus.warmstart.train import IGNORED, POOL, batches, response_loss

MEGABYTE = 2**20


@pytest.fixture(scope="module", params=sorted(envs.having("miniature")))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_miniature_has_its_model() -> None:
    assert models.available() == sorted(envs.having("miniature"))


def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="frozenlake"):
        models.folder("chess")


def test_a_shipped_model_is_small_and_its_weights_are_complete(name: str) -> None:
    weights = models.folder(name) / "model" / "model.safetensors"
    assert weights.stat().st_size <= 5 * MEGABYTE
    model = AutoModelForCausalLM.from_pretrained(weights.parent)
    stored = load_file(weights)
    assert set(stored) == set(model.state_dict()) - {"lm_head.weight"}, "the output layer is tied to the embedding"
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in stored.items())
    assert model.config.model_type == "qwen2"
    assert model.dtype == torch.float32
    assert 0.7e6 < model.num_parameters() < 1.2e6
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_a_shipped_tokenizer_fits_its_model_and_is_lossless(name: str) -> None:
    folder = models.folder(name)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert len(tokenizer) == model.config.vocab_size
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    text = "P_O\n (1, 2) √ Grüße 漢\x00"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_a_shipped_tokenizer_still_fits_the_prompts_of_its_task(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models.folder(name) / "tokenizer")
    task = envs.miniature(name)
    encoder = ChatML(tokenizer, "<think>")
    env = task.make_env()
    for index in range(20):
        messages = demonstrate(task, env, seed=1, index=index).messages
        assert len(encoder.first(messages[:2])) <= 80, "the prompts have changed since the tokenizer was trained"


def test_a_shipped_model_predicts_demonstrations_it_never_saw_as_well_as_its_card_says(name: str) -> None:
    folder = models.folder(name)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    # A whole pool: each of its batches holds episodes of about one length, whose losses differ.
    settings = TrainingSettings(iterations=POOL, episodes_per_batch=16, seed=12345)
    pool = list(batches(envs.miniature(name), ChatML(tokenizer, "<think>"), settings))
    with torch.no_grad():
        loss = sum(response_loss(model, ids_BT, labels_BT).item() for ids_BT, labels_BT in pool) / POOL
    written = re.search(r"iterations: ([\d.]+) nats", _card(folder))
    assert written is not None
    assert sum((labels_BT != IGNORED).sum().item() for _, labels_BT in pool) > 5000
    assert loss == pytest.approx(float(written.group(1)), rel=0.1)


def test_a_shipped_model_answers_in_the_format_and_succeeds_as_its_card_says(name: str) -> None:
    folder = models.folder(name)
    (measured,) = evaluate(folder, envs.miniature(name), episodes=48, temperatures=[1.0])
    written = re.search(r"\| 1 \| ([\d.]+)% ± [\d.]+% \| [\d.]+% \| ([\d.]+)% ", _card(folder))
    assert written is not None
    success, valid = (float(share) / 100 for share in written.groups())
    assert measured.well_formed > 0.95
    assert abs(measured.valid - valid) < 0.1, "what the environment refuses is part of the start"
    assert abs(measured.success - success) < 4 * (success * (1 - success) / 48) ** 0.5
    assert 0.15 <= success <= 0.6, "room for reinforcement learning on both sides"


def _card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")
