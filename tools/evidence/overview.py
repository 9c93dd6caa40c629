"""Stage 2 of recipes/paper/PROTOCOL.md in one table: every method, its distance to Uniform, and who lost the format.

    python -m tools.evidence.overview

Reads the tables that `actfocus reproduce` has written of the protocol's three questions, and their archive. A p-value
is corrected over the declared comparisons of its question; what is told from 0 is in bold. A method of which no run is
published is left out, and so is an environment. Who lost the format is told as by `tools.evidence.valid_turns`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.evidence import valid_turns
from tools.evidence.published import AREA, FINAL, GRPO, RESULTS, add_where
from tools.evidence.published import rows as rows_of
from verl_actfocus.experiments.results.archive import name_of
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.tables.files import find_table, read_scale, read_table
from verl_actfocus.experiments.tables.grid import Request, cells
from verl_actfocus.storage.errors import ExperimentError

ARCHIVE = RESULTS / "confirmation-cpu.tar.xz"
SCALE = "cpu"
#: In the order of the protocol's methods; a method that two of them have is read from the first.
TABLES = ("confirmation_actfocus", "confirmation_normalizer", "confirmation_methods")
BASELINE = "uniform"


def methods(environment: str, algorithm: str) -> dict[str, tuple[str, str]]:
    """Return the methods of the three tables: name → the table that has it, and its label."""
    found: dict[str, tuple[str, str]] = {}
    for name in TABLES:
        table = read_table(find_table(name))
        for method, weighting in table.weightings.items():
            if any(row.env == environment and row.algorithm == algorithm for row in table.rows):
                found.setdefault(method, (name, weighting.label))
    return found


def lost(environment: str, algorithm: str) -> dict[str, tuple[int, int]]:
    """Return method → how many of its archived runs lost their format, and how many there are.

    Raises:
        ValueError: there is no archive, or a run lacks what is looked at.
        ExperimentError: it is no archive of runs.
    """
    # An archive names a run `<scale>/<conditions>/<weighting>-seed<n>`, this tool's runs leave the scale out.
    runs = {run.name: run for run in valid_turns.read(ARCHIVE)}
    found: dict[str, tuple[int, int]] = {}
    for name in TABLES:
        path = find_table(name)
        scale = read_scale(path, SCALE)
        table = read_table(path).on(scale)
        request = Request(table=table, scale=scale, scale_name=SCALE, seeds=table.seeds or scale.seeds, out=Path())
        for cell in cells(request):
            if (cell.row.env, cell.row.algorithm) == (environment, algorithm):
                names = [name_of(RunFolder(run.folder)).partition("/")[2] for run in cell.runs]
                archived = [runs[name] for name in names if name in runs]
                found.setdefault(cell.weighting, (sum(run.lost for run in archived), len(archived)))
    return found


def rows(name: str, *columns: str) -> list[dict[str, str]]:
    """Read a written table; none of which no run is published yet."""
    path = RESULTS / name
    return rows_of(path, *columns) if path.exists() else []


def values(table: str, environment: str, algorithm: str) -> dict[tuple[str, str], str]:
    """Return (method, number) → the mean over seeds with its interval, per cent."""
    found = {}
    for row in rows(f"{table}-{SCALE}.csv", "environment", "algorithm", "weighting", "number", "value"):
        if (row["environment"], row["algorithm"]) == (environment, algorithm) and row["value"]:
            mean, low, high = (f"{100 * float(row[key]):.1f}" if row[key] else "" for key in ("value", "low", "high"))
            found[row["weighting"], row["number"]] = f"{mean} [{low}, {high}]" if low else mean
    return found


def differences(table: str, environment: str, algorithm: str) -> dict[tuple[str, str], str]:
    """Return (method, number) → method minus Uniform, in points, with the corrected p-value.

    Where Uniform is compared with the method (question 2 has ActFocus by tokens for its baseline) the sign is turned.
    """
    found = {}
    for row in rows(f"{table}-{SCALE}-comparisons.csv", "environment", "weighting", "baseline", "p_value"):
        if (row["environment"], row["algorithm"]) != (environment, algorithm) or not row["p_value"]:
            continue
        one, low, high = (100 * float(row[key]) for key in ("difference", "low", "high"))
        if row["baseline"] == BASELINE:
            method = row["weighting"]
        elif row["weighting"] == BASELINE:
            method, one, low, high = row["baseline"], -one, -high, -low
        else:
            continue
        corrected = float(row["p_value_corrected"])
        words = f"{round(one, 1) + 0.0:+.1f} [{low:+.1f}, {high:+.1f}], p = {corrected:.2g}"
        found[method, row["number"]] = f"**{words}**" if corrected < 0.05 else words
    return found


def lines(environment: str = "frozenlake", algorithm: str = GRPO) -> Iterator[str]:
    """Yield the lines of the table.

    Raises:
        OSError: a written table cannot be read.
        ValueError: nothing is published of this environment and algorithm, or a file is another's.
        ExperimentError: the archive is none.
    """
    made = methods(environment, algorithm)
    gone = lost(environment, algorithm)
    table_values = {name: values(name, environment, algorithm) for name in TABLES}
    table_differences = {name: differences(name, environment, algorithm) for name in TABLES}
    shown = {name: one for name, one in made.items() if (name, FINAL) in table_values[one[0]]}
    if not shown:
        raise ValueError(f"no run of {environment} with {algorithm} is published")
    yield "| method | final | area | final − Uniform | area − Uniform | lost the format |"
    yield "|---|---|---|---|---|---|"
    for name, (table, label) in shown.items():
        means = [table_values[table].get((name, number), "") for number in (FINAL, AREA)]
        distances = [table_differences[table].get((name, number), "") for number in (FINAL, AREA)]
        runs = "{} of {}".format(*gone[name])
        yield f"| {' | '.join([label, *means, *distances, runs])} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_where(parser)
    args = parser.parse_args(arguments)
    try:
        print("\n".join(lines(args.env, args.algorithm)))
    except (OSError, ValueError, ExperimentError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
