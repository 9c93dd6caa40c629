"""Which metrics of a run are outcomes of episodes, and which ones stand for its evaluations.

Stock veRL names the metrics of an evaluation `val-core/<data source>/<variable>/<metric>`, the headline, or
`val-aux/…`, the rest (`verl/trainer/ppo/ray_trainer.py`, `_val_metrics_update`). A data source may have slashes in its
name. This package's environments have `val/…`, see docs/metrics.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from verl_actfocus.episodes.record import SUMMARY
from verl_actfocus.experiments.report.logged_runs import LoggedRun

#: veRL's `mean@8`, `best@8/mean` and so on, behind data source and variable.
_STOCK = re.compile(
    r"(?P<stem>val-(?P<section>core|aux)/(?P<source>.+)/(?P<variable>[^/]+))/"
    r"(?P<metric>(?:mean|std)@\d+|(?:best|worst|maj)@\d+/(?:mean|std))"
)
#: What this package's environments have below `rollout/` and `val/`, beside success and the outcomes they declare.
_NO_OUTCOMES = frozenset(
    {
        *SUMMARY,
        "identical_responses", "excluded_trajectories", "success_standard_error", "success_final", "success_peak",
        "success_peak_step", "reward", "episodes",
    }
)  # fmt: skip
_EVALUATIONS = ("val/", "val-core/", "val-aux/")


def outcomes(run: LoggedRun, prefix: str) -> list[str]:
    """Return the metrics of outcomes that an environment declares beside success.

    Args:
        run: the run.
        prefix: "rollout" for those of training, "val" for those of evaluations.
    """
    return [name for name in run.names(f"{prefix}/*") if _is_outcome(name)]


def shown(run: LoggedRun) -> list[str]:
    """Return the metrics that stand for the evaluations of a run.

    They are success, every outcome that the environment declares, and one of each data source: its accuracy, else the
    mean of its headline, else another headline, else the means beside the headline.
    """
    chosen = [*run.names("val/success"), *outcomes(run, "val")]
    sources: dict[str, dict[int, list[str]]] = {}
    for name in [*run.names("val-core/*"), *run.names("val-aux/*")]:
        source, rank = _source_and_rank(name)
        if rank is not None:
            sources.setdefault(source, {}).setdefault(rank, []).append(name)
    for ranked in sources.values():
        chosen += ranked[min(ranked)]
    return chosen


def left_out(runs: Iterable[LoggedRun]) -> list[str]:
    """Name the recorded metrics of evaluations that `shown` does not choose for any run, families of them in a word."""
    runs = list(runs)
    chosen = {name for run in runs for name in shown(run)}
    recorded = {name for run in runs for prefix in _EVALUATIONS for name in run.names(f"{prefix}*")}
    families = Counter(map(_family, recorded - chosen))
    return [f"{family} ({count})" if family.endswith("/*") else family for family, count in sorted(families.items())]


def is_share(name: str, series: Sequence[dict[int, float]]) -> bool:
    """Whether a metric of an evaluation is a share, which people read in per cent: success, an outcome, or accuracy.

    Args:
        name: the metric.
        series: its values; an accuracy of which one is not between 0 and 1 has another scale.
    """
    match = _STOCK.fullmatch(name)
    named = _is_outcome(name) or name == "val/success" or (match is not None and match["variable"] == "acc")
    return named and all(0 <= value <= 1 for values in series for value in values.values())


def _is_outcome(name: str) -> bool:
    prefix, _, rest = name.partition("/")
    return prefix in ("rollout", "val") and "/" not in rest and rest not in _NO_OUTCOMES


def _source_and_rank(name: str) -> tuple[str, int | None]:
    """Data source of a metric, and how well it stands for its evaluation, 0 best; None if it does not."""
    match = _STOCK.fullmatch(name)
    if match is None:
        # Somebody's own headline is a source of its own.
        return name, 0 if name.startswith("val-core/") else None
    mean = match["metric"].startswith("mean@")
    if match["section"] == "aux":
        return match["source"], 3 if mean else None
    return match["source"], 2 if not mean else 0 if match["variable"] == "acc" else 1


def _family(name: str) -> str:
    match = _STOCK.fullmatch(name)
    if match is not None:
        return f"{match['stem']}/*"
    return f"{name.rpartition('/')[0]}/*" if name.count("/") > 1 else name
