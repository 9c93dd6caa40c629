"""The steps of a warm start, of a tiny model or a pretrained one: schedule, checkpoints, progress."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from verl_actfocus.storage.disk import writing

B = TypeVar("B")


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


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where the state of a run is kept.

    Attributes:
        path: The file.
        identity: What the run is, as plain values; a file of another run is refused.
        every: Iterations between two checkpoints.
    """

    path: Path
    identity: Mapping[str, Any]
    every: int = 100


def run_steps(
    model: torch.nn.Module,
    settings: TrainingSettings,
    batches: Callable[[int], Iterator[B]],
    backward: Callable[[B], tuple[float, int]],
    *,
    checkpoint: Checkpoint | None = None,
    report_every: int = 25,
) -> list[float]:
    """Train the weights of a model that want gradients, or carry on from its checkpoint.

    Args:
        model: The model; changed in place.
        settings: Length, rates and seed of the run.
        batches: Yields the batches from an iteration on.
        backward: Adds the gradient of a batch's loss; returns the loss and the number of tokens that were computed.
        checkpoint: Where to keep the state; if there is one, the run carries on from it.
        report_every: Iterations between two lines of progress.

    Returns:
        The loss of every iteration.

    Raises:
        ValueError: If the checkpoint belongs to another run.
        ExperimentError: The disk is full.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    losses: list[float] = []
    if checkpoint is not None and checkpoint.path.exists():
        losses = _load(checkpoint, model, optimizer)
    start = len(losses)
    began, tokens = time.perf_counter(), 0
    model.train()
    for iteration, batch in enumerate(batches(start), start):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, iteration)
        loss, computed = backward(batch)
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
        tokens += computed
        finished = iteration + 1
        if checkpoint is not None and (finished % checkpoint.every == 0 or finished == settings.iterations):
            _save(checkpoint, trained, optimizer, losses)
        if finished % report_every == 0 or finished == settings.iterations:
            seconds = time.perf_counter() - began
            left = seconds / (finished - start) * (settings.iterations - finished)
            mean = sum(losses[-report_every:]) / len(losses[-report_every:])
            print(
                f"iteration {finished}/{settings.iterations}  loss {mean:.4f}  {tokens / seconds:,.0f} tokens/s  "
                f"{seconds:.0f} s, about {left:.0f} s left",
                flush=True,
            )
    model.eval()
    return losses


def _save(
    checkpoint: Checkpoint,
    trained: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    losses: list[float],
) -> None:
    path = checkpoint.path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")  # a run that dies while writing leaves the last checkpoint whole
    state = {"identity": dict(checkpoint.identity), "losses": losses, "model": dict(trained)}
    with writing(path):
        torch.save({**state, "optimizer": optimizer.state_dict()}, partial)
    os.replace(partial, path)


def _load(checkpoint: Checkpoint, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    path, wanted = checkpoint.path, dict(checkpoint.identity)
    # On whatever device it was written: what is loaded goes where the model is.
    saved = torch.load(path, weights_only=True, map_location="cpu")
    if saved["identity"] != wanted:
        raise ValueError(f"{path} belongs to the run {saved['identity']}, not {wanted}; delete it to start afresh")
    model.load_state_dict(saved["model"], strict=False)  # what is not trained is not in it
    optimizer.load_state_dict(saved["optimizer"])
    return list(saved["losses"])
