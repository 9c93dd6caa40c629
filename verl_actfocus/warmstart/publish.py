"""Write a trained tiny model to a folder: weights, tokenizer, model card.

The tokenizer has a folder of its own. Beside a `qwen2` configuration, `AutoTokenizer` would take it for Qwen2's
own tokenizer and load something broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.storage.disk import writing
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.warmstart.evaluation import Evaluation
from verl_actfocus.warmstart.loop import TrainingSettings

MODEL_FOLDER = "model"
TOKENIZER_FOLDER = "tokenizer"
CARD = "README.md"
#: State of a training that goes on; removed once the model has its card.
CHECKPOINT = "checkpoint.pt"


def require_unfinished(folder: Path) -> None:
    """Refuse a folder with a model that has its card.

    Raises:
        ExperimentError: it holds one.
    """
    if (folder / CARD).exists() and not (folder / CHECKPOINT).exists():
        raise ExperimentError(f"{folder} holds a model with a card; choose another --out or delete the folder")


def save(folder: Path, model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write `folder/model` (float32) and `folder/tokenizer`."""
    for part, name in ((model, MODEL_FOLDER), (tokenizer, TOKENIZER_FOLDER)):
        with writing(folder / name):
            part.save_pretrained(folder / name)


def model_card(
    task: Miniature,
    settings: TrainingSettings,
    evaluations: Sequence[Evaluation],
    *,
    command: str,
    parameters: int,
    vocabulary: int,
    expert_success: float,
    token_ratio: float,
    final_loss: float,
) -> str:
    """Return the text of the model card; every figure is an argument, none is written by hand.

    Args:
        task: The task.
        settings: How the model was trained.
        evaluations: What was measured.
        command: The command that makes the model again.
        parameters: Number of parameters.
        vocabulary: Number of tokens.
        expert_success: Success of the noisy expert on the demonstrations.
        token_ratio: Reasoning tokens per action token in the demonstrations.
        final_loss: Loss per response token at the end of training, in nats.
    """
    limits = task.limits
    per_turn = "one action" if limits.actions_per_turn == 1 else f"{limits.actions_per_turn} actions"
    options = ", ".join(f"{name}={value}" for name, value in task.options.items()) or "defaults"
    rows = "\n".join(
        f"| {one.temperature:g} | {one.success:.1%} ± {one.success_error:.1%} | {one.well_formed:.1%} "
        f"| {one.valid:.1%} | {one.turns:.2f} | {one.response_tokens:.1f} |"
        for one in evaluations
    )
    return f"""# Tiny model: {task.environment}

A Qwen2-architecture model with {parameters:,} parameters and a vocabulary of {vocabulary} tokens, warm-started by
imitating a noisy expert. It is a starting point for reinforcement learning on a CPU, not a player: its reasoning
{task.knows}.

**Task.** `{task.environment}` ({options}); at most {limits.turns} turns, {per_turn} a turn,
{limits.actions} actions, {limits.response_tokens} tokens a response.

**Training.** {settings.iterations} iterations of {settings.episodes_per_batch} demonstrations (every episode is
used once), peak learning rate {settings.learning_rate:g}, seed {settings.seed}. The demonstrations succeed in
{expert_success:.1%} of their episodes and hold {token_ratio:.1f} reasoning tokens per action token. Loss over the
last iterations: {final_loss:.4f} nats per response token.

**Measured** on the environment seeds 0 to {evaluations[0].episodes - 1}, which no demonstration uses (± is the
standard error over episodes; a turn is valid if its response is well-formed and its actions are accepted):

| temperature | success | well-formed turns | valid turns | turns per episode | tokens per response |
|---|---|---|---|---|---|
{rows}

Made, measured and written by

    {command}

`{MODEL_FOLDER}/` holds the weights in float32, `{TOKENIZER_FOLDER}/` the tokenizer; keep the two apart (`AutoTokenizer`
takes a tokenizer beside a `qwen2` configuration for Qwen2's own).
"""
