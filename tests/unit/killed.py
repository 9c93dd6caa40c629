"""What a kill leaves: work that ends in the middle, and of which nothing is cleaned up."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

#: How a process ends in the place of a kill.
_KILLED = 137


def die(*_: object, **__: object) -> NoReturn:
    """End this process at once; stands in for what `killed` is not to come to."""
    os._exit(_KILLED)


def killed(work: Callable[[], object]) -> bool:
    """Do work in a process of its own; return whether it died of it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:  # whatever happens, the tests go on in one process
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, _KILLED)
    return code == _KILLED
