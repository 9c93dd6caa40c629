"""What of a finished run goes into an archive: all that tables are made of, without texts, weights and logs.

====================  =================================================================================================
`run.json`          what the run is and its complete settings
`done.json`         versions, commit, hardware, time and command; in the command, the run's folder is `RUN`
`metrics-1.jsonl`   of every step what tables read (`val/`, `rollout/`, `actfocus/`) and its time
`evaluations/`      of every episode what is a number: task, success and the like
`reevaluations/`    the same of evaluations after training, and what they were made with
`diagnosis.json`    with `alpha=auto` what α was taken from
====================  =================================================================================================
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.metrics import Metrics, merge_attempts
from verl_actfocus.experiments.runs import alpha
from verl_actfocus.experiments.runs.weightings import WeightingChoice
from verl_actfocus.storage.errors import ExperimentError

#: Files of a run: name → content.
Files = dict[str, bytes]
#: Names of files.
RUN, DONE, METRICS, DIAGNOSIS = "run.json", "done.json", "metrics-1.jsonl", "diagnosis.json"
#: Folder of evaluations after training, and the two files of each.
REEVALUATIONS, SETTINGS, OUTCOMES = "reevaluations", "settings.json", "outcomes.jsonl"
#: Metrics of a step that tables read: rates, token counts, what was excluded or skipped.
_KEPT = ("val/", "rollout/", "actfocus/", "timing_s/step")
#: What an evaluation after training was made with, and may be known elsewhere: not where its checkpoint lay.
_MADE_WITH = ("changes", "evaluation")
#: A run's place in its command, and what stands for it.
_PLACE, _STANDS_FOR = re.compile(r"trainer\.default_local_dir=['\"]*(?P<folder>.+?)/checkpoints\b"), "RUN"


def contents(folder: RunFolder) -> Files:
    """Return what of a finished run goes into an archive.

    Raises:
        ExperimentError: a line of its evaluations is no episode, or what one was made with cannot be read.
    """
    metrics = merge_attempts(folder.metrics(number) for number in folder.attempts())
    files = {
        RUN: (folder.path / RUN).read_bytes(),
        DONE: _done(folder),
        METRICS: _lines({"step": step, "data": _kept(values)} for step, values in metrics.items()),
    }
    if alpha.is_auto(WeightingChoice.parse(folder.identity["weighting"])):
        files[DIAGNOSIS] = diagnosis_place(folder).read_bytes()
    for path in sorted(folder.path.glob("evaluations/*.jsonl")):
        files[f"evaluations/{path.name}"] = _lines(map(_numbers, _episodes(path)))
    for path in sorted(folder.path.glob(f"{REEVALUATIONS}/*/{OUTCOMES}")):
        place = f"{REEVALUATIONS}/{path.parent.name}"
        files[f"{place}/{OUTCOMES}"] = _lines(map(_numbers, _episodes(path)))
        files[f"{place}/{SETTINGS}"] = _json(_made_with(path.with_name(SETTINGS)))
    return files


def _made_with(path: Path) -> dict[str, Any]:
    try:
        made_with = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ExperimentError(
            f"{path} cannot be read ({error}); delete {path.parent}, --evaluate makes it again"
        ) from error
    return {name: made_with[name] for name in _MADE_WITH if name in made_with}


def diagnosis_place(folder: RunFolder) -> Path:
    """Return where the grid looks for what α was taken from: beside the runs that share it."""
    return alpha.diagnosis_folder(folder.path.parent) / DIAGNOSIS


def _kept(metrics: Metrics) -> dict[str, float | None]:
    """Metrics that are kept; NaN, which JSON does not have, as null."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items() if name.startswith(_KEPT)}


def _done(folder: RunFolder) -> bytes:
    record = dict(folder.done or {})
    command = str(record["command"])
    place = _PLACE.search(command)
    return _json({**record, "command": command.replace(place["folder"], _STANDS_FOR) if place else command})


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _episodes(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise ExperimentError(f"{path}, line {number}: not an evaluation episode: {line[:80]!r}") from error


def _numbers(episode: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in episode.items() if isinstance(value, bool | int | float)}


def _lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()
