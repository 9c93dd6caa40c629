"""The warm start of a pretrained model: the demonstrations teach it the response format and the task.

The prompts are those of training and evaluation, in the model's own tokens and template. The loss is on the tokens of
the demonstrated responses; a worked turn in the prompt carries none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.evaluation.checkpoints import ModelSource, find_model, merge
from verl_actfocus.evaluation.local import DTYPES, LocalModel
from verl_actfocus.storage.disk import write_whole, writing
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import locked
from verl_actfocus.warmstart.evaluation import Measured, measure
from verl_actfocus.warmstart.lesson import TAGS, prepare
from verl_actfocus.warmstart.loop import Checkpoint, TrainingSettings, run_steps
from verl_actfocus.warmstart.pretrained_card import pretrained_card
from verl_actfocus.warmstart.publish import CARD, CHECKPOINT, MODEL_FOLDER, TOKENIZER_FOLDER, require_unfinished
from verl_actfocus.warmstart.train import Encoded, demonstrated

#: Rank of the adapters.
LORA_RANK = 16
#: Learning rate of all weights, and of adapters.
LEARNING_RATE, LORA_LEARNING_RATE = 1e-4, 5e-4
ITERATIONS, EPISODES_PER_BATCH = 100, 8
#: Temperatures that the model is measured at: that of training, and the most likely tokens.
TEMPERATURES = (1.0, 0.0)
EPISODES = 32


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a warm start of a pretrained model is asked for.

    Attributes:
        prompt_style: How the prompts ask for the response format.
        template: Arguments of the chat template.
        response_tokens: Most tokens of a response; None goes by the demonstrations.
        lora: Whether adapters are trained, and merged at the end.
        episodes: Episodes that the model is measured on, before and after.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: Number format of the training's forward pass, a name in `DTYPES`; weights, gradients and what is measured
            are float32.
    """

    prompt_style: str
    template: Mapping[str, Any]
    device: str
    dtype: str
    response_tokens: int | None = None
    lora: bool = False
    episodes: int = EPISODES


def warm_start_pretrained(
    task: Miniature, model: str, folder: Path, settings: TrainingSettings, options: Options, command: str
) -> tuple[list[Measured], list[Measured]]:
    """Measure a pretrained model, train it on demonstrations, measure it again, and write it with a card.

    A run that was interrupted carries on: episodes that were played are not played again, training goes on from
    `folder/checkpoint.pt`, which is removed at the end.

    Args:
        task: The miniature of an environment.
        model: The model, see `find_model`.
        folder: Where the model, its card and the episodes of both evaluations go.
        settings: Length, rates and seed of the training.
        options: What else was asked for.
        command: The command, for the card.

    Returns:
        What was measured before and after, a record for each temperature.

    Raises:
        ValueError: There is no model, it cannot be played with, or the checkpoint is of another run.
        ExperimentError: The folder is the model's own, holds a finished warm start, or is in use; the disk is full.
    """
    source = merge(find_model(model))
    _check(folder, source)
    with locked(folder):
        policy = LocalModel(source, device=options.device, dtype="float32")
        prompts = policy.prompts(TAGS, options.template)
        lesson = prepare(
            task,
            prompts,
            prompt_style=options.prompt_style,
            template=options.template,
            response_tokens=options.response_tokens,
            seed=settings.seed,
        )
        print(
            f"{task.environment}, prompt style {lesson.prompt_style}: at most {lesson.task.limits.response_tokens} "
            f"tokens a response, {lesson.most_tokens} an episode; measuring the model before",
            flush=True,
        )
        identity = {
            **source.fingerprint(),
            "task": task.command,
            "prompt_style": lesson.prompt_style,
            "template": dict(lesson.template),
            "response_tokens": lesson.task.limits.response_tokens,
            "lora_rank": LORA_RANK if options.lora else None,
        }
        evaluations = [lesson.evaluation(temperature, options.episodes) for temperature in TEMPERATURES]
        before = measure(policy, evaluations, folder / "evaluations" / "before", identity)
        policy.close()

        print("training", flush=True)
        identity |= {**asdict(settings), "dtype": options.dtype}
        trained, losses = train(
            policy.model,
            demonstrations=lambda start: demonstrated(
                lesson.task, prompts, settings, start=start, phrasing=lesson.phrasing()
            ),
            settings=settings,
            lora=options.lora,
            dtype=DTYPES[options.dtype],
            checkpoint=Checkpoint(path=folder / CHECKPOINT, identity=identity, every=10),
        )
        _save(trained, policy, source, folder)
        print("measuring the model after", flush=True)
        taught = LocalModel(find_model(str(folder)), device=options.device, dtype="float32")
        after = measure(taught, evaluations, folder / "evaluations" / "after", identity)
        card = pretrained_card(
            model,
            lesson,
            settings,
            losses,
            before,
            after,
            command=command,
            lora_rank=identity["lora_rank"],
            dtype=options.dtype,
        )
        write_whole(folder / CARD, card.encode())
        (folder / CHECKPOINT).unlink()
    return before, after


def train(
    model: PreTrainedModel,
    demonstrations: Any,
    settings: TrainingSettings,
    *,
    lora: bool,
    dtype: torch.dtype = torch.float32,
    checkpoint: Checkpoint | None = None,
) -> tuple[PreTrainedModel, list[float]]:
    """Train a pretrained model, all of it or adapters that are merged at the end.

    Args:
        model: The model in float32.
        demonstrations: Yields the conversations of a batch, from an iteration on.
        settings: Length, rates and seed of the run.
        lora: Whether adapters are trained.
        dtype: Number format of the forward pass (and so of the gradient's products).
        checkpoint: Where to keep the state.

    Returns:
        The model, and the loss of every iteration.
    """
    learner: Any = model
    if lora:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            config = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules="all-linear")
            learner = get_peft_model(model, config)

    def backward(batch: Sequence[Encoded]) -> tuple[float, int]:
        return response_gradient(learner, batch, dtype)

    losses = run_steps(learner, settings, demonstrations, backward, checkpoint=checkpoint, report_every=5)
    return (learner.merge_and_unload() if lora else model), losses


def response_gradient(
    model: PreTrainedModel, batch: Sequence[Encoded], dtype: torch.dtype = torch.float32
) -> tuple[float, int]:
    """Add the gradient of the mean negative log-likelihood of a batch's response tokens.

    One conversation after another, without padding; logits are computed for the response tokens alone.

    Args:
        model: The model, or one with adapters.
        batch: Token ids and masks of conversations.
        dtype: Number format of the forward pass; the loss is float32.

    Returns:
        The mean in nats, and the tokens of the conversations.
    """
    wanted = sum(sum(mask[1:]) for _, mask in batch)
    loss = 0.0
    for ids, mask in batch:
        ids_1T = torch.tensor([ids], device=model.device)
        # The logits at a place are of the token behind it.
        places = torch.tensor(mask[1:], device=model.device).nonzero().flatten()
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            logits_RV = model(input_ids=ids_1T[:, :-1], logits_to_keep=places, use_cache=False).logits[0]
        nats = torch.nn.functional.cross_entropy(logits_RV.float(), ids_1T[0, places + 1], reduction="sum") / wanted
        nats.backward()
        loss += nats.item()
    return loss, sum(len(ids) for ids, _ in batch)


def _check(folder: Path, source: ModelSource) -> None:
    """Refuse a folder that must not be written to."""
    if folder.resolve() in (Path(source.model).resolve(), Path(source.model).resolve().parent):
        raise ExperimentError(f"{folder} is the model's own folder; name another one for the warm-started model")
    require_unfinished(folder)


def _save(model: PreTrainedModel, policy: LocalModel, source: ModelSource, folder: Path) -> None:
    """Write weights and tokenizer side by side as the source has them, or into two folders as a tiny model has them."""
    together = source.model == source.tokenizer
    weights = folder if together else folder / MODEL_FOLDER
    tokenizer = folder if together else folder / TOKENIZER_FOLDER
    with writing(weights):
        model.save_pretrained(weights)
    with writing(tokenizer):
        policy.tokenizer.save_pretrained(tokenizer)
