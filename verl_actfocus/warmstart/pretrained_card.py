"""The card of a pretrained model after its warm start; every figure is an argument, none is written by hand."""

from __future__ import annotations

from collections.abc import Sequence

from verl_actfocus.evaluation.figures import Figure
from verl_actfocus.warmstart.evaluation import Measured
from verl_actfocus.warmstart.lesson import Lesson
from verl_actfocus.warmstart.loop import TrainingSettings

#: Figures of the table: name in `summary.json`.
_COLUMNS = ("success", "valid_turn_rate", "turns", "response_tokens_per_turn")


def pretrained_card(
    model: str,
    lesson: Lesson,
    settings: TrainingSettings,
    losses: Sequence[float],
    before: Sequence[Measured],
    after: Sequence[Measured],
    *,
    command: str,
    lora_rank: int | None,
    dtype: str,
) -> str:
    """Return the text of the card.

    Args:
        model: The model that was taught, as it was named.
        lesson: What it was taught.
        settings: How.
        losses: Loss of every iteration.
        before: What was measured before.
        after: What was measured after.
        command: The command that makes the model again.
        lora_rank: Rank of the adapters, None if all weights were trained.
        dtype: Number format of the forward pass.
    """
    limits, task = lesson.task.limits, lesson.task
    options = ", ".join(f"{name}={value}" for name, value in task.options.items()) or "defaults"
    per_turn = "any number of" if limits.actions_per_turn is None else f"{limits.actions_per_turn}"
    trained = "all weights" if lora_rank is None else f"LoRA adapters of rank {lora_rank}, merged into the weights"
    return f"""# {model}, warm-started on {task.environment}

The model `{model}` after it imitated a noisy expert, which taught it the response format and the task. Its reasoning
{task.knows}. It is a starting point for reinforcement learning. The licence of the model that it was made from holds.

**Task.** `{task.environment}` ({options}); at most {limits.turns} turns, {per_turn} actions a turn,
{limits.actions} actions, {limits.words} words asked for, {limits.response_tokens} tokens a response. Prompt style
`{lesson.prompt_style}`.

**Training.** {settings.iterations} iterations of {settings.episodes_per_batch} demonstrations, every one used once, on
{trained}; peak learning rate {settings.learning_rate:g}, seed {settings.seed}, forward pass in {dtype}. Loss on the
tokens of the responses alone: {_mean(losses[:5]):.4f} nats per token in the first iterations, {_mean(losses[-5:]):.4f}
in the last.

**Measured** on the environment seeds 0 to {before[0].settings.tasks - 1}, which no demonstration uses (95 % intervals
over the tasks; a turn is valid if its response is well-formed and its actions are accepted):

| temperature | | success | valid turns | turns per episode | tokens per response |
|---|---|---|---|---|---|
{_rows(before, after)}

Made, measured and written by

    {command}

The episodes of both evaluations are in `evaluations/`; `actfocus view evaluations/after/temperature-0` shows them.
"""


def _rows(before: Sequence[Measured], after: Sequence[Measured]) -> str:
    rows = []
    for pair in zip(before, after, strict=True):
        for when, one in zip(("before", "after"), pair, strict=True):
            cells = " | ".join(_cell(one.figure(name)) for name in _COLUMNS)
            rows.append(f"| {one.settings.temperature:g} | {when} | {cells} |")
    return "\n".join(rows)


def _cell(figure: Figure) -> str:
    """Value and interval as text."""
    factor, digits, unit = (100, 1, " %") if figure.is_share else (1, 2, "")
    text = f"{factor * figure.estimate.value:.{digits}f}{unit}"
    if figure.estimate.interval is None:
        return text
    low, high = figure.estimate.interval
    return f"{text} [{factor * low:.{digits}f}, {factor * high:.{digits}f}]"


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)
