"""`actfocus warmstart`: teach a tiny or a pretrained model by demonstrations, measure it, write it to a folder."""

from __future__ import annotations

import argparse
import shlex

from verl_actfocus import envs
from verl_actfocus.cli._environment_arguments import add_prompt_style_argument, add_template_argument
from verl_actfocus.cli._values import learning_rate, positive, seed, writable
from verl_actfocus.envs.demonstrations import DECIDED_BY, Miniature

#: Arguments that say something about a pretrained model alone.
_OF_A_PRETRAINED_MODEL = ("lora", "learning_rate", "response_tokens", "prompt_style", "template", "device", "dtype")
#: Prompt style of pretrained models.
_STYLE = "worked_turn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Train a model on demonstrations of a noisy expert. Without --model a tiny model is made from nothing, with a "
        "tokenizer of its own; with --model a pretrained one is taught the response format and the task, prompts in "
        "its own tokens and template, and measured before and after. The same command continues what was interrupted."
    )
    parser.add_argument("env", choices=envs.having("miniature"), help="environment whose miniature is learnt")
    parser.add_argument("--out", type=writable, required=True, metavar="DIR", help="folder for model, tokenizer, card")
    parser.add_argument(
        "--decides",
        choices=DECIDED_BY,
        help="what decides about a step in the demonstrations, for experiments: the action after a reasoning that "
        "names none, the reasoning that the action copies, or both (default: the action, after a true reasoning)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of demonstrations and weights (default 0)")
    parser.add_argument(
        "--iterations", type=positive, help="optimizer steps (default: the miniature's own number; with --model 100)"
    )
    parser.add_argument("--batch", type=positive, help="demonstrations per step (default 16; with --model 8)")
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads (default 1)")
    parser.add_argument("--episodes", type=positive, help="episodes to measure on (default 256; with --model 32)")
    group = parser.add_argument_group("a pretrained model")
    group.add_argument("--model", metavar="PATH", help="folder or hub name of the model that is taught")
    group.add_argument("--lora", action="store_true", help="train adapters and merge them, instead of all weights")
    group.add_argument("--learning-rate", type=learning_rate, help="peak (default 1e-4, with --lora 5e-4)")
    group.add_argument(
        "--response-tokens",
        type=positive,
        metavar="N",
        help="most tokens of a response (default: those of the longest demonstration and a little room)",
    )
    group.add_argument("--device", help="cpu or cuda (default: a GPU if there is one)")
    group.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        help="number format of the training's forward pass (default: float32 on a CPU, bfloat16 on a GPU); bfloat16 is "
        "faster on CPUs that compute it natively",
    )
    add_prompt_style_argument(parser, default=f"{_STYLE} with --model")
    add_template_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train (or carry on from `DIR/checkpoint.pt`), measure, write; return the exit code.

    Raises:
        ValueError: An argument is of pretrained models and none is named, or the model cannot be taught.
        ExperimentError: The folder cannot be used.
    """
    if args.model is not None:
        return _pretrained(args)
    given = [f"--{name.replace('_', '-')}" for name in _OF_A_PRETRAINED_MODEL if vars(args)[name]]
    if given:
        raise ValueError(f"{', '.join(given)}: only a pretrained model is taught so; name one with --model")
    # Imported here so that `actfocus --help` need not wait for torch and transformers.
    from verl_actfocus.warmstart.pipeline import warm_start

    warm_start(
        _task(args),
        args.out,
        seed=args.seed,
        iterations=args.iterations,
        episodes_per_batch=args.batch or 16,
        threads=args.threads,
        evaluation_episodes=args.episodes or 256,
    )
    return 0


def _task(args: argparse.Namespace) -> Miniature:
    task = envs.miniature(args.env)
    return task if args.decides is None else task.decided_by(args.decides)


def _pretrained(args: argparse.Namespace) -> int:
    import torch

    from verl_actfocus.evaluation import table
    from verl_actfocus.warmstart import pretrained
    from verl_actfocus.warmstart.loop import TrainingSettings

    torch.set_num_threads(args.threads)
    iterations = args.iterations or pretrained.ITERATIONS
    usual = pretrained.LORA_LEARNING_RATE if args.lora else pretrained.LEARNING_RATE
    settings = TrainingSettings(
        iterations=iterations,
        episodes_per_batch=args.batch or pretrained.EPISODES_PER_BATCH,
        learning_rate=args.learning_rate or usual,
        warmup_iterations=min(10, iterations),
        weight_decay=0.0,
        seed=args.seed,
    )
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    options = pretrained.Options(
        prompt_style=args.prompt_style or _STYLE,
        template=dict(args.template),
        response_tokens=args.response_tokens,
        lora=args.lora,
        episodes=args.episodes or pretrained.EPISODES,
        device=device,
        dtype=args.dtype or ("float32" if device == "cpu" else "bfloat16"),
    )
    command = _command(args, settings, options)
    before, after = pretrained.warm_start_pretrained(_task(args), args.model, args.out, settings, options, command)
    for when, measured in (("before", before), ("after", after)):
        for one in measured:
            print(f"\n{when}, temperature {one.settings.temperature:g}")
            print(table.table(one.figures, one.stop_reasons))
    print(f"written to {args.out}")
    return 0


def _command(args: argparse.Namespace, settings: object, options: object) -> str:
    """Return the command that makes the model again, with every number that it depends on."""
    values = {**vars(settings), **vars(options)}
    words = [
        "actfocus",
        "warmstart",
        *_task(args).command.split(),
        "--model",
        args.model,
        "--out",
        "DIR",
        "--seed",
        args.seed,
    ]
    words += ["--iterations", values["iterations"], "--batch", values["episodes_per_batch"]]
    words += ["--learning-rate", f"{values['learning_rate']:g}", "--prompt-style", values["prompt_style"]]
    words += ["--episodes", values["episodes"], "--dtype", values["dtype"], *(["--lora"] if args.lora else [])]
    words += ["--response-tokens", args.response_tokens] if args.response_tokens else []
    words += [word for key, value in args.template for word in ("--template", f"{key}={value}")]
    return shlex.join(map(str, words))
