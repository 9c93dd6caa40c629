"""A run that ends leaves nothing running, however it ends, and two commands do not train in one folder."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil
import pytest

from verl_actfocus.experiments.execution.processes import MARK, processes_of, stop
from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.storage.errors import ExperimentError, RunFailedError

from ..standin import TRAINER, StandIn, make, train

pytestmark = pytest.mark.usefixtures("quick")

#: Starts a daemon that leaves the process group, as Ray's do, then goes on.
DAEMON = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("daemon", child.pid, flush=True)
"""


def daemon_of(run: StandIn) -> int:
    line = next(line for line in (run.folder / "log.txt").read_text().splitlines() if line.startswith("daemon"))
    return int(line.split()[1])


def test_daemons_of_a_failed_run_are_ended_and_other_processes_are_not(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    mark = {**os.environ, MARK: str(tmp_path / "another run")}
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=mark)
    try:
        with pytest.raises(RunFailedError):
            train(run, DAEMON + "sys.exit(3)")
        assert not _alive(daemon_of(run))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


class Interrupting(Display):
    """Stands for a user who presses Ctrl-C once the run's daemon is there."""

    def __init__(self, folder: Path) -> None:
        self.stream = io.StringIO()
        super().__init__("run", self.stream)
        self._log = folder / "log.txt"

    def show(self, line: str, news: bool) -> None:
        if "\ndaemon " in self._log.read_text():
            raise KeyboardInterrupt


def test_a_run_has_the_share_of_the_processor_that_its_command_has(tmp_path: Path) -> None:
    """A session of its own would begin with the usual share, whatever priority the grid was given."""
    own = Path("/proc/self/autogroup")
    code = (
        "import subprocess, sys; from pathlib import Path\n"
        "from verl_actfocus.experiments.execution.processes import share_priority\n"
        f"group = Path({str(own)!r})\n"
        "if group.exists(): group.write_text('11')\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "share_priority(child)\n"
        "mark = Path(f'/proc/{child.pid}/autogroup')\n"
        "print(mark.read_text() if group.exists() else 'nice 11')\n"
        "child.kill()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert done.stdout.strip().endswith("nice 11")


def test_ctrl_c_ends_the_run_and_its_daemons(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    display = Interrupting(run.folder)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(run, DAEMON + "time.sleep(60)", display=display)
    assert "ending the run's processes" in display.stream.getvalue()
    assert time.monotonic() - began < 20
    assert not _alive(daemon_of(run))
    assert processes_of(run.folder) == []
    assert json.loads((run.folder / "attempt-1.json").read_text())["exit_code"] != 0


def test_a_run_that_is_being_trained_is_not_started_twice(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    mark = {**os.environ, MARK: str(run.folder)}
    trainer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=mark)
    try:
        with pytest.raises(ExperimentError, match=f"process {trainer.pid} is still training there"):
            train(run, TRAINER, "0", "3")
    finally:
        trainer.kill()
        trainer.wait()


class Gone(Interrupting):
    """Stands for a terminal or pipe that is closed once the run's daemon is there."""

    def show(self, line: str, news: bool) -> None:
        if "\ndaemon " in self._log.read_text():
            raise BrokenPipeError("nobody reads this")

    def close(self, line: str) -> None:
        raise BrokenPipeError("nobody reads this either")


def test_a_closed_terminal_ends_the_run_and_its_daemons(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    with pytest.raises(BrokenPipeError) as error:
        train(run, DAEMON + "time.sleep(60)", display=Gone(run.folder))
    assert str(error.value) == "nobody reads this"
    assert not _alive(daemon_of(run))
    assert processes_of(run.folder) == []
    assert json.loads((run.folder / "attempt-1.json").read_text())["exit_code"] != 0


@pytest.fixture
def leaving() -> Iterator[None]:
    """Handlers as the command line has them: a signal ends the process."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("leaving")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_interrupt_the_end_of_the_processes(tmp_path: Path, number: signal.Signals) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None and process.stdout.read(1) == b"1"
    handler = signal.getsignal(number)
    again = threading.Timer(0.1, os.kill, (os.getpid(), number))
    again.start()
    stop(process, tmp_path)
    again.join()
    assert process.poll() == -signal.SIGKILL
    assert signal.getsignal(number) is handler
    process.stdout.close()


#: Trains in a process of its own, with a trainer that does not end.
COMMAND = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from standin import make, train
train(make(Path(sys.argv[1])), "import time; print('up', flush=True); time.sleep(60)")
"""


@pytest.fixture
def other_command(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another command, which trains in the folder `r`."""
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path / "r"), str(Path(__file__).parents[1])])
    log, until = tmp_path / "r/log.txt", time.monotonic() + 60
    while not log.exists() or "\nup" not in log.read_text():
        assert command.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    yield command
    command.kill()
    command.wait()
    for process in processes_of(tmp_path / "r"):
        process.kill()


def test_a_folder_belongs_to_one_command_and_is_free_again_when_that_was_killed(
    tmp_path: Path, other_command: subprocess.Popen[bytes]
) -> None:
    run = make(tmp_path / "r")
    begun = (run.folder / "run.json").read_text()
    for asked in (run, make(tmp_path / "r", steps=4)):
        with pytest.raises(ExperimentError, match="r is in use by another command"):
            train(asked, TRAINER, "0", "3")
    other_command.kill()
    other_command.wait()
    (trainer,) = processes_of(run.folder)
    with pytest.raises(ExperimentError, match=f"process {trainer.pid} is still training there"):
        train(make(tmp_path / "r", steps=4), TRAINER, "0", "4")
    assert (run.folder / "run.json").read_text() == begun
    trainer.kill()
    trainer.wait()
    assert train(run, TRAINER, "0", "3")["attempts"] == 2
    killed = json.loads((run.folder / "attempt-1.json").read_text())
    assert killed["exit_code"] is None and killed["seconds"] >= 0


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
