"""Finished runs in one small file: all that tables are made of, without texts, weights and logs.

So a grid can be trained on machines that share no disk, or that are not kept, and a published table can be made again
without training. A run is in the archive under `<scale>/<conditions>/<weighting>-seed<n>`, where the grid puts it:

====================  =================================================================================================
`run.json`          what the run is and its complete settings
`done.json`         versions, commit, hardware, time and command; in the command, the run's folder is `RUN`
`metrics-1.jsonl`   of every step what tables read (`val/`, `rollout/`, `actfocus/`) and its time
`evaluations/`      of every episode what is a number: task, success and the like
`reevaluations/`    the same of evaluations after training, and what they were made with
`diagnosis.json`    with `alpha=auto` what α was taken from
====================  =================================================================================================

What is written depends on the runs alone: the same runs make the same file, byte for byte. Models are not in it: who
pools runs of a model of his own takes care that it is the same one everywhere.
"""

from __future__ import annotations

import io
import json
import lzma
import math
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from verl_actfocus.experiments import alpha
from verl_actfocus.experiments.disk import write_whole
from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.locks import locked
from verl_actfocus.experiments.metrics import Metrics, merge_attempts
from verl_actfocus.experiments.settings import differences, in_words
from verl_actfocus.experiments.weightings import WeightingChoice

#: What the name of an archive ends with.
ENDING = ".tar.xz"
#: A run's place in its command, and what stands for it.
_PLACE, _RUN = re.compile(r"trainer\.default_local_dir=['\"]*(?P<folder>.+?)/checkpoints\b"), "RUN"
#: Metrics of a step that tables read: rates, token counts, what was excluded or skipped.
_METRICS = ("val/", "rollout/", "actfocus/", "timing_s/step")
_DONE, _DIAGNOSIS = "done.json", "diagnosis.json"
#: What an evaluation after training was made with, and may be known elsewhere: not where its checkpoint lay.
_MADE_WITH = ("changes", "evaluation")
#: Names of files: a run's place, and what is in it.
_NAME = re.compile(
    r"(?P<run>[^/]+/[^/]+/[^/]+)/"
    r"(?P<file>(?:run|done|diagnosis)\.json|metrics-1\.jsonl|evaluations/\d+\.jsonl"
    r"|reevaluations/[\w=.-]+/(?:outcomes\.jsonl|settings\.json))"
)
#: Files of a run: name → content.
_Files = dict[str, bytes]


class Archive:
    """Finished runs in a file.

    Args:
        path: the file; it need not exist yet.

    Raises:
        ExperimentError: the name does not end in `.tar.xz`, or what is there is no archive of runs.
    """

    def __init__(self, path: Path) -> None:
        if not path.name.endswith(ENDING):
            raise ExperimentError(f"{path} is no name for an archive of runs: let it end in {ENDING}")
        #: The file.
        self.path = path
        self._runs = self._read()

    def __contains__(self, name: str) -> bool:
        """Whether a run is in the archive."""
        return name in self._runs

    def metrics(self) -> dict[str, dict[int, Metrics]]:
        """Return run → step → metrics, in the order of the runs' names.

        Raises:
            ExperimentError: lines of a run are no metrics.
        """
        found = {}
        for name, files in sorted(self._runs.items()):
            try:
                lines = [json.loads(line) for line in files["metrics-1.jsonl"].splitlines()]
                found[name] = {line["step"]: line["data"] for line in lines}
            except (ValueError, KeyError, TypeError) as error:
                raise ExperimentError(f"{self.path}: the metrics of {name} cannot be read ({error!r})") from error
        return found

    def check(self, name: str, settings: dict[str, Any]) -> None:
        """Make sure that an archived run is the one that is asked for.

        Args:
            name: of the run, in the archive or not.
            settings: its complete settings, as composed here.

        Raises:
            ExperimentError: it was made with other settings.
        """
        if name not in self._runs:
            return
        changes = differences(json.loads(self._runs[name]["run.json"])["settings"], settings)
        if changes:
            raise ExperimentError(
                f"{self.path} holds {name} with other settings ({in_words(changes)}); name another archive"
            )

    def restore(self, name: str, folder: RunFolder) -> bool:
        """Put an archived run, or evaluations of it, where the grid looks for them; what is there stays.

        Returns:
            Whether the run was put there; not if it was there before, or is not in the archive.

        Raises:
            ExperimentError: the folder holds the run of another training, or unfinished, or an evaluation of another
                outcome, or another measured α; another command is in the folder; or the disk is full.
        """
        if name not in self._runs:
            return False
        files = self._runs[name]
        self.restore_alpha(name, folder)
        with locked(folder.path):
            new = not folder.exists or folder.blank
            if not new:
                self._require_same(name, folder)
            # Last, since a run with it is finished.
            for file in sorted(files.keys() - {_DIAGNOSIS}, key=lambda file: (file == _DONE, file)):
                if new or (file.startswith("reevaluations/") and not (folder.path / file).exists()):
                    _write(folder.path / file, files[file])
        return new

    def restore_alpha(self, name: str, folder: RunFolder) -> None:
        """Put what an archived run's α was taken from where it is looked for.

        Raises:
            ExperimentError: there lies another measurement.
        """
        content, place = self._runs.get(name, {}).get(_DIAGNOSIS), _diagnosis(folder)
        if content is None:
            return
        if not place.exists():
            _write(place, content)
        elif place.read_bytes() != content:
            raise ExperimentError(
                f"{self.path} holds {name} with another measurement of α than {place}; name another --out or archive"
            )

    def add(self, folders: Mapping[str, RunFolder]) -> list[str]:
        """Add finished runs, and evaluations that were made of them since.

        Another command may add to the same file at the same time.

        Args:
            folders: name in the archive → the run's folder; unfinished ones are left out.

        Returns:
            Names of the runs that are new or have changed.

        Raises:
            ExperimentError: the archive holds a run of another training, an evaluation of another outcome or another
                measured α; or the disk is full.
        """
        finished = {name: folder for name, folder in folders.items() if folder.done is not None}
        if not finished:  # nor is a folder made, whose name may be misspelt
            return []
        with locked(self.path.parent, f".{self.path.name}.lock", wait=True):
            self._runs = self._read()
            changed = []
            for name, folder in finished.items():
                files = _slim(folder)
                if name in self._runs:
                    self._require_same(name, folder)
                    # An archive from elsewhere may hold evaluations that were not made here.
                    files = {**files, **self._runs[name]}
                if self._runs.get(name) != files:
                    self._runs[name] = files
                    changed.append(name)
            if changed:
                write_whole(self.path, _packed(self._runs))
        return changed

    def _require_same(self, name: str, folder: RunFolder) -> None:
        if folder.done is None:
            raise ExperimentError(
                f"{self.path} holds {name} finished, and {folder.path} the same run unfinished; delete that folder, "
                "or name another archive"
            )
        # A command names places, and a folder may have been moved since.
        here, there = folder.done, json.loads(self._runs[name][_DONE])
        if {**here, "command": ""} != {**there, "command": ""}:
            raise ExperimentError(
                f"{self.path} and {folder.path} hold {name} of two trainings; delete the folder, or name another "
                "archive"
            )
        for file, content in _slim(folder).items():
            if file != _DONE and self._runs[name].get(file, content) != content:
                raise ExperimentError(
                    f"{self.path} and {folder.path} have different {file} of {name}; delete the folder, or name "
                    "another archive"
                )

    def _read(self) -> dict[str, _Files]:
        if not self.path.exists():
            return {}
        runs: dict[str, _Files] = {}
        try:
            with tarfile.open(self.path, "r:xz") as tar:
                for member in tar:
                    # Nothing may be written that is no file of a run.
                    match = _NAME.fullmatch(member.name)
                    stream = tar.extractfile(member) if member.isfile() else None
                    if match is None or stream is None or {".", ".."} & {*member.name.split("/")}:
                        raise ValueError(f"{member.name!r} is no file of a run")
                    runs.setdefault(match["run"], {})[match["file"]] = stream.read()
        except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
            raise ExperimentError(
                f"{self.path} cannot be read as an archive of runs ({error}); name another file"
            ) from error
        for name, files in runs.items():
            missing = {"run.json", _DONE, "metrics-1.jsonl"} - files.keys()
            if missing:
                raise ExperimentError(f"{self.path}: {name} lacks {', '.join(sorted(missing))}; name another file")
        return runs


def name_of(folder: RunFolder) -> str:
    """Return what a run is called in an archive: the last three parts of its place, scale, conditions and run."""
    return "/".join(folder.path.parts[-3:])


def _write(place: Path, content: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, content)


def _slim(folder: RunFolder) -> _Files:
    """What of a run goes into an archive."""
    metrics = merge_attempts(folder.metrics(number) for number in folder.attempts())
    files = {
        "run.json": (folder.path / "run.json").read_bytes(),
        _DONE: _done(folder),
        "metrics-1.jsonl": _lines({"step": step, "data": _kept(values)} for step, values in metrics.items()),
    }
    if alpha.is_auto(WeightingChoice.parse(folder.identity["weighting"])):
        files[_DIAGNOSIS] = _diagnosis(folder).read_bytes()
    for path in sorted(folder.path.glob("evaluations/*.jsonl")):
        files[f"evaluations/{path.name}"] = _lines(map(_numbers, _episodes(path)))
    for path in sorted(folder.path.glob("reevaluations/*/outcomes.jsonl")):
        made_with = json.loads((path.parent / "settings.json").read_text(encoding="utf-8"))
        kept = {name: made_with[name] for name in _MADE_WITH if name in made_with}
        files[f"reevaluations/{path.parent.name}/outcomes.jsonl"] = _lines(map(_numbers, _episodes(path)))
        files[f"reevaluations/{path.parent.name}/settings.json"] = _json(kept)
    return files


def _kept(metrics: Metrics) -> dict[str, float | None]:
    """Metrics that are kept; NaN, which JSON does not have, as null."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items() if name.startswith(_METRICS)}


def _diagnosis(folder: RunFolder) -> Path:
    """Where the grid looks for it: beside the runs that share it."""
    return alpha.diagnosis_folder(folder.path.parent) / _DIAGNOSIS


def _done(folder: RunFolder) -> bytes:
    record = dict(folder.done or {})
    command = str(record["command"])
    place = _PLACE.search(command)
    return _json({**record, "command": command.replace(place["folder"], _RUN) if place else command})


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


def _packed(runs: Mapping[str, _Files]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", format=tarfile.PAX_FORMAT) as tar:
        # Files of one kind beside each other: they are much alike, and pack well.
        for file, name in sorted((file, name) for name, files in runs.items() for file in files):
            # A TarInfo of its own has no owner and no time.
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size = len(runs[name][file])
            tar.addfile(member, io.BytesIO(runs[name][file]))
    return buffer.getvalue()
