"""Supervised warm start: teach a tiny model to imitate the noisy expert of a task.

The batch of an iteration is a function of the seed and the iteration alone and the model has no dropout, so a run
that is resumed from its checkpoint ends in the same weights as one that never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.episodes import STANDARD_TAGS
from verl_actfocus.episodes.phrasing import STANDARD_PHRASING, Phrasing
from verl_actfocus.episodes.tokens import ChatML, PromptBuilder, conversation
from verl_actfocus.warmstart.demonstrations import demonstrate
from verl_actfocus.warmstart.loop import Checkpoint, TrainingSettings, run_steps
from verl_actfocus.warmstart.model import build_model

POOL = 8  # batches that are drawn together and sorted by length, so that little of a batch is padding
IGNORED = -100  # label of the tokens that carry no loss

#: Token ids of a conversation, and 1 on those of its responses.
Encoded = tuple[list[int], list[int]]

Batch = tuple[torch.Tensor, torch.Tensor]


def demonstrated(
    task: Miniature,
    prompts: PromptBuilder,
    settings: TrainingSettings,
    *,
    start: int = 0,
    phrasing: Phrasing = STANDARD_PHRASING,
) -> Iterator[list[Encoded]]:
    """Yield the conversations of a run's batches from iteration `start` on.

    Args:
        task: The task whose expert plays.
        prompts: Turns conversations into tokens.
        settings: Seed, batch size and number of iterations.
        start: First iteration wanted.
        phrasing: How the prompts ask for the response format.

    Yields:
        As many conversations as a batch has.
    """
    env = task.make_env()
    size = settings.episodes_per_batch
    for pool in range(start // POOL, math.ceil(settings.iterations / POOL)):
        first = pool * POOL * size
        played = [
            demonstrate(task, env, seed=settings.seed, index=first + i, phrasing=phrasing) for i in range(POOL * size)
        ]
        pairs = [conversation(prompts, one.messages, opening=one.opening) for one in played]
        encoded = sorted(pairs, key=lambda pair: len(pair[0]))
        order = torch.randperm(POOL, generator=torch.Generator().manual_seed(settings.seed + pool)).tolist()
        for place in range(POOL):
            if start <= pool * POOL + place < settings.iterations:
                yield encoded[order[place] * size : (order[place] + 1) * size]


def batches(task: Miniature, encoder: ChatML, settings: TrainingSettings, *, start: int = 0) -> Iterator[Batch]:
    """Yield the padded batches of a run from iteration `start` on.

    Args:
        task: The task whose expert plays.
        encoder: Turns conversations into tokens.
        settings: Seed, batch size and number of iterations.
        start: First iteration wanted.

    Yields:
        Token ids and labels, both of shape (episodes_per_batch, longest episode of the batch), int64; labels are
        `IGNORED` outside of the responses.
    """
    pad_id = int(encoder.tokenizer.pad_token_id)
    for encoded in demonstrated(task, encoder, settings, start=start):
        yield _pad(encoded, pad_id)


def _pad(encoded: list[Encoded], pad_id: int) -> Batch:
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
    encoder = ChatML(tokenizer, STANDARD_TAGS.prefill)

    def backward(batch: Batch) -> tuple[float, int]:
        loss = response_loss(model, *batch)
        loss.backward()
        return loss.item(), batch[0].numel()

    losses = run_steps(
        model,
        settings,
        lambda start: batches(task, encoder, settings, start=start),
        backward,
        checkpoint=None
        if checkpoint is None
        else Checkpoint(path=checkpoint, identity={"task": task.command, **asdict(settings)}, every=checkpoint_every),
        report_every=report_every,
    )
    return model, losses
