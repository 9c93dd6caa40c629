"""The whole warm start of a task, from nothing to a folder with model, tokenizer and measured model card."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.episodes import STANDARD_TAGS
from verl_actfocus.storage.disk import write_whole
from verl_actfocus.storage.locks import locked
from verl_actfocus.warmstart.demonstrations import Demonstration, demonstrate
from verl_actfocus.warmstart.evaluation import EPISODES, Evaluation, check_episodes, evaluate
from verl_actfocus.warmstart.loop import TrainingSettings
from verl_actfocus.warmstart.publish import CARD, CHECKPOINT, model_card, require_unfinished, save
from verl_actfocus.warmstart.tokenizer import build_tokenizer
from verl_actfocus.warmstart.train import train

TOKENIZER_EPISODES = 2000  # enough to meet every sentence and every coordinate many times


def warm_start(
    task: Miniature,
    folder: Path,
    *,
    seed: int = 0,
    iterations: int | None = None,
    episodes_per_batch: int = 16,
    threads: int = 1,
    evaluation_episodes: int = EPISODES,
) -> list[Evaluation]:
    """Train, measure and write the tiny model of a task.

    A run that was interrupted carries on from `folder/checkpoint.pt`; the file is removed at the end.

    Args:
        task: The task.
        folder: Where `model/`, `tokenizer/` and `README.md` go.
        seed: Seed of demonstrations and weights.
        iterations: Optimizer steps; `None` takes the task's own number.
        episodes_per_batch: Demonstrations per step.
        threads: CPU threads.
        evaluation_episodes: Episodes to measure on.

    Returns:
        What was measured, one record per temperature.

    Raises:
        ValueError: If a number is out of range, or the checkpoint belongs to another run.
        ExperimentError: The folder holds a finished warm start or is in use; the disk is full.
    """
    torch.set_num_threads(threads)
    settings = TrainingSettings(
        iterations=task.iterations if iterations is None else iterations,
        episodes_per_batch=episodes_per_batch,
        seed=seed,
    )
    check_episodes(evaluation_episodes)
    require_unfinished(folder)
    with locked(folder):
        env = task.make_env()
        samples = [demonstrate(task, env, seed=seed, index=index) for index in range(TOKENIZER_EPISODES)]
        tokenizer = build_tokenizer([sample.messages for sample in samples], bpe_size=task.vocabulary)
        print(f"{task.command}: tokenizer of {len(tokenizer)} entries; training", flush=True)
        checkpoint = folder / CHECKPOINT
        model, losses = train(task, tokenizer, settings, checkpoint=checkpoint)
        save(folder, model, tokenizer)
        print("measuring", flush=True)
        evaluations = evaluate(folder, task, episodes=evaluation_episodes)
        measured_on = "" if evaluation_episodes == EPISODES else f" --episodes {evaluation_episodes}"
        card = model_card(
            task,
            settings,
            evaluations,
            command=f"actfocus warmstart {task.command} --out DIR --seed {seed} --iterations {settings.iterations} "
            f"--batch {episodes_per_batch}{measured_on}",
            parameters=model.num_parameters(),
            vocabulary=len(tokenizer),
            expert_success=sum(sample.success for sample in samples) / len(samples),
            token_ratio=token_ratio(samples, tokenizer),
            final_loss=sum(losses[-50:]) / len(losses[-50:]),
        )
        write_whole(folder / CARD, card.encode())
        checkpoint.unlink()
    for one in evaluations:
        print(
            f"temperature {one.temperature:g}: success {one.success:.1%} ± {one.success_error:.1%}, "
            f"well-formed turns {one.well_formed:.1%}, valid turns {one.valid:.1%}, "
            f"{one.response_tokens:.1f} tokens per response ({one.seconds:.0f} s)"
        )
    print(f"written to {folder}")
    return evaluations


def token_ratio(demonstrations: list[Demonstration], tokenizer: PreTrainedTokenizerBase) -> float:
    """Reasoning tokens per action token, tags counted in neither."""
    reasoning = action = 0
    opening, closing = STANDARD_TAGS.around_action
    for demonstration in demonstrations:
        for message in demonstration.messages:
            if message["role"] == "assistant":
                thought, answer = message["content"].split(f"{STANDARD_TAGS.reasoning[1]}{opening}")
                reasoning += len(tokenizer.encode(thought, add_special_tokens=False))
                action += len(tokenizer.encode(answer.removesuffix(closing), add_special_tokens=False))
    return reasoning / action
