"""The published figures of `actfocus diagnose`: kept in `recipes/diagnose/results`, and the tables of docs/diagnose.md.

recipes/diagnose/measure.sh frozenlake outputs/diagnose/frozenlake-before  # and so on, for every model
python -m tools.diagnosis_tables --collect outputs/diagnose                # copies the figures
python -m tools.diagnosis_tables                                           # writes the tables into the page
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from verl_actfocus.diagnosis import tables
from verl_actfocus.diagnosis.correlation import PARTS, SIGNALS
from verl_actfocus.diagnosis.variance import ACTION, AFTER, REASONING, Share
from verl_actfocus.storage.disk import write_json

PAGE = Path(__file__).parents[1] / "docs" / "diagnose.md"
RESULTS = Path(__file__).parents[1] / "recipes" / "diagnose" / "results"
#: Environments and moments of training, in the order of the tables.
ENVIRONMENTS = ("sokoban", "frozenlake", "sudoku", "webshop")
MODELS = {"before": "before training", "uniform": "after Uniform", "actfocus": "after ActFocus"}
KINDS = ("correlation", "decisions")
#: What a reader needs besides the figures; paths of the machine that measured are not among it.
KEPT = ("design", "evaluation", *KINDS, "finished", "versions", "commit", "hardware")


def collect(folder: Path, results: Path = RESULTS) -> list[str]:
    """Copy the figures of every diagnosis below a folder, named `<environment>-<moment>`; return their names.

    Raises:
        ValueError: There is none in the folder.
    """
    names = []
    for environment in ENVIRONMENTS:
        for moment in MODELS:
            for kind in KINDS:
                found = folder / f"{environment}-{moment}" / kind / "diagnosis.json"
                if found.exists():
                    figures = json.loads(found.read_text(encoding="utf-8"))
                    name = f"{environment}-{moment}-{kind}"
                    write_json(results / f"{name}.json", {key: figures[key] for key in KEPT if key in figures})
                    names.append(name)
    if not names:
        expected = f"{ENVIRONMENTS[0]}-{next(iter(MODELS))}/{KINDS[0]}/diagnosis.json"
        raise ValueError(f"{folder} holds no diagnosis like {expected}: name the folder that measure.sh wrote to")
    return names


def published(kind: str, results: Path = RESULTS) -> list[tuple[str, str, dict[str, Any]]]:
    """Return environment, moment and figures of all published diagnoses of a kind, in the order of the tables."""
    places = [(environment, moment) for environment in ENVIRONMENTS for moment in MODELS]
    files = [(*place, results / f"{place[0]}-{place[1]}-{kind}.json") for place in places]
    return [(*place, json.loads(file.read_text(encoding="utf-8"))) for *place, file in files if file.exists()]


def decisions() -> str:
    """Return the table of where success, and what an environment declares beside it, is decided."""
    terms = {**{term: tables.TERMS[term] for term in (REASONING, ACTION, AFTER)}, "ratio": "reasoning / both"}
    lines = tables.header("environment", "model", "turn", "outcome", "states", "mean", *terms.values())
    for environment, moment, figures in published("decisions"):
        for one in figures["decisions"]:
            if one["outcome"] == "reward":
                continue
            shares = [_share(one["shares"][term]) for term in (REASONING, ACTION, AFTER)]
            shares.append(_share(one["reasoning_over_reasoning_and_action"]))
            cells = [environment, MODELS[moment], str(one["turn"]), one["outcome"], str(one["states"])]
            lines.append(tables.row(*cells, f"{one['mean']:.2f}", *shares))
    return "\n".join(lines)


def correlations() -> str:
    """Return the table of ρ between mean energy and spread of rewards, and of the other signals on action tokens."""
    others = [f"{label}, action" for name, label in SIGNALS.items() if name != "energy"]
    lines = tables.header("environment", "model", "groups", *(f"energy, {part}" for part in PARTS), *others)
    for environment, moment, figures in published("correlation"):
        by_place = {(one["signal"], one["part"]): one for one in figures["correlation"]["correlations"]}
        places = [("energy", part) for part in PARTS] + [(name, "action") for name in SIGNALS if name != "energy"]
        groups = str(figures["correlation"]["groups"])
        lines.append(tables.row(environment, MODELS[moment], groups, *(_rho(by_place[place]) for place in places)))
    return "\n".join(lines)


def token_shares() -> str:
    """Return the columns of the paper's Table 1."""
    lines = tables.header(
        "environment", "model", "tokens per trajectory", "reasoning", "action", "tags and ends of turn"
    )
    for environment, moment, figures in published("correlation"):
        shares = figures["correlation"]["token_shares"]
        percents = [f"{100 * shares[f'{part}_share']:.1f} %" for part in ("reasoning", "action", "none")]
        lines.append(tables.row(environment, MODELS[moment], f"{shares['tokens_per_trajectory']:.1f}", *percents))
    return "\n".join(lines)


def _share(one: dict[str, Any]) -> str:
    ends = None if one["low"] is None else (one["low"], one["high"])
    return tables.share_cell(Share(value=one["value"], interval=ends))


def _rho(one: dict[str, Any]) -> str:
    if one["rho"] is None:
        return "not defined"
    ends = None if one["low"] is None else (one["low"], one["high"])
    return tables.share_cell(Share(value=one["rho"], interval=ends))


def written(page: str) -> str:
    """Return the page with the tables of the published figures between its marks.

    Raises:
        ValueError: The page lacks a mark; it would be written over.
    """
    for table in (decisions, correlations, token_shares):
        before, mark, rest = page.partition(f"<!-- {table.__name__} -->\n")
        _, end, after = rest.partition(f"<!-- end of {table.__name__} -->\n")
        if not end:
            raise ValueError(f"the page has no lines <!-- {table.__name__} --> and <!-- end of {table.__name__} -->")
        page = f"{before}{mark}\n{table()}\n\n{end}{after}"
    return page


def main() -> None:
    """Collect, or write the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", type=Path, metavar="DIR", help="folder of the diagnoses, see measure.sh")
    args = parser.parse_args()
    try:
        if args.collect is not None:
            print("\n".join(collect(args.collect)))
            return
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
