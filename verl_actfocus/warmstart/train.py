"""Supervised warm start: teach a tiny model to imitate the noisy expert of a task.

The batch of an iteration is a function of the seed and the iteration alone and the model has no dropout, so a run
that is resumed from its checkpoint ends in the same weights as one that never stopped.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.episodes import STANDARD_TAGS
from verl_actfocus.episodes.tokens import ChatML, conversation
from verl_actfocus.experiments.disk import writing
from verl_actfocus.warmstart.demonstrations import demonstrate
from verl_actfocus.warmstart.model import build_model

POOL = 8  # batches that are drawn together and sorted by length, so that little of a batch is padding
IGNORED = -100  # label of the tokens that carry no loss


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What a warm start is made of; two runs with equal settings give equal weights."""

    iterations: int
    episodes_per_batch: int = 16
    learning_rate: float = 3e-3
    warmup_iterations: int = 50
    weight_decay: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "episodes_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"TrainingSettings.{name} is {getattr(self, name)}: it must be at least 1")


def learning_rate(settings: TrainingSettings, iteration: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth of the peak."""
    if iteration < settings.warmup_iterations:
        return settings.learning_rate * (iteration + 1) / settings.warmup_iterations
    done = (iteration - settings.warmup_iterations) / max(1, settings.iterations - settings.warmup_iterations)
    return settings.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


Batch = tuple[torch.Tensor, torch.Tensor]


def batches(task: Miniature, encoder: ChatML, settings: TrainingSettings, *, start: int = 0) -> Iterator[Batch]:
    """Yield the batches of a run from iteration `start` on.

    Args:
        task: The task whose expert plays.
        encoder: Turns conversations into tokens.
        settings: Seed, batch size and number of iterations.
        start: First iteration wanted.

    Yields:
        Token ids and labels, both of shape (episodes_per_batch, longest episode of the batch), int64; labels are
        `IGNORED` outside of the responses.
    """
    env = task.make_env()
    size = settings.episodes_per_batch
    pad_id = int(encoder.tokenizer.pad_token_id)
    for pool in range(start // POOL, math.ceil(settings.iterations / POOL)):
        first = pool * POOL * size
        played = [demonstrate(task, env, seed=settings.seed, index=first + i) for i in range(POOL * size)]
        encoded = sorted((conversation(encoder, one.messages) for one in played), key=lambda pair: len(pair[0]))
        order = torch.randperm(POOL, generator=torch.Generator().manual_seed(settings.seed + pool)).tolist()
        for place in range(POOL):
            if start <= pool * POOL + place < settings.iterations:
                yield _pad(encoded[order[place] * size : (order[place] + 1) * size], pad_id)


def _pad(encoded: list[tuple[list[int], list[int]]], pad_id: int) -> Batch:
    width = max(len(ids) for ids, _ in encoded)
    ids_BT = torch.full((len(encoded), width), pad_id)
    labels_BT = torch.full((len(encoded), width), IGNORED)
    for row, (ids, mask) in enumerate(encoded):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        labels_BT[row, : len(ids)] = torch.where(torch.tensor(mask) == 1, torch.tensor(ids), IGNORED)
    return ids_BT, labels_BT


def response_loss(model: Qwen2ForCausalLM, ids_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood of the response tokens of a batch, in nats.

    Padding is on the right, where causal attention keeps it from everything that carries loss.
    """
    hidden_BTH = model.model(input_ids=ids_BT[:, :-1]).last_hidden_state
    targets_BT = labels_BT[:, 1:]
    wanted_BT = targets_BT != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden_BTH[wanted_BT]), targets_BT[wanted_BT])


def train(
    task: Miniature,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    report_every: int = 25,
) -> tuple[Qwen2ForCausalLM, list[float]]:
    """Train a tiny model, or carry on from its checkpoint.

    Args:
        task: The task to learn.
        tokenizer: Its tokenizer.
        settings: Length, rates and seed of the run.
        checkpoint: File to write checkpoints to; if it exists, the run carries on from it.
        checkpoint_every: Iterations between two checkpoints.
        report_every: Iterations between two lines of progress.

    Returns:
        The model, and the loss of every iteration.

    Raises:
        ValueError: If the checkpoint belongs to a run with other settings or another task.
    """
    model = build_model(tokenizer, seed=settings.seed)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        losses = _load_checkpoint(checkpoint, task, settings, model, optimizer)
    start = len(losses)
    began, tokens = time.perf_counter(), 0
    model.train()
    encoder = ChatML(tokenizer, STANDARD_TAGS.prefill)
    for iteration, (ids_BT, labels_BT) in enumerate(batches(task, encoder, settings, start=start), start):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, iteration)
        loss = response_loss(model, ids_BT, labels_BT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        tokens += ids_BT.numel()
        finished = iteration + 1
        if checkpoint is not None and (finished % checkpoint_every == 0 or finished == settings.iterations):
            _save_checkpoint(checkpoint, task, settings, model, optimizer, losses)
        if finished % report_every == 0 or finished == settings.iterations:
            seconds = time.perf_counter() - began
            left = seconds / (finished - start) * (settings.iterations - finished)
            mean = sum(losses[-report_every:]) / len(losses[-report_every:])
            print(
                f"iteration {finished}/{settings.iterations}  loss {mean:.4f}  {tokens / seconds:,.0f} tokens/s  "
                f"{seconds:.0f} s, about {left:.0f} s left",
                flush=True,
            )
    return model.eval(), losses


def _identity(task: Miniature, settings: TrainingSettings) -> dict[str, object]:
    return {"task": task.environment, **asdict(settings)}


def _save_checkpoint(
    path: Path,
    task: Miniature,
    settings: TrainingSettings,
    model: Qwen2ForCausalLM,
    optimizer: torch.optim.Optimizer,
    losses: list[float],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")  # a run that dies while writing leaves the last checkpoint whole
    state = {"identity": _identity(task, settings), "losses": losses}
    with writing(path):
        torch.save({**state, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, partial)
    os.replace(partial, path)


def _load_checkpoint(
    path: Path,
    task: Miniature,
    settings: TrainingSettings,
    model: Qwen2ForCausalLM,
    optimizer: torch.optim.Optimizer,
) -> list[float]:
    saved = torch.load(path, weights_only=True)
    wanted = _identity(task, settings)
    if saved["identity"] != wanted:
        raise ValueError(f"{path} belongs to the run {saved['identity']}, not {wanted}; delete it to start afresh")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return list(saved["losses"])
