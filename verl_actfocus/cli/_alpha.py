"""Measures α for the runs that train with `actfocus alpha=auto`, before the first of them is composed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from verl_actfocus.experiments.runs import alpha
from verl_actfocus.experiments.runs.composition import configuration
from verl_actfocus.experiments.runs.requirements import require_gpu
from verl_actfocus.experiments.runs.run import Run
from verl_actfocus.experiments.runs.weightings import ACTFOCUS
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.settings import differences, flatten, in_words

#: The diagnosis: states, and reasonings, actions and futures of each (PROTOCOL.md, stage 5).
STATES, DRAWS = 40, (5, 5, 2)
_BATCH_SIZE = 64


def ready(runs: Iterable[Run], *, measure: bool) -> list[Run]:
    """Return the runs that can be composed; those whose α is not known yet are measured first, or left out.

    Args:
        runs: what is asked for.
        measure: whether what is missing is measured; otherwise its runs are left out, and that is said.

    Raises:
        ExperimentError: α cannot be measured, or was measured with another model or other settings.
    """
    every = list(runs)
    first: dict[Path, Run] = {}
    for run in every:
        if alpha.is_auto(run.weighting):
            first.setdefault(run.conditions.folder, run)
    for folder, run in first.items():
        if measure:
            _measure(run)
        elif not alpha.is_measured(folder):
            place = alpha.diagnosis_folder(folder)
            left_out = "its runs with alpha=auto are left out"
            print(f"note: α of {folder.name} is not in {place} yet; {left_out}", file=sys.stderr)
    return [run for run in every if not alpha.is_auto(run.weighting) or alpha.is_measured(run.conditions.folder)]


def _measure(run: Run) -> None:
    """Diagnose where the return of a run's untrained model is decided, unless that is there, and say what follows."""
    from verl_actfocus.cli._model_arguments import local_model
    from verl_actfocus.diagnosis.decisions_run import decisions_claim, run_decisions
    from verl_actfocus.diagnosis.design import Design
    from verl_actfocus.diagnosis.folder import sampled
    from verl_actfocus.evaluation.checkpoints import find_model
    from verl_actfocus.evaluation.settings import run_settings

    runs = run.conditions.folder
    folder = alpha.diagnosis_folder(runs)
    # The same run but for the number that is to be found.
    plain = dataclasses.replace(run, weighting=ACTFOCUS)
    config = configuration(plain)
    model = config.actor_rollout_ref.model
    design, own = Design(*DRAWS), run_settings(plain)
    # Sampled as in training; on tasks that neither training nor its evaluations draw.
    settings = dataclasses.replace(
        own,
        temperature=float(config.actor_rollout_ref.rollout.temperature),
        seed=0,
        first_task=own.first_task + own.tasks,
    )
    if alpha.is_measured(runs):
        before = json.loads((folder / "diagnosis.json").read_text(encoding="utf-8"))
        if lacking := [name for name in ("model", "design", "evaluation") if name not in before]:
            raise ExperimentError(f"{folder / 'diagnosis.json'} lacks {lacking}; delete {folder} to measure again")
        if _weights(before["model"]) != _weights(find_model(model.path).fingerprint()):
            raise ExperimentError(f"{folder} is of another model than {model.path}; delete it to measure again")
        # In this file alone, which an archive brings without any other of the folder.
        claim = decisions_claim(design, settings)
        found = {"design": before["design"], "evaluation": sampled(before["evaluation"])}
        if changes := differences(flatten(found), flatten(json.loads(json.dumps(claim)))):
            raise ExperimentError(
                f"{folder} holds a diagnosis with other settings ({in_words(changes)}); delete it to measure again"
            )
    else:
        if not run.conditions.on_cpu:
            require_gpu(alone=True)
        print(f"measuring α of {runs.name}: where the untrained model's return is decided", file=sys.stderr)
        device = "cpu" if run.conditions.on_cpu else None
        complete = run_decisions(
            local_model(model.path, tokenizer=model.tokenizer_path, device=device),
            settings,
            design,
            folder,
            turns=[alpha.TURN],
            states=STATES,
            at_once=_BATCH_SIZE,
            model=Path(model.path).name,
        )
        if not complete:
            raise ExperimentError(f"α of {runs.name} is not measured: states are missing; the same command goes on")
    print(f"α = {alpha.measured(runs):g} for alpha=auto in {runs.name} ({folder / 'diagnosis.md'})", file=sys.stderr)


def _weights(identity: Mapping[str, Any]) -> Any:
    """What tells a model from another wherever it lies: names and sizes of its files, or its name on the hub."""
    files = identity.get("weights")
    return [[name, size] for name, size, _ in files] if files else identity.get("model")
