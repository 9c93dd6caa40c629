"""Finished runs in one small file: all that tables are made of, without texts, weights and logs.

So a grid can be trained on machines that share no disk, or that are not kept, and a published table can be made again
without training. A run is in the archive under `<scale>/<conditions>/<weighting>-seed<n>`, where the grid puts it, with
the files of `archived_run`.

What is written depends on the runs alone: the same runs make the same file, byte for byte. Models are not in it: who
pools runs of a model of his own takes care that it is the same one everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from verl_actfocus.experiments.results.archived_run import (
    DIAGNOSIS,
    DONE,
    METRICS,
    OUTCOMES,
    REEVALUATIONS,
    RUN,
    SETTINGS,
    Files,
    contents,
    diagnosis_place,
)
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.metrics import Metrics, parse_record
from verl_actfocus.experiments.results.packing import packed, read
from verl_actfocus.experiments.results.restoring import all_metrics, fill, put, put_evaluation, write
from verl_actfocus.storage.disk import write_whole
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import locked
from verl_actfocus.storage.settings import differences, in_words

#: What the name of an archive ends with.
ENDING = ".tar.xz"


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
        self._runs = read(self.path)

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
                found[name] = dict(map(parse_record, files[METRICS].splitlines()))
            except (ValueError, KeyError, TypeError) as error:
                raise ExperimentError(
                    f"{self.path}: the metrics of {name} cannot be read ({error!r}); name another file"
                ) from error
        return found

    def check(
        self, name: str, settings: dict[str, Any], evaluations: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    ) -> None:
        """Make sure that an archived run, and evaluations of it, are those that are asked for.

        Args:
            name: of the run, in the archive or not.
            settings: its complete settings, as composed here.
            evaluations: name of an evaluation after training → what differs in it from the run's own evaluations.

        Raises:
            ExperimentError: one was made with other settings.
        """
        if name not in self._runs:
            return
        changes = differences(self._json(name, RUN).get("settings", {}), settings)
        if changes:
            raise ExperimentError(
                f"{self.path} holds {name} with other settings ({in_words(changes)}); name another archive"
            )
        for evaluation, declared in evaluations.items():
            file = f"{REEVALUATIONS}/{evaluation}/{SETTINGS}"
            if file not in self._runs[name]:
                continue
            changes = differences(self._json(name, file).get("changes", {}), dict(declared))
            if changes:
                raise ExperimentError(
                    f"{self.path} holds the evaluation {evaluation!r} of {name} made otherwise ({in_words(changes)}); "
                    "give the table's evaluation another name, or name another archive"
                )

    def restore(self, name: str, folder: RunFolder) -> bool:
        """Put an archived run, or evaluations of it, where the grid looks for them.

        What is there stays, but for an evaluation that was begun and not finished. After a kill or on a full disk the
        run is not there, and the same command puts it there.

        Returns:
            Whether the run was put there; not if it was there before, or is not in the archive.

        Raises:
            ExperimentError: the folder holds the run of another training, or unfinished, or files of something else,
                or an evaluation of another outcome, or another measured α; another command is in the folder; or the
                disk is full.
        """
        if name not in self._runs:
            return False
        files = self._runs[name]
        self.restore_alpha(name, folder)
        with locked(folder.path):
            if not folder.exists:
                folder.check_free()
                put(files, folder.path)
                return True
            # The archive's own metrics lie in an unfinished run if a kill left the last file to be written.
            if folder.blank or (folder.done is None and all_metrics(folder) == files[METRICS]):
                fill(files, folder.path)
                return True
            self._require_same(name, folder)
            again = {file.rpartition("/")[0] for file in files if file.startswith(f"{REEVALUATIONS}/")}
            for place in sorted(again):
                if not (folder.path / place / OUTCOMES).exists():
                    put_evaluation(folder.path / place, files[f"{place}/{SETTINGS}"], files[f"{place}/{OUTCOMES}"])
        return False

    def restore_alpha(self, name: str, folder: RunFolder) -> None:
        """Put what an archived run's α was taken from where it is looked for.

        Raises:
            ExperimentError: there lies another measurement.
        """
        content, place = self._runs.get(name, {}).get(DIAGNOSIS), diagnosis_place(folder)
        if content is None:
            return
        if not place.exists():
            write(place, content)
        elif place.read_bytes() != content:
            raise ExperimentError(
                f"{self.path} holds {name} with another measurement of α than {place}; name another --out or archive"
            )

    def add(self, folders: Mapping[str, RunFolder]) -> list[str]:
        """Add finished runs, and evaluations that were made of them since.

        Another command may add to the same file at the same time. Where there is nothing to add, the file and its
        folder may be read-only.

        Args:
            folders: name in the archive → the run's folder; unfinished ones are left out.

        Returns:
            Names of the runs that are new or have changed.

        Raises:
            ExperimentError: the archive holds a run of another training, an evaluation of another outcome or another
                measured α; or the disk is full.
        """
        finished = {name: folder for name, folder in folders.items() if folder.done is not None}
        if not self._changed(finished):  # nor is a folder made, whose name may be misspelt
            return []
        with locked(self.path.parent, f".{self.path.name}.lock", wait=True):
            changed = self._changed(finished)  # another command may have added to the file
            if changed:
                self._runs |= changed
                write_whole(self.path, packed(self._runs))
        return [*changed]

    def _changed(self, finished: Mapping[str, RunFolder]) -> dict[str, Files]:
        """Read the file again, and return the runs that are not in it as they are here: name → all their files."""
        self._runs = read(self.path)
        changed = {}
        for name, folder in finished.items():
            files = contents(folder)
            if name in self._runs:
                self._require_same(name, folder)
                # An archive from elsewhere may hold evaluations that were not made here.
                files = {**files, **self._runs[name]}
            if self._runs.get(name) != files:
                changed[name] = files
        return changed

    def _require_same(self, name: str, folder: RunFolder) -> None:
        if folder.done is None:
            raise ExperimentError(
                f"{self.path} holds {name} finished, and {folder.path} the same run unfinished; delete that folder, "
                "or name another archive"
            )
        # A command names places, and a folder may have been moved since.
        here, there = folder.done, self._json(name, DONE)
        if {**here, "command": ""} != {**there, "command": ""}:
            raise ExperimentError(
                f"{self.path} and {folder.path} hold {name} of two trainings; delete the folder, or name another "
                "archive"
            )
        for file, content in contents(folder).items():
            if file != DONE and self._runs[name].get(file, content) != content:
                raise ExperimentError(
                    f"{self.path} and {folder.path} have different {file} of {name}; delete the folder, or name "
                    "another archive"
                )

    def _json(self, name: str, file: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._runs[name][file]))
        except (ValueError, TypeError) as error:
            raise ExperimentError(
                f"{self.path}: {file} of {name} cannot be read ({error}); name another file"
            ) from error


def name_of(folder: RunFolder) -> str:
    """Return what a run is called in an archive: the last three parts of its place, scale, conditions and run."""
    return "/".join(folder.path.parts[-3:])
