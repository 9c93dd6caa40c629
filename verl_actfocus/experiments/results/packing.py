"""The file of an archive: which files of runs may be in it, read and packed. The same runs make the same bytes."""

from __future__ import annotations

import io
import lzma
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from verl_actfocus.experiments.results.archived_run import (
    DONE,
    METRICS,
    OUTCOMES,
    REEVALUATIONS,
    RUN,
    SETTINGS,
    Files,
)
from verl_actfocus.storage.errors import ExperimentError

#: Names of files: a run's place, and what is in it.
_NAME = re.compile(
    r"(?P<run>[^/]+/[^/]+/[^/]+)/"
    r"(?P<file>(?:run|done|diagnosis)\.json|metrics-1\.jsonl|evaluations/\d+\.jsonl"
    r"|reevaluations/[\w=.-]+/(?:outcomes\.jsonl|settings\.json))"
)


def read(path: Path) -> dict[str, Files]:
    """Read all runs of an archive: name → file → content; nothing where there is no file.

    Raises:
        ExperimentError: what is there is no archive of runs, or a run in it is not whole.
    """
    if not path.exists():
        return {}
    runs: dict[str, Files] = {}
    try:
        with tarfile.open(path, "r:xz") as tar:
            for member in tar:
                # Nothing may be written that is no file of a run.
                match = _NAME.fullmatch(member.name)
                stream = tar.extractfile(member) if member.isfile() else None
                if match is None or stream is None or {".", ".."} & {*member.name.split("/")}:
                    raise ValueError(f"{member.name!r} is no file of a run")
                runs.setdefault(match["run"], {})[match["file"]] = stream.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise ExperimentError(f"{path} cannot be read as an archive of runs ({error}); name another file") from error
    for name, files in runs.items():
        again = {file.rpartition("/")[0] for file in files if file.startswith(f"{REEVALUATIONS}/")}
        needed = {RUN, DONE, METRICS, *(f"{place}/{file}" for place in again for file in (SETTINGS, OUTCOMES))}
        missing = needed - files.keys()
        if missing:
            raise ExperimentError(f"{path}: {name} lacks {', '.join(sorted(missing))}; name another file")
    return runs


def packed(runs: Mapping[str, Files]) -> bytes:
    """Return the bytes of an archive of runs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", format=tarfile.PAX_FORMAT) as tar:
        # Files of one kind beside each other: they are much alike, and pack well.
        for file, name in sorted((file, name) for name, files in runs.items() for file in files):
            # A TarInfo of its own has no owner and no time.
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size = len(runs[name][file])
            tar.addfile(member, io.BytesIO(runs[name][file]))
    return buffer.getvalue()
