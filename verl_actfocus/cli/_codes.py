"""Exit codes of the commands, beside 0."""

#: A run failed, or episodes or states are missing: the same command continues.
INCOMPLETE = 1
#: What was asked for is refused, argparse's own code.
USER_ERROR = 2
#: Ended by Ctrl-C: 128 + SIGINT, as shells count.
INTERRUPTED = 130
