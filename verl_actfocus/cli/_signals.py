"""What ends a command that has started processes ends them, too."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def exit_on_signals() -> None:
    """Let the signals of batch systems and closed terminals end what the command has started, like Ctrl-C.

    One that whoever started the command has switched off, as `nohup` does, stays so.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
