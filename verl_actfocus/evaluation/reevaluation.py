"""Finished training runs evaluated once more, as a table declares: at another temperature, or on other tasks.

A run's last checkpoint plays, everything but what the table names being the training's. veRL's merger writes the
checkpoint in bfloat16, which the training's own evaluations did not do.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.evaluation.checkpoints import find_model, merge
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.policy import Policy, closing
from verl_actfocus.evaluation.progress import EvaluationProgress
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import run as play
from verl_actfocus.evaluation.settings import EvaluationSettings, run_settings
from verl_actfocus.evaluation.summary import write_summary
from verl_actfocus.evaluation.table import failures
from verl_actfocus.experiments.disk import write_whole
from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.run import Run
from verl_actfocus.experiments.settings import differences, flatten, in_words
from verl_actfocus.experiments.tables import OtherEvaluation

#: Most episodes under way at a time.
_AT_ONCE = 64


def reevaluate(run: Run, others: Mapping[str, OtherEvaluation], place: str) -> None:
    """Evaluate a finished run as declared, where that was not done before; the model is loaded once.

    Args:
        run: it has finished.
        others: name → evaluation.
        place: begins the lines of progress, such as `[3/20]`.

    Raises:
        ExperimentError: the run has no checkpoint any more or none that can be played, a folder holds another
            evaluation, or episodes ended in an infrastructure failure.
    """
    folder, settings = RunFolder(run.folder), run_settings(run)
    try:
        declared = {name: dataclasses.replace(settings, **other.changes) for name, other in others.items()}
        waiting = {name: one for name, one in declared.items() if not _complete(folder, name, one)}
        if not waiting:
            return
        if not folder.checkpoints.exists():
            raise ValueError("its checkpoints are deleted; delete its folder to train it again")
        policy = _load(folder.path)
    except ValueError as error:
        raise ExperimentError(f"{run.title} cannot be evaluated again: {error}") from error
    with closing(policy):
        for name, one in waiting.items():
            _evaluate(policy, run, name, one, f"{place} {run.title} {name}")


def _complete(folder: RunFolder, name: str, settings: EvaluationSettings) -> bool:
    """Whether an evaluation is there, whole; one with other settings is refused."""
    if not folder.reevaluated(name).exists():
        return False
    begun = folder.reevaluation(name) / "settings.json"
    before = flatten(json.loads(begun.read_text(encoding="utf-8"))["evaluation"])
    changes = differences(before, flatten(json.loads(json.dumps(settings.as_dict()))))
    if changes:
        raise ExperimentError(
            f"{begun.parent} was made with other settings ({in_words(changes)}); delete it to make it again"
        )
    return True


def _load(folder: Path) -> LocalModel:
    source = find_model(str(folder))
    return LocalModel(merge(source), identity=source.fingerprint())


def _evaluate(policy: Policy, run: Run, name: str, settings: EvaluationSettings, title: str) -> None:
    folder = EvaluationFolder(RunFolder(run.folder).reevaluation(name))
    folder.check()
    with folder.claimed({"model": policy.identity(), "evaluation": settings.as_dict()}):
        progress = EvaluationProgress(title, settings.episodes)
        attempt = play(policy, settings, folder, at_once=_AT_ONCE, watch=progress.show)
        progress.close(attempt)
        missing = write_summary(run.title, settings, policy, folder, attempt)
        if missing:
            raise ExperimentError(
                f"{title}: {missing} of {settings.episodes} episodes are missing and the evaluation does not count; "
                f"the same command plays them\n{failures(attempt.failures)}"
            )
        write_whole(RunFolder(run.folder).reevaluated(name), _lines(attempt.finished))


def _lines(records: Sequence[EpisodeRecord]) -> bytes:
    """Write outcomes as veRL's validation episodes have them."""
    ordered = sorted(records, key=lambda one: (one.task, one.sample))
    rows = ({"seed": one.task, "success": one.success, **one.outcomes} for one in ordered)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
