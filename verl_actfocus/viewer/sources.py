"""Which files of trajectories a path stands for, and what the page calls them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.runs.estimators import EstimatorChoice, method_label
from verl_actfocus.experiments.runs.weightings import BASELINE, WeightingChoice
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.trajectories import trajectory_files
from verl_actfocus.trajectories.files import SUFFIXES, holds_trajectories

#: Name of an evaluation's or a diagnosis's file without its suffix.
_PLAYED = "trajectories"
#: Name of an evaluation's file of episodes that ended in an infrastructure failure, likewise.
_FAILED = "failures"


@dataclass(frozen=True)
class Source:
    """Trajectories that belong together: a run, an evaluation, the files of a folder, or a file."""

    path: Path
    #: What the page calls it; different for different sources.
    label: str
    #: The files, those of earlier steps first; empty if a run has written none.
    files: tuple[Path, ...]
    #: Weighting of a run; None for anything else.
    weighting: WeightingChoice | None = None
    #: Estimator of a run; None for the algorithm's own, and for anything else.
    estimator: EstimatorChoice | None = None


def find_sources(paths: Sequence[Path], pass_over: Callable[[Path], None] = lambda path: None) -> list[Source]:
    """Find the trajectories of runs, evaluations, folders and files.

    Args:
        paths: a run's folder, an evaluation's folder, a file of trajectories, or any folder: its own files and
            everything below it.
        pass_over: called with every file in a folder that has the name of such a file and holds something else, as a
            log of metrics does.

    Returns:
        The sources in the order of the paths; in a folder of runs, the baseline first.

    Raises:
        ExperimentError: a path does not exist or holds no trajectories.
    """
    sources: list[Source] = []
    for path in paths:
        if not path.exists():
            raise ExperimentError(f"{path} does not exist; name a run, an evaluation, a folder or a file")
        found = list(_of(path, pass_over))
        if not any(source.files for source in found):
            raise ExperimentError(
                f"{path} holds no trajectories: a run keeps them in trajectories/, an evaluation in "
                f"trajectories.jsonl, and any other file has to end in {' or '.join(SUFFIXES)}"
            )
        sources += sorted(found, key=_order)
    return _told_apart({source.path.resolve(): source for source in sources}.values())


def _of(path: Path, pass_over: Callable[[Path], None]) -> Iterator[Source]:
    """Yield what a path holds, from the top down."""
    if path.is_file():
        if path.name.endswith(SUFFIXES):
            yield Source(path, _stem(path), (path,))
        return
    if (path / "run.json").exists():
        yield run_source(path)
        return
    name, own = path.resolve().name, trajectory_files(path)
    for file in [file for file in own if not holds_trajectories(file)]:
        own.remove(file)
        pass_over(file)
    if (path / "settings.json").exists() and any(_stem(file) == _PLAYED for file in own):
        yield Source(path, name, tuple(file for file in own if _stem(file) in (_PLAYED, _FAILED)))
        return
    # Files named after steps are of one run.
    if steps := tuple(file for file in own if _stem(file).isdecimal()):
        yield Source(path, name, steps)
    for file in own:
        if not _stem(file).isdecimal():
            yield Source(file, name if _stem(file) == _PLAYED else _stem(file), (file,))
    for child in sorted(path.iterdir()):
        if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
            yield from _of(child, pass_over)


def _stem(path: Path) -> str:
    return path.name.split(".jsonl")[0]


def run_source(path: Path) -> Source:
    """Return the trajectories of a run.

    Args:
        path: the run's folder.

    Raises:
        ExperimentError: there is no run in it.
    """
    folder = RunFolder(path)
    identity = folder.identity
    weighting = WeightingChoice.parse(identity["weighting"])
    estimator = EstimatorChoice.parse(identity["estimator"]) if "estimator" in identity else None
    files = trajectory_files(folder.trajectories) if folder.trajectories.exists() else []
    label = f"{method_label(weighting, estimator)}, seed {identity['seed']}"
    return Source(path, label, tuple(files), weighting, estimator)


def _order(source: Source) -> tuple[Path, bool, bool]:
    """Sort runs of a folder with the baseline first, everything else as it was found."""
    return source.path.parent, source.weighting != BASELINE, source.estimator is not None


def _told_apart(sources: Iterable[Source]) -> list[Source]:
    """Add to equal labels as much of the path as tells them apart."""
    sources = list(sources)
    labels = [source.label for source in sources]
    alike = [source for source in sources if labels.count(source.label) > 1]
    if not alike:
        return sources
    common = os.path.commonpath([source.path.resolve().parent for source in alike])
    return [
        replace(source, label=f"{source.label} ({os.path.relpath(source.path.resolve(), common)})")
        if source in alike
        else source
        for source in sources
    ]
