"""The command `actfocus`: one module of this package per subcommand.

Only the module of the subcommand that was asked for is imported, so that `actfocus --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from verl_actfocus.cli._codes import INTERRUPTED, USER_ERROR
from verl_actfocus.experiments.execution.logs import OTHER_ENGINES
from verl_actfocus.experiments.runs.hydra_words import MODULES_VARIABLE

#: Subcommand → its module in this package and what the list of subcommands says about it.
COMMANDS = {
    "compare": ("compare", "train with Uniform and with ActFocus and report the difference (the main job)"),
    "train": ("train", "train one run: a miniature on the CPU or a recipe on GPUs"),
    "eval": ("evaluate", "measure how well a model plays, with confidence intervals"),
    "diagnose": ("diagnose", "measure where the return is decided: in the reasoning, in the action, or after it"),
    "reproduce": ("reproduce", "make the paper's tables: train their runs and write them beside the paper's numbers"),
    "report": ("report", "make the report of a comparison again, or one of any veRL runs from their metrics"),
    "view": ("view", "look at trajectories in a browser, token by token"),
    "doctor": ("doctor", "check the installation and this machine"),
    "play": ("play", "play one episode of an environment on the terminal"),
    "experts": ("experts", "measure how often the solvers of the environments win"),
    "prompt-lengths": ("prompt_lengths", "count the tokens of the environments' prompts for a model"),
    "bench": ("bench", "measure what this package costs: training steps, environments, tagging, transport"),
    "model": ("model", "fetch a small pretrained model, for a laptop"),
    "warmstart": ("warmstart", "teach a tiny or a pretrained model by demonstrations"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; None takes those of the process.

    Returns:
        The exit code: 0 for success, 2 with one sentence on the standard error for what a user can correct.
    """
    warnings.filterwarnings("ignore", OTHER_ENGINES)
    words = list(sys.argv[1:] if arguments is None else arguments)
    # argparse cannot tell words after -- from other positional arguments.
    end = words.index("--") if "--" in words else len(words)
    words, overrides = words[:end], tuple(words[end + 1 :])
    common, words = _COMMON.parse_known_args(words)
    try:
        _import_modules(common.module)
    except ImportError as error:
        if common.traceback:
            raise
        print(f"actfocus: {error}", file=sys.stderr)
        return USER_ERROR
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
    from verl_actfocus.storage.errors import ExperimentError

    try:
        return import_module(module).run(options)
    except (ExperimentError, ValueError, OSError) as error:
        if common.traceback:
            raise
        print(f"actfocus {options.command}: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"\nactfocus {options.command}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _common_arguments() -> argparse.ArgumentParser:
    """Build the parser of what may stand anywhere on the command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = parser.add_argument_group("every command")
    group.add_argument("--traceback", action="store_true", help="show where an error comes from")
    group.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="NAME",
        help="module that registers an environment, a weighting or an estimator of your own; looked for on PYTHONPATH "
        f"and in the current directory; may be repeated, and adds to {MODULES_VARIABLE}",
    )
    return parser


_COMMON = _common_arguments()


def _import_modules(named: Sequence[str]) -> None:
    """Import the user's modules, here and in every process that this one starts.

    Args:
        named: Modules that the command line names; those of `MODULES_VARIABLE` come before them.

    Raises:
        ImportError: A module is not found, or refuses something; the message says which and why.
    """
    names = [name.strip() for name in os.environ.get(MODULES_VARIABLE, "").split(",") if name.strip()]
    names = list(dict.fromkeys([*names, *named]))
    if not names:
        return
    # Processes of a cluster may run elsewhere, where a relative entry would lead nowhere.
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    folders = list(dict.fromkeys(str(Path(entry).resolve()) for entry in [*given, "."]))
    sys.path += [folder for folder in folders if folder not in sys.path]
    os.environ.update({MODULES_VARIABLE: ",".join(names), "PYTHONPATH": os.pathsep.join(folders)})
    for name in names:
        try:
            import_module(name)
        except (ImportError, ValueError) as error:  # the latter is how a registry refuses a class
            looked = f"; modules are looked for on PYTHONPATH and in {Path.cwd()}"
            where = looked if isinstance(error, ImportError) else ""
            raise ImportError(f"--module {name} (or {MODULES_VARIABLE}) cannot be imported: {error}{where}") from error


def _parser(words: Sequence[str]) -> tuple[argparse.ArgumentParser, str | None]:
    """Build the parser, with the arguments of the one subcommand that is asked for.

    Args:
        words: The words of the command line without those of `_COMMON`.

    Returns:
        The parser and the module of the subcommand, None if there is none.
    """
    description = "ActFocus: token-weighted agentic RL on veRL."
    parser = argparse.ArgumentParser(prog="actfocus", description=description, parents=[_COMMON])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    asked = next((word for word in words if not word.startswith("-")), None)
    found = None
    for name, (module, summary) in COMMANDS.items():
        # Nothing abbreviated: --module is read before a subcommand sees it, in full.
        command = commands.add_parser(name, help=summary, parents=[_COMMON], allow_abbrev=False)
        if name == asked:
            found = f"{__package__}.{module}"
            import_module(found).add_arguments(command)
    return parser, found


if __name__ == "__main__":
    sys.exit(main())
