"""The training loop: it learns, it can be interrupted, and it trains on nothing but the responses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from verl_actfocus import envs
from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.episodes.tokens import ChatML, conversation
from verl_actfocus.warmstart import train as train_module
from verl_actfocus.warmstart.demonstrations import Demonstration, demonstrate
from verl_actfocus.warmstart.loop import TrainingSettings, learning_rate
from verl_actfocus.warmstart.model import build_model
from verl_actfocus.warmstart.train import (
    IGNORED,
    Batch,
    batches,
    response_loss,
    train,
)

FROZENLAKE = envs.miniature("frozenlake")


def test_twenty_iterations_lower_the_loss(small_tokenizer: PreTrainedTokenizerFast) -> None:
    settings = TrainingSettings(iterations=20, episodes_per_batch=2, warmup_iterations=5)
    _, losses = train(FROZENLAKE, small_tokenizer, settings)
    assert len(losses) == 20
    assert losses[0] > 0.8 * math.log(len(small_tokenizer)), "an untrained model knows next to nothing"
    assert sum(losses[-3:]) / 3 < 0.75 * losses[0]


def interrupt_after(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next training run break off, as Ctrl-C would."""

    def broken(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        yield from islice(batches(*args, **kwargs), iterations)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "batches", broken)


def test_a_resumed_run_ends_in_the_same_weights_as_an_uninterrupted_one(
    small_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainingSettings(iterations=6, episodes_per_batch=2, warmup_iterations=2)
    whole, whole_losses = train(FROZENLAKE, small_tokenizer, settings)
    file = tmp_path / "checkpoint.pt"
    with monkeypatch.context() as patch:
        interrupt_after(4, patch)
        with pytest.raises(KeyboardInterrupt):
            train(FROZENLAKE, small_tokenizer, settings, checkpoint=file, checkpoint_every=3)
    # As if another device had written it, which may not be there any more.
    load = torch.load
    asked = []
    monkeypatch.setattr(torch, "load", lambda *args, **options: asked.append(options) or load(*args, **options))
    resumed, resumed_losses = train(FROZENLAKE, small_tokenizer, settings, checkpoint=file)
    assert asked == [{"weights_only": True, "map_location": "cpu"}]
    assert resumed_losses == whole_losses
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_run_is_refused(small_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    train(FROZENLAKE, small_tokenizer, TrainingSettings(iterations=1, episodes_per_batch=1), checkpoint=file)
    with pytest.raises(ValueError, match="belongs to the run"):
        train(FROZENLAKE, small_tokenizer, TrainingSettings(iterations=2, episodes_per_batch=1), checkpoint=file)


def test_progress_names_loss_speed_and_time_left(
    small_tokenizer: PreTrainedTokenizerFast, capsys: pytest.CaptureFixture[str]
) -> None:
    train(FROZENLAKE, small_tokenizer, TrainingSettings(iterations=2, episodes_per_batch=1), report_every=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for word in ("1/2", "loss", "tokens/s", "s left"):
        assert word in lines[0]


def test_batches_can_begin_anywhere_and_are_the_same(small_tokenizer: PreTrainedTokenizerFast) -> None:
    settings = TrainingSettings(iterations=20, episodes_per_batch=2)
    encoder = ChatML(small_tokenizer, "<think>")
    all_of_them = list(batches(FROZENLAKE, encoder, settings))
    assert len(all_of_them) == 20
    for start in (0, 5, 8, 19):
        ids_BT, labels_BT = next(batches(FROZENLAKE, encoder, settings, start=start))
        assert torch.equal(ids_BT, all_of_them[start][0]) and torch.equal(labels_BT, all_of_them[start][1])


def test_every_episode_of_a_pool_is_used_once(small_tokenizer: PreTrainedTokenizerFast) -> None:
    settings = TrainingSettings(iterations=8, episodes_per_batch=2)
    encoder = ChatML(small_tokenizer, "<think>")
    env = FROZENLAKE.make_env()
    wanted = sorted(conversation(encoder, demonstrate(FROZENLAKE, env, seed=0, index=i).messages)[0] for i in range(16))
    got = [
        row[: len(row) - padding].tolist()
        for ids_BT, _ in batches(FROZENLAKE, encoder, settings)
        for row in ids_BT
        for padding in [int((row == small_tokenizer.pad_token_id).sum())]
    ]
    assert sorted(got) == wanted


def test_the_labels_are_the_responses_and_their_ends_of_turn_and_nothing_else(
    task: Miniature, tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    settings = TrainingSettings(iterations=1, episodes_per_batch=3)
    ids_BT, labels_BT = next(batches(task, ChatML(tokenizer, "<think>"), settings))
    pool = {
        "".join(f"{m['content']}<|im_end|>" for m in one.messages if m["role"] == "assistant") for one in demonstrations
    }
    for ids_T, labels_T in zip(ids_BT, labels_BT, strict=True):
        learnt = labels_T != IGNORED
        assert torch.equal(ids_T[learnt], labels_T[learnt])
        assert tokenizer.decode(labels_T[learnt].tolist()) in pool


def test_the_loss_is_the_mean_negative_log_likelihood_of_the_labelled_tokens(
    small_tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = build_model(small_tokenizer, seed=3).eval()
    settings = TrainingSettings(iterations=1, episodes_per_batch=3)
    ids_BT, labels_BT = next(batches(FROZENLAKE, ChatML(small_tokenizer, "<think>"), settings))
    terms = []
    with torch.no_grad():
        for ids_T, labels_T in zip(ids_BT, labels_BT, strict=True):
            length = int((ids_T != small_tokenizer.pad_token_id).sum())
            log_probs_TV = model(ids_T[None, :length]).logits[0].log_softmax(-1)
            terms += [-log_probs_TV[t - 1, labels_T[t]] for t in range(1, length) if labels_T[t] != IGNORED]
        loss = response_loss(model, ids_BT, labels_BT)
    assert loss.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-4)


def test_the_learning_rate_warms_up_to_its_peak_and_falls_to_a_twentieth() -> None:
    settings = TrainingSettings(iterations=100, learning_rate=1.0, warmup_iterations=10)
    assert learning_rate(settings, 0) == pytest.approx(0.1)
    assert learning_rate(settings, 10) == pytest.approx(1.0)
    assert learning_rate(settings, 55) == pytest.approx((1 + 0.05) / 2)
    assert learning_rate(settings, 100) == pytest.approx(0.05)


def test_building_a_model_leaves_the_global_generator_alone(small_tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = build_model(small_tokenizer, seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert 0.7e6 < model.num_parameters() < 1.1e6


@pytest.mark.parametrize("name", ["iterations", "episodes_per_batch"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TrainingSettings(**{"iterations": 1, name: 0})


def test_a_run_stops_at_its_last_iteration(small_tokenizer: PreTrainedTokenizerFast) -> None:
    settings = TrainingSettings(iterations=3, episodes_per_batch=1)
    assert len(list(islice(batches(FROZENLAKE, ChatML(small_tokenizer, "<think>"), settings), 10))) == 3
