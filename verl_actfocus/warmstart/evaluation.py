"""Measure a model on fixed episodes, before and after training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.episodes.tokens import Lengths
from verl_actfocus.evaluation.checkpoints import find_model
from verl_actfocus.evaluation.figures import Figure, figures, stop_reasons
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.progress import EvaluationProgress
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import run
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.warmstart.demonstrations import FIRST_TRAINING_SEED

TEMPERATURES = (1.0, 0.5, 0.0)
#: Episodes at each temperature, unless another number is asked for.
EPISODES = 256
#: Episodes under way at a time: of a tiny model, of a pretrained one, whose keys and values take more memory.
_AT_ONCE, _FEW_AT_ONCE = 64, 16


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a model did at one temperature.

    Attributes:
        temperature: Sampling temperature; 0 is greedy.
        episodes: Number of episodes.
        success: Share of episodes solved.
        success_error: Standard error of `success` over the episodes.
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


def check_episodes(episodes: int) -> None:
    """Refuse a number of episodes whose seeds the demonstrations have.

    Raises:
        ValueError: it is not between 1 and the first seed of the demonstrations.
    """
    if not 1 <= episodes <= FIRST_TRAINING_SEED:
        raise ValueError(f"episodes is {episodes}: it must be between 1 and {FIRST_TRAINING_SEED}")


def evaluate(
    folder: Path, task: Miniature, *, episodes: int = EPISODES, temperatures: Sequence[float] = TEMPERATURES
) -> list[Evaluation]:
    """Play the first `episodes` seeds of a task at each temperature.

    Args:
        folder: What `actfocus warmstart` wrote: `model/` and `tokenizer/`.
        task: The task; its demonstrations come from other seeds, and from other goals where it says so.
        episodes: Number of episodes; seeds 0, 1, … are used.
        temperatures: Sampling temperatures.

    Returns:
        One record per temperature, in order.

    Raises:
        ValueError: If `episodes` is not between 1 and the first seed of the demonstrations, or there is no model.
        RuntimeError: If an environment failed: its episode says nothing about the model.
    """
    check_episodes(episodes)
    model = LocalModel(find_model(str(folder)), device="cpu")
    context = model.model.config.max_position_embeddings
    evaluations = []
    for temperature in temperatures:
        settings = EvaluationSettings(
            environment=task.environment,
            options=task.options_in_evaluation,
            limits=task.limits,
            lengths=Lengths(prompt=context, response=context),
            tasks=episodes,
            samples=1,
            temperature=temperature,
        )
        began = time.perf_counter()
        with TemporaryDirectory() as records:
            played = _played(model, settings, EvaluationFolder(Path(records)), at_once=_AT_ONCE)
        evaluations.append(_summary(played, temperature, time.perf_counter() - began))
    return evaluations


@dataclass(frozen=True)
class Measured:
    """What a pretrained model did at one temperature.

    Attributes:
        settings: What was played.
        figures: Success, valid turns, …, with intervals, see `verl_actfocus.evaluation.figures`.
        stop_reasons: Number of episodes that ended for each reason.
    """

    settings: EvaluationSettings
    figures: list[Figure]
    stop_reasons: dict[str, int]

    def figure(self, name: str) -> Figure:
        """Return the figure of a name."""
        return next(figure for figure in self.figures if figure.name == name)


def measure(
    policy: LocalModel, evaluations: Sequence[EvaluationSettings], folder: Path, identity: Mapping[str, Any]
) -> list[Measured]:
    """Play evaluations of a model; episodes that the folder holds are not played again.

    Args:
        policy: The model.
        evaluations: What is played, at different temperatures.
        folder: Keeps the episodes, for `actfocus view` too.
        identity: What tells the model from another.

    Raises:
        ExperimentError: The folder holds episodes of another model or other settings.
        RuntimeError: An environment failed: its episode says nothing about the model.
    """
    measured = []
    for settings in evaluations:
        records = EvaluationFolder(folder / f"temperature-{settings.temperature:g}")
        with records.claimed({"model": dict(identity), "evaluation": settings.as_dict()}):
            played = _played(policy, settings, records, at_once=_FEW_AT_ONCE)
        measured.append(Measured(settings, figures(played), stop_reasons(played)))
    return measured


def _played(
    policy: LocalModel, settings: EvaluationSettings, folder: EvaluationFolder, *, at_once: int
) -> list[EpisodeRecord]:
    progress = EvaluationProgress(f"temperature {settings.temperature:g}", settings.episodes)
    attempt = run(policy, settings, folder, at_once=at_once, watch=progress.show)
    progress.close(attempt)
    if attempt.failures:
        raise RuntimeError(f"seed {attempt.failures[0].task}: {attempt.failures[0].failure}")
    return attempt.finished


def _summary(played: Sequence[EpisodeRecord], temperature: float, seconds: float) -> Evaluation:
    count = len(played)
    turns = [turn for one in played for turn in one.turns]
    success = sum(one.success for one in played) / count
    return Evaluation(
        temperature=temperature,
        episodes=count,
        success=success,
        success_error=math.sqrt(success * (1 - success) / count),
        well_formed=sum(turn.well_formed for turn in turns) / len(turns),
        valid=sum(turn.valid for turn in turns) / len(turns),
        turns=len(turns) / count,
        response_tokens=sum(turn.tokens for turn in turns) / len(turns),
        stop_reasons=stop_reasons(played),
        seconds=seconds,
    )
