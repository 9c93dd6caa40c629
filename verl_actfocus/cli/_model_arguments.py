"""Command-line arguments of the subcommands that load a model on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verl_actfocus.evaluation.checkpoints import ModelSource
    from verl_actfocus.evaluation.local import LocalModel


def add_local_model_arguments(group: argparse._ArgumentGroup) -> None:
    """Add tokenizer, device and number format of the model that `--model` names."""
    group.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="tokenizer and configuration, named like a model, or a folder of them (default: the model's)",
    )
    group.add_argument("--device", help="cpu or cuda (default: a GPU if there is one)")
    group.add_argument(
        "--dtype", choices=["float32", "bfloat16"], help="number format (default: float32 on a CPU, bfloat16 on a GPU)"
    )


def local_model(
    name: str, *, tokenizer: str | None = None, device: str | None = None, dtype: str | None = None
) -> LocalModel:
    """Load a model that the user names, merged before if it is a checkpoint.

    Args:
        name: of the model.
        tokenizer, device, dtype: as of `add_local_model_arguments`.

    Raises:
        ValueError: there is no model, or one that continuous batching does not serve.
    """
    from verl_actfocus.evaluation.checkpoints import find_model, find_tokenizer
    from verl_actfocus.evaluation.local import LocalModel

    source = find_model(name)
    identity = source.fingerprint()
    source = merged(source)
    if tokenizer is not None:
        source = dataclasses.replace(source, tokenizer=find_tokenizer(tokenizer).tokenizer)
    return LocalModel(source, identity=identity, device=device, dtype=dtype)


def merged(source: ModelSource) -> ModelSource:
    """Merge a checkpoint, and say so; anything else is returned as it is."""
    from verl_actfocus.evaluation.checkpoints import merge

    if source.shards is None:
        return source
    print(
        f"merging {source.shards} with veRL's model merger, unless that was done before or another command is doing it "
        "now",
        file=sys.stderr,
    )
    source = merge(source)
    print(f"merged model (bfloat16): {source.model}", file=sys.stderr)
    return source


def short_name(name: str) -> str:
    """Return a model's or run's name as part of a folder's: the last two parts of its path."""
    parts = [part for part in Path(name).expanduser().parts if part.strip("/.")]
    return re.sub(r"[^\w.-]+", "-", "-".join(parts[-2:])) or "model"
