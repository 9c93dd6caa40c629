"""Forks the ranks of every case that it reads: importing veRL takes seconds, and once is enough for all of them."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path

from tests.unit.integration.engine_rank import RUNS

#: What every rank would import by itself.
IMPORTED = ("verl.trainer.main_ppo", "verl.workers.engine_workers")
#: A rank whose peer has died waits for it; nothing here takes so long.
TIMEOUT_SECONDS = 300


def fork_rank(request: dict, rank: int) -> int:
    """Start a rank in a process of its own, which writes into a log of its own; returns the process."""
    process = os.fork()
    if process:
        return process
    code = 1
    signal.alarm(TIMEOUT_SECONDS)
    try:
        # From here on all output, that of compiled code too, belongs to the rank.
        with Path(f"{request['log']}.{rank}").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(request["world"]), MASTER_PORT=str(request["port"]))
        RUNS[request["what"]](request["arguments"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # The server's own way out, its open pipes and handlers, is none of the rank's business.
        os._exit(code)


def serve() -> None:
    """Run the cases that stand on the standard input, a line of JSON each; answer with the ranks' exit codes."""
    for module in IMPORTED:
        import_module(module)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        ranks = [fork_rank(request, rank) for rank in range(request["world"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in ranks]
        print(json.dumps(codes), file=answers, flush=True)


if __name__ == "__main__":
    serve()
