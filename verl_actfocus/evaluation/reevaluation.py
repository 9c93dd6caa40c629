"""Finished training runs evaluated once more, as a table declares: at another temperature, or on other tasks.

A run's last checkpoint plays with the engine of `actfocus eval`, in float32 on a CPU and in bfloat16 on a GPU; veRL's
merger writes its weights in bfloat16. What the table does not name is as in the run's own evaluations.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.runs.alpha import is_auto, is_measured
from verl_actfocus.experiments.runs.composition import configuration
from verl_actfocus.experiments.runs.requirements import require_gpu
from verl_actfocus.experiments.runs.run import Run
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs
from verl_actfocus.experiments.tables.table import OtherEvaluation
from verl_actfocus.storage.disk import write_whole
from verl_actfocus.storage.errors import ExperimentError

#: Most episodes under way at a time.
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Reevaluation:
    """One declared evaluation of one run."""

    run: Run
    #: Its name in the table, and of its folder.
    name: str
    #: What differs from the run's own evaluations.
    changes: Mapping[str, float]
    settings: EvaluationSettings

    @property
    def folder(self) -> EvaluationFolder:
        """Where its episodes are kept."""
        path = RunFolder(self.run.folder).reevaluation(self.name)
        return EvaluationFolder(path, "delete the folder, the same command makes it again")

    @property
    def made(self) -> bool:
        """Whether it is there, whole and made as it is declared."""
        return RunFolder(self.run.folder).reevaluated(self.name, self.changes) is not None

    def state(self) -> str:
        """Say in words how far it is."""
        if self.made:
            return "done"
        return "to do" if RunFolder(self.run.folder).checkpoints.exists() else "to do, no checkpoint yet"


def declare(requests: Sequence[Request]) -> dict[Path, list[Reevaluation]]:
    """Compose what tables declare for their runs, before anything is trained.

    Args:
        requests: the tables and their runs.

    Returns:
        Folder of a run → its evaluations.

    Raises:
        ValueError: no table declares any, two mean different things by one name, or a run keeps nothing to evaluate.
        ExperimentError: tasks overlap those of the training.
    """
    found: dict[Path, dict[str, Reevaluation]] = {}
    for request in requests:
        for run in distinct_runs(cells(request)) if request.table.evaluations else ():
            if is_auto(run.weighting) and not is_measured(run.conditions.folder):
                continue  # not trained, and not to be trained by this command
            _require_checkpoints(run)
            for name, other in request.table.evaluations.items():
                place = f"{request.table.name}, evaluations.{name}"
                one = Reevaluation(run=run, name=name, changes=other.changes, settings=_settings(run, other, place))
                if found.setdefault(run.folder, {}).setdefault(name, one) != one:
                    raise ValueError(f"{place}: another table means something else by that name; give it another one")
    if not found:
        tables = ", ".join(request.table.name for request in requests)
        raise ValueError(f"--evaluate: {tables} declares no evaluations; leave it out")
    return {folder: [*named.values()] for folder, named in found.items()}


def reevaluate(wanted: Sequence[Reevaluation], place: str, say: Callable[[str], None]) -> None:
    """Play the evaluations of a finished run that are not there yet; its model is loaded once.

    Args:
        wanted: evaluations of one run.
        place: begins the lines of progress, such as `[3/20]`.
        say: told what takes long and shows no progress.

    Raises:
        ExperimentError: the run has no checkpoint any more or none that can be played, a folder holds another
            evaluation, or episodes are missing.
    """
    waiting = [one for one in wanted if not one.made]
    if not waiting:
        return
    run = waiting[0].run
    title = f"{place} {run.title}"
    try:
        policy = _load(run, lambda what: say(f"{title} {what}"))
        with closing(policy):
            for one in waiting:
                _evaluate(policy, one, f"{title} {one.name}")
    # What a file, an environment, a checkpoint or a diverged model can raise: the others are evaluated all the same.
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ExperimentError(f"{run.title} cannot be evaluated again: {error}") from error


def _settings(run: Run, other: OtherEvaluation, place: str) -> EvaluationSettings:
    own = run_settings(run)
    try:
        changed = dataclasses.replace(own, **other.changes)
    except ValueError as error:
        raise ExperimentError(f"{place}: {error}") from error
    if other.first_task is not None and abs(changed.first_task - own.first_task) < own.tasks:
        last = own.first_task + own.tasks - 1
        raise ExperimentError(
            f"{place}: first_task {other.first_task} with {own.tasks} tasks overlaps {own.first_task}–{last}, which "
            f"{run.title} is evaluated on in training; take {last + 1}"
        )
    return changed


def _require_checkpoints(run: Run) -> None:
    """Refuse runs that will have nothing to evaluate."""
    config = configuration(run)
    if config.actor_rollout_ref.model.lora_rank > 0:
        raise ValueError(
            f"--evaluate: {run.title} trains LoRA adapters, which veRL's merger leaves apart from the model; leave it "
            "out, merge them with peft afterwards and name the merged folder to actfocus eval"
        )
    if config.trainer.save_freq < 1:
        raise ValueError(f"--evaluate: {run.title} saves no checkpoint (trainer.save_freq={config.trainer.save_freq})")


def _load(run: Run, say: Callable[[str], None]) -> Policy:
    on_cpu = run.conditions.on_cpu
    if not on_cpu:
        require_gpu(alone=True)
    if not RunFolder(run.folder).checkpoints.exists():
        raise ValueError("its checkpoints are deleted; delete its folder to train it again")
    source = find_model(str(run.folder))
    if source.shards is not None:
        say("merging the checkpoint, unless that was done before")
    return LocalModel(merge(source), identity=source.fingerprint(), device="cpu" if on_cpu else "cuda")


def _evaluate(policy: Policy, one: Reevaluation, title: str) -> None:
    folder, settings = one.folder, one.settings
    folder.check()
    made_with = {"model": policy.identity(), "changes": dict(one.changes), "evaluation": settings.as_dict()}
    with folder.claimed(made_with):
        progress = EvaluationProgress(title, settings.episodes)
        attempt = play(policy, settings, folder, at_once=_AT_ONCE, watch=progress.show)
        progress.close(attempt)
        missing = write_summary(one.run.title, settings, policy, folder, attempt)
        if missing:
            raise ExperimentError(
                f"{title}: {missing} of {settings.episodes} episodes are missing and the evaluation does not count; "
                f"the same command plays them ({attempt.lost or folder.failures})\n{failures(attempt.failures)}"
            )
        write_whole(RunFolder(one.run.folder).outcomes(one.name), _lines(attempt.finished))


def _lines(records: Sequence[EpisodeRecord]) -> bytes:
    """Write outcomes as veRL's validation episodes have them."""
    ordered = sorted(records, key=lambda one: (one.task, one.sample))
    rows = ({"seed": one.task, "success": one.success, **one.outcomes} for one in ordered)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
