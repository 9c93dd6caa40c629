"""Measure a tiny model on fixed episodes, before and after training."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from verl_actfocus.warmstart.sampling import PlayedEpisode, play_episodes
from verl_actfocus.warmstart.tasks import FIRST_TRAINING_SEED, Task

TEMPERATURES = (1.0, 0.5, 0.0)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a model did at one temperature.

    Attributes:
        temperature: Sampling temperature; 0 is greedy.
        episodes: Number of episodes.
        success: Share of episodes solved.
        success_error: Standard error of ``success`` over the episodes.
        well_formed: Share of turns whose response kept to the format.
        valid: Share of turns that were well-formed and whose actions the environment accepted.
        turns: Mean turns per episode.
        response_tokens: Mean sampled tokens per turn.
        stop_reasons: Number of episodes that ended for each reason.
        seconds: Time taken.
    """

    temperature: float
    episodes: int
    success: float
    success_error: float
    well_formed: float
    valid: float
    turns: float
    response_tokens: float
    stop_reasons: dict[str, int]
    seconds: float


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    episodes: int = 256,
    temperatures: Sequence[float] = TEMPERATURES,
) -> list[Evaluation]:
    """Play the first ``episodes`` seeds of a task at each temperature.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        task: The task; its demonstrations come from other seeds, and from other goals where it says so.
        episodes: Number of episodes; seeds 0, 1, … are used.
        temperatures: Sampling temperatures.

    Returns:
        One record per temperature, in order.

    Raises:
        ValueError: If ``episodes`` is not between 1 and the first seed of the demonstrations.
    """
    if not 1 <= episodes <= FIRST_TRAINING_SEED:
        raise ValueError(f"episodes is {episodes}: it must be between 1 and {FIRST_TRAINING_SEED}")
    evaluations = []
    for temperature in temperatures:
        began = time.perf_counter()
        played = play_episodes(
            model, tokenizer, task.make_evaluation_env, task.limits, range(episodes), temperature=temperature
        )
        evaluations.append(_summary(played, temperature, time.perf_counter() - began))
    return evaluations


def _summary(played: Sequence[PlayedEpisode], temperature: float, seconds: float) -> Evaluation:
    count = len(played)
    turns = sum(len(one.responses) for one in played)
    success = sum(one.success for one in played) / count
    return Evaluation(
        temperature=temperature,
        episodes=count,
        success=success,
        success_error=math.sqrt(success * (1 - success) / count),
        well_formed=sum(one.well_formed_turns for one in played) / turns,
        valid=sum(one.valid_turns for one in played) / turns,
        turns=turns / count,
        response_tokens=sum(one.response_tokens for one in played) / turns,
        stop_reasons=dict(Counter(one.stop_reason.value for one in played if one.stop_reason is not None)),
        seconds=seconds,
    )
