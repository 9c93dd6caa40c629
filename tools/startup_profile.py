"""What a run on the CPU does before its first step: the table of docs/performance.md.

    python -m tools.startup_profile --out outputs/startup

Trains one step of `cpu_frozenlake` with ActFocus and looks at all processes of the run meanwhile. For each it says when
it appeared, and how much CPU time it had spent when the first step began.
"""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tabulate import tabulate

from verl_actfocus.benchmarks.devices import variables_of
from verl_actfocus.benchmarks.report import conditions, conditions_line
from verl_actfocus.benchmarks.runs import BenchmarkRun
from verl_actfocus.benchmarks.variants import VARIANTS, run_overrides
from verl_actfocus.experiments.execution.processes import processes_of
from verl_actfocus.experiments.execution.progress import Display

LOOK_SECONDS = 0.25


@dataclass
class Seen:
    """A process of the run."""

    #: Seconds from the beginning of the run to the process's own.
    appeared: float
    title: str = ""
    #: (seconds from the beginning of the run, CPU seconds so far), of every look.
    spent: list[tuple[float, float]] = field(default_factory=list)

    def by(self, moment: float) -> float:
        """CPU seconds that it had spent at a moment, in seconds from the beginning of the run."""
        return max((cpu for at, cpu in self.spent if at <= moment), default=0.0)


class Watcher:
    """Looks at the processes of a run until it is told to stop."""

    def __init__(self, folder: Path) -> None:
        self.began = time.time()
        self.first_metrics: float | None = None
        self.seen: dict[psutil.Process, Seen] = {}
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        others: set[psutil.Process] = set()
        metrics = self._folder / "metrics.jsonl"
        while not self._stop.wait(LOOK_SECONDS):
            now = time.time() - self.began
            if self.first_metrics is None and metrics.exists() and metrics.read_text().strip():
                self.first_metrics = now
            for process in processes_of(self._folder, others):
                try:
                    times, words = process.cpu_times(), process.cmdline()
                    one = self.seen.setdefault(process, Seen(process.create_time() - self.began))
                except psutil.NoSuchProcess:
                    continue  # it ended meanwhile
                one.title = _title(words) or one.title
                one.spent.append((now, times.user + times.system))


def _title(words: list[str]) -> str:
    """What a command line is about: an actor, a module, a script or a program."""
    if words and words[0].startswith("ray::"):
        return words[0]
    if "-m" in words[:4]:
        return words[words.index("-m") + 1]
    return "".join([Path(word).name for word in words[:3] if not word.startswith("-")][-1:])


def main() -> None:
    """Run one step and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/startup"), help="folder that gets the run, as `run`")
    # A folder of its own below it: a run begins with an empty one.
    folder = parser.parse_args().out.resolve() / "run"
    overrides = run_overrides(
        VARIANTS["actfocus-kl"], "grpo", profile="cpu_frozenlake", device="cpu", steps=1, folder=folder, extra=()
    )
    run, found = BenchmarkRun(folder, overrides, 1, variables_of("cpu")), conditions()
    watcher = Watcher(folder)
    run.execute(Display("start-up"))
    watcher.stop()
    if watcher.first_metrics is None:
        raise SystemExit(f"{folder} has no metrics: see its log.txt")
    start = watcher.first_metrics - run.metrics()[1]["timing_s/step"]
    rows = [(one.title, one.appeared, one.by(start)) for one in watcher.seen.values() if one.by(start) >= 0.1]
    rows.sort(key=lambda row: row[1])
    print(f"The first step began after {start:.1f} s; until then {sum(row[2] for row in rows):.1f} s of CPU time.\n")
    print(tabulate(rows, headers=("process", "appeared (s)", "CPU (s)"), tablefmt="github", floatfmt=".1f"))
    print(f"\n{conditions_line(found)}")


if __name__ == "__main__":
    main()
