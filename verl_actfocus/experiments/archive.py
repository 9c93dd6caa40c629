"""Finished runs in one small file: all that tables are made of, without texts, weights and logs.

So a grid can be trained on machines that share no disk, or that are not kept, and a published table can be made again
without training. A run is in the archive under `<scale>/<conditions>/<weighting>-seed<n>`, where the grid puts it:

==========================  ===========================================================================================
`run.json`                what the run is and its complete settings
`done.json`               versions, commit, hardware, time and command; this machine's folder is written as `RUN`
`metrics-1.jsonl`         of every step what tables read (`val/`, `rollout/`, `actfocus/`) and its time
`evaluations/`            of every episode what is a number: task, success and the like
`reevaluations/`          the same of evaluations after training
`diagnosis.json`          with `alpha=auto` what α was taken from
==========================  ===========================================================================================

What is written depends on the runs alone: the same runs make the same file, byte for byte.
"""

from __future__ import annotations

import io
import json
import lzma
import math
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from verl_actfocus.experiments import alpha
from verl_actfocus.experiments.disk import write_whole
from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.locks import locked
from verl_actfocus.experiments.metrics import Metrics, merge_attempts
from verl_actfocus.experiments.weightings import WeightingChoice

#: What the name of an archive ends with.
ENDING = ".tar.xz"
#: Stands for the folder of a run in its command.
_RUN = "RUN"
#: Metrics of a step that tables read: rates, token counts, what was excluded or skipped.
_METRICS = ("val/", "rollout/", "actfocus/", "timing_s/step")
_DIAGNOSIS_FILE = "diagnosis.json"
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
        self._path = path
        self._runs = self._read()

    def __contains__(self, name: str) -> bool:
        """Whether a run is in the archive."""
        return name in self._runs

    def restore(self, folders: Mapping[str, RunFolder]) -> list[str]:
        """Put runs that are in the archive where the grid looks for them; what is there already stays.

        Args:
            folders: name in the archive → the run's folder.

        Returns:
            Names of the runs that were put there.

        Raises:
            ExperimentError: a folder holds the same run, but of another training, or unfinished; or the disk is full.
        """
        restored = []
        for name, folder in folders.items():
            if name not in self._runs:
                continue
            if folder.exists and not folder.blank:
                self._require_same(name, folder)
                continue
            for file, content in sorted(self._runs[name].items(), key=lambda item: item[0] == "done.json"):
                place = _diagnosis(folder) if file == _DIAGNOSIS_FILE else folder.path / file
                place.parent.mkdir(parents=True, exist_ok=True)
                write_whole(place, content)
            restored.append(name)
        return restored

    def add(self, folders: Mapping[str, RunFolder]) -> list[str]:
        """Add finished runs, and evaluations that were made of them since.

        Another command may add to the same file at the same time.

        Args:
            folders: name in the archive → the run's folder; unfinished ones are left out.

        Returns:
            Names of the runs that are new or have changed.

        Raises:
            ExperimentError: the archive holds the same run of another training, or the disk is full.
        """
        finished = {name: folder for name, folder in folders.items() if folder.done is not None}
        with locked(self._path.parent, f".{self._path.name}.lock", wait=True):
            self._runs = self._read()
            changed = []
            for name, folder in finished.items():
                files = _slim(folder)
                if self._runs.get(name) == files:
                    continue
                if name in self._runs:
                    self._require_same(name, folder)
                    # An archive from elsewhere may hold evaluations that were not made here.
                    files = {**self._runs[name], **files}
                    if self._runs[name] == files:
                        continue
                self._runs[name] = files
                changed.append(name)
            if changed:
                write_whole(self._path, _packed(self._runs))
        return changed

    def _require_same(self, name: str, folder: RunFolder) -> None:
        if folder.done is None:
            raise ExperimentError(
                f"{self._path} holds {name} finished, and {folder.path} the same run unfinished; delete that folder, "
                "or name another archive"
            )
        if self._runs[name]["done.json"] != _done(folder):
            raise ExperimentError(
                f"{self._path} and {folder.path} hold {name} of two trainings; delete the folder, or name another "
                "archive"
            )

    def _read(self) -> dict[str, _Files]:
        if not self._path.exists():
            return {}
        runs: dict[str, _Files] = {}
        try:
            with tarfile.open(self._path, "r:xz") as tar:
                for member in tar:
                    scale, conditions, run, *file = _parts(member)
                    stream = tar.extractfile(member)
                    assert stream is not None, "`_parts` lets files through only"
                    runs.setdefault("/".join((scale, conditions, run)), {})["/".join(file)] = stream.read()
        except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
            raise ExperimentError(
                f"{self._path} cannot be read as an archive of runs ({error}); name another file"
            ) from error
        for name, files in runs.items():
            missing = {"run.json", "done.json", "metrics-1.jsonl"} - files.keys()
            if missing:
                raise ExperimentError(f"{self._path}: {name} lacks {', '.join(sorted(missing))}; name another file")
        return runs


def name_of(folder: RunFolder) -> str:
    """Return what a run is called in an archive: the last three parts of its place, scale, conditions and run."""
    return "/".join(folder.path.parts[-3:])


def _parts(member: tarfile.TarInfo) -> tuple[str, ...]:
    """Split the name of a file; nothing may be written outside of a run's folder."""
    parts = PurePosixPath(member.name).parts
    if not member.isfile() or len(parts) < 4 or member.name.startswith("/") or ".." in parts:
        raise ValueError(f"{member.name!r} is no file of a run")
    return parts


def _slim(folder: RunFolder) -> _Files:
    """What of a run goes into an archive."""
    metrics = merge_attempts(folder.metrics(number) for number in folder.attempts())
    files = {
        "run.json": (folder.path / "run.json").read_bytes(),
        "done.json": _done(folder),
        "metrics-1.jsonl": _lines({"step": step, "data": _kept(values)} for step, values in metrics.items()),
    }
    if alpha.is_auto(WeightingChoice.parse(folder.identity["weighting"])):
        files[_DIAGNOSIS_FILE] = _diagnosis(folder).read_bytes()
    for path in sorted(folder.path.glob("evaluations/*.jsonl")):
        files[f"evaluations/{path.name}"] = _lines(map(_numbers, _episodes(path)))
    for path in sorted(folder.path.glob("reevaluations/*/outcomes.jsonl")):
        files[f"reevaluations/{path.parent.name}/outcomes.jsonl"] = _lines(map(_numbers, _episodes(path)))
        files[f"reevaluations/{path.parent.name}/settings.json"] = (path.parent / "settings.json").read_bytes()
    return files


def _kept(metrics: Metrics) -> dict[str, float | None]:
    """Metrics that are kept; NaN, which JSON does not have, as null."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items() if name.startswith(_METRICS)}


def _diagnosis(folder: RunFolder) -> Path:
    """Where the grid looks for it: beside the runs that share it."""
    return alpha.diagnosis_folder(folder.path.parent) / _DIAGNOSIS_FILE


def _done(folder: RunFolder) -> bytes:
    record = dict(folder.done or {})
    record["command"] = str(record["command"]).replace(str(folder.path), _RUN)
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


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
