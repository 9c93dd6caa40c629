"""In which runs of an archive the format held: the share of well-formed turns at every evaluation.

    python -m tools.evidence.valid_turns recipes/paper/results/{,other-methods/}*.tar.xz

Runs of before that share was recorded have the share of valid turns instead; `--valid` takes that of every run, as the
protocol's stage 6 declared. A turn is valid whose response was well-formed and of which the environment refused nothing
(docs/metrics.md): where it refuses many moves, as Sudoku does before training, valid turns rise with skill, and say
less of the format. ActFocus weights what stands outside an action
by α, reasoning and tags alike: what holds the format there is α alone.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from scipy import stats

from tools.evidence.published import ALGORITHMS
from verl_actfocus.experiments.report.steps import TURNS
from verl_actfocus.experiments.results.archive import Archive
from verl_actfocus.experiments.runs.weightings import ACTFOCUS
from verl_actfocus.storage.errors import ExperimentError

#: A run is named that loses so many points of those turns since an earlier evaluation.
FALL = 5.0
VALID = "val/valid_turn_rate"


@dataclass(frozen=True)
class Run:
    """What the archive says of a run, all in per cent."""

    name: str
    #: Which turns it is known of how many there were: well-formed ones, or valid ones.
    turns: str
    #: Step → share of those turns, of episodes with success, and of those whose last response was cut off.
    held: dict[int, float]
    success: dict[int, float]
    cut: dict[int, float]

    @property
    def environment(self) -> str:
        """Where it was trained, as the folder of its conditions says: `sokoban-grpo-20steps/…`."""
        return self.name.partition("/")[0].partition("-")[0]

    @property
    def algorithm(self) -> str:
        """With which it was trained, as that folder says, too."""
        return self.name.partition("/")[0].partition("-")[2].partition("-")[0]

    @property
    def weighted(self) -> bool:
        """Whether it was trained with ActFocus's weights, whatever α, normaliser and estimator."""
        return self.name.rpartition("/")[2].startswith(f"{ACTFOCUS.name}-")

    @property
    def fall(self) -> float:
        """The largest fall of success from one evaluation to the next, in points; 0 or less where it never fell."""
        return max((before - after for before, after in pairwise(self.success.values())), default=0.0)

    @property
    def lost(self) -> bool:
        """Whether it wrote so many fewer of those turns at some evaluation than at an earlier one."""
        shares = [*self.held.values()]
        return any(share <= highest - FALL for share, highest in zip(shares, accumulate(shares, max), strict=True))


def read(path: Path, environment: str | None = None, valid: bool = False, algorithm: str | None = None) -> list[Run]:
    """Read the evaluations of every run, in the order of their names.

    Args:
        path: an archive.
        environment: whose runs; all where left out.
        valid: whether to take valid turns of every run, well-formed ones of none.
        algorithm: with which they were trained; any where left out.

    Raises:
        ValueError: there is no such file, it holds no such run, or a run lacks what is looked at.
        ExperimentError: it is no archive of runs.
    """
    runs = [_run(name, metrics, valid) for name, metrics in Archive(path).metrics().items()]
    if not runs:
        raise ValueError(f"there is no archive {path}, or it holds no run")
    found = [run for run in runs if environment in (None, run.environment) and algorithm in (None, run.algorithm)]
    if not found:
        wanted = " with ".join(one for one in (environment, algorithm) if one)
        known = sorted({f"{run.environment} with {run.algorithm}" for run in runs})
        raise ValueError(f"{path} holds no run of {wanted}; it holds {', '.join(known)}")
    return found


def _run(name: str, metrics: Mapping[int, Mapping[str, float]], valid: bool) -> Run:
    evaluations = {step: recorded for step, recorded in sorted(metrics.items()) if "val/success" in recorded}
    if not evaluations:
        raise ValueError(f"{name} has no evaluation")
    known = [metric for metric in TURNS if all(metric in recorded for recorded in evaluations.values())]
    turns = known[0] if known and not valid else VALID
    series = []
    for metric in (turns, "val/success", "val/stop/response_cut"):
        lacking = [step for step, recorded in evaluations.items() if metric not in recorded]
        if lacking:
            raise ValueError(f"{name} was not played by this package's rollout: step {lacking[0]} lacks {metric}")
        series.append({step: 100 * recorded[metric] for step, recorded in evaluations.items()})
    return Run(name.partition("/")[2], TURNS[turns], *series)


def lines(runs: Sequence[Run]) -> list[str]:
    """Return what is printed: the runs that lost the format, evaluation by evaluation, and the least of all others."""
    lost = [run for run in runs if run.lost]
    said = []
    for run in lost:
        steps = [
            f"step {step} {share:.1f} ({run.success[step]:.1f}, {run.cut[step]:.1f})"
            for step, share in run.held.items()
        ]
        said.append(f"{run.name}: {run.turns} in % (success, cut off): {'; '.join(steps)}")
    least = ""
    for turns in TURNS.values():
        held = [share for run in runs if run not in lost and run.turns == turns for share in run.held.values()]
        least += f", never fewer than {min(held):.1f} % {turns}" if held else ""
    return [*said, f"{len(runs) - len(lost)} of {len(runs)} runs{_by(runs)} lost less than {FALL:g} points{least}"]


def _by(runs: Sequence[Run]) -> str:
    """Say how many runs are judged by which turns, where it is not one kind for all."""
    counts = Counter(run.turns for run in runs)
    said = [f"{counts[turns]} by {turns}" for turns in TURNS.values() if counts[turns]]
    return f" ({', '.join(said)})" if len(said) > 1 else ""


def sides(runs: Sequence[Run]) -> str:
    """Say how many runs lost them with ActFocus's weights and without, by Fisher's exact test."""
    counts = [[run.lost for run in runs if run.weighted == side] for side in (True, False)]
    inside, outside = (f"{sum(lost)} of {len(lost)}" for lost in counts)
    p_value = stats.fisher_exact([[sum(lost), len(lost) - sum(lost)] for lost in counts]).pvalue
    return f"with ActFocus's weights {inside} lost them, without {outside}: p = {p_value:.2f}{_by(runs)}"


def falls(runs: Sequence[Run], shown: int = 4) -> str:
    """Say which runs lost the most success from one evaluation to the next, the largest first."""
    largest = sorted((run for run in runs if run.fall > 0), key=lambda run: -run.fall)[:shown]
    said = ", ".join(f"{run.fall:.0f} points ({run.name})" for run in largest)
    return f"largest falls of success between two evaluations: {said or 'none'}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print it for every archive, and for all of them together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="written by reproduce --archive")
    parser.add_argument("--env", help="only runs of this environment")
    parser.add_argument("--algorithm", choices=ALGORITHMS, help="only runs with this one")
    parser.add_argument(
        "--valid", action="store_true", help="valid turns of every run, where well-formed ones are known, too"
    )
    args = parser.parse_args(arguments)
    try:
        archives = [read(path, args.env, args.valid, args.algorithm) for path in args.archives]
    except (ExperimentError, ValueError) as error:
        parser.error(str(error))
    for runs in archives:
        print("\n".join(lines(runs)))
    together = [run for runs in archives for run in runs]
    print(sides(together))
    print(falls(together))


if __name__ == "__main__":
    main()
