"""Question 1's pooled answer when the last checkpoints are evaluated otherwise, over the environments that have them.

    python -m tools.evidence.pooled_otherwise

Not declared: PROTOCOL.md pools the last evaluation of training, over all environments. Printed is the probability that
a run of ActFocus ends above one of Uniform, with its bootstrap interval over runs, and between what it lies over all
environments of the table, whatever it is in those without checkpoints.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from verl_actfocus.experiments.results.archive import Archive
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.run_result import RunResult
from verl_actfocus.experiments.results.run_statistics import probability_of_improvement
from verl_actfocus.experiments.results.statistics import Estimate
from verl_actfocus.experiments.tables.files import find_table, read_table
from verl_actfocus.experiments.tables.table import AS_IN_TRAINING

ARCHIVE = Path(__file__).parents[2] / "recipes/paper/results/confirmation-cpu.tar.xz"
TABLE = "confirmation_actfocus"
#: A run of question 1 in the archive: environment and weighting.
RUN = re.compile(r"cpu/(\w+)-grpo-40steps(?:-lr=[\d.e-]+)?/(uniform|actfocus)-seed\d+")
#: Evaluation → environment → weighting → final success of its runs.
Rates = dict[str, dict[str, dict[str, list[float]]]]


def rates() -> Rates:
    """Read the final success of every run of question 1 under every evaluation that it has, training's last first."""
    evaluations = read_table(find_table(TABLE)).evaluations
    found: Rates = {
        label: defaultdict(lambda: defaultdict(list))
        for label in (AS_IN_TRAINING, *(one.label for one in evaluations.values()))
    }
    archive = Archive(ARCHIVE)
    with TemporaryDirectory() as out:
        for name in sorted(archive.metrics()):
            if of := RUN.fullmatch(name):
                folder = RunFolder(Path(out) / name)
                archive.restore(name, folder)
                run = RunResult.read(folder.path)
                outcomes = {AS_IN_TRAINING: run.evaluations[-1].outcomes} | {
                    one.label: run.reevaluated(key, one.changes, "success") for key, one in evaluations.items()
                }
                for label, played in outcomes.items():
                    if played is not None:
                        found[label][of[1]][of[2]].append(played.rate)
    return found


def pooled(found: Rates, environments: list[str]) -> dict[str, Estimate]:
    """Return evaluation → probability of improvement over these environments."""
    return {
        label: probability_of_improvement(
            *([np.array(of[environment][method]) for environment in environments] for method in ("actfocus", "uniform"))
        )
        for label, of in found.items()
    }


def complete(found: Rates) -> list[str]:
    """Name the environments in which every run has every evaluation."""
    declared, *otherwise = found.values()
    return [
        environment
        for environment, of in sorted(declared.items())
        if all(len(one[environment][method]) == len(runs) for one in otherwise for method, runs in of.items())
    ]


def main() -> None:
    """Print it, an evaluation in each line."""
    found = rates()
    everywhere, common = sorted(found[AS_IN_TRAINING]), complete(found)
    if not common:
        raise SystemExit(f"in none of {', '.join(everywhere)} has every run been evaluated otherwise (--evaluate)")
    known = pooled({AS_IN_TRAINING: found[AS_IN_TRAINING]}, everywhere)
    print(f"over {', '.join(common)}; in brackets over {', '.join(everywhere)}, whatever it is where it is not known:")
    for label, estimate in pooled(found, common).items():
        low, high = estimate.interval or (estimate.value, estimate.value)
        share = estimate.value * len(common) / len(everywhere)
        most = share + 1 - len(common) / len(everywhere)
        over_all = f"{100 * known[label].value:.0f}" if label in known else f"{100 * share:.0f} to {100 * most:.0f}"
        print(f"{label}: {100 * estimate.value:.0f} % [{100 * low:.0f}, {100 * high:.0f}] ({over_all} %)")


if __name__ == "__main__":
    main()
