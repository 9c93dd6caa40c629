"""`actfocus warmstart`: train a tiny model from demonstrations, measure it and write it to a folder."""

from __future__ import annotations

import argparse

from verl_actfocus import envs
from verl_actfocus.cli._values import positive, seed, writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument("env", choices=envs.having("miniature"), help="environment whose miniature is learnt")
    parser.add_argument("--out", type=writable, required=True, metavar="DIR", help="folder for model, tokenizer, card")
    parser.add_argument("--seed", type=seed, default=0, help="seed of demonstrations and weights (default 0)")
    parser.add_argument("--iterations", type=positive, help="optimizer steps (default: the miniature's own number)")
    parser.add_argument("--batch", type=positive, default=16, help="demonstrations per step (default 16)")
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads (default 1)")
    parser.add_argument("--episodes", type=positive, default=256, help="episodes to measure on (default 256)")


def run(args: argparse.Namespace) -> int:
    """Train (or carry on from `DIR/checkpoint.pt`), measure, write; return the exit code."""
    # Imported here so that `actfocus --help` need not wait for torch and transformers.
    from verl_actfocus.warmstart.pipeline import warm_start

    warm_start(
        envs.miniature(args.env),
        args.out,
        seed=args.seed,
        iterations=args.iterations,
        episodes_per_batch=args.batch,
        threads=args.threads,
        evaluation_episodes=args.episodes,
    )
    return 0
