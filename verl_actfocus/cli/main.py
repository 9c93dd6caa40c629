"""The command ``actfocus``: one module of this package per subcommand.

Only the module of the subcommand that was asked for is imported, so that ``actfocus --help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

#: Subcommand → its module in this package and what the list of subcommands says about it.
COMMANDS = {
    "compare": ("compare", "train with Uniform and with ActFocus and report the difference (the main job)"),
    "train": ("train", "train one run: a miniature on the CPU or a recipe on GPUs"),
    "eval": ("evaluate", "measure how well a model plays, with confidence intervals"),
    "reproduce": ("reproduce", "make the paper's tables: train their runs and write them beside the paper's numbers"),
    "report": ("report", "make the report of a comparison again"),
    "doctor": ("doctor", "check the installation and this machine"),
    "play": ("play", "play one episode of an environment on the terminal"),
    "experts": ("experts", "measure how often the solvers of the environments win"),
    "prompt-lengths": ("prompt_lengths", "count the tokens of the environments' prompts for a model"),
    "bench-envs": ("benchmark_envs", "measure the speed of the environments"),
    "warmstart": ("warmstart", "train a tiny model from demonstrations"),
}
#: Exit codes: the user can do something about it; interrupted (128 + SIGINT, as shells count).
USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the arguments; None takes those of the process.

    Returns:
        The exit code: 0 for success, 2 with one sentence on the standard error for what a user can correct.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # argparse cannot tell words after -- from other positional arguments.
    end = words.index("--") if "--" in words else len(words)
    words, overrides = words[:end], tuple(words[end + 1 :])
    parser, module = _parser(words)
    options = parser.parse_args(words)
    if overrides and "overrides" not in options:
        parser.error(f"{options.command or 'actfocus'} takes no words after --")
    elif overrides:
        options.overrides = overrides
    if module is None:
        parser.print_help()
        return USER_ERROR
    # An ExperimentError explains itself, a ValueError is how every module refuses a value, an OSError names a file.
    from verl_actfocus.experiments.errors import ExperimentError

    try:
        return import_module(module).run(options)
    except (ExperimentError, ValueError, OSError) as error:
        if options.traceback:
            raise
        print(f"actfocus {options.command}: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"\nactfocus {options.command}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser(words: Sequence[str]) -> tuple[argparse.ArgumentParser, str | None]:
    """Build the parser, with the arguments of the one subcommand that is asked for.

    Returns:
        The parser and the module of the subcommand, None if there is none.
    """
    parser = argparse.ArgumentParser(prog="actfocus", description="ActFocus: token-weighted agentic RL on veRL.")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    asked = next((word for word in words if not word.startswith("-")), None)
    found = None
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == asked:
            found = f"{__package__}.{module}"
            import_module(found).add_arguments(command)
    return parser, found


if __name__ == "__main__":
    sys.exit(main())
