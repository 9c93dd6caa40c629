"""`actfocus diagnose correlation --run`: what a training run saved, step by step."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from verl_actfocus.cli._model_arguments import short_name
from verl_actfocus.diagnosis import charts, tables
from verl_actfocus.diagnosis.correlation import correlations, token_shares
from verl_actfocus.diagnosis.folder import DiagnosisFolder
from verl_actfocus.diagnosis.output import write
from verl_actfocus.diagnosis.saved import Saved, Steps
from verl_actfocus.storage.claims import claimed


def saved(args: argparse.Namespace) -> int:
    """Correlate step by step what a run saved; see `cli.diagnose.run`."""
    there = Saved(args.run)
    steps = there.steps(args.pool)
    folder = DiagnosisFolder(args.out or Path("outputs") / f"diagnose-correlation-{short_name(str(args.run))}")
    name = f"{args.run}: energy and spread of rewards over training"
    # What is written here is computed anew every time, so that the folder may be used with another --pool.
    with claimed(folder.path, {"run": str(args.run.resolve())}, "diagnosis"):
        found = [(_label(one), correlations(one.groups)) for one in steps]
        shares = [(_label(one), token_shares(one.groups)) for one in steps]
        energies = charts.energy_histogram([there.trajectories(), there.trajectories()])
        figures: dict[str, Any] = {
            "run": str(args.run),
            "pool": args.pool,
            "keep_groups": there.keep_groups,
            "group_size": there.group_size,
            "energies": energies,
            "steps": [
                {
                    "first_step": one.first,
                    "last_step": one.last,
                    "groups": len(one.groups),
                    "groups_left_out": one.left_out,
                    "correlations": [correlation.as_dict() for correlation in those],
                    "token_shares": share,
                }
                for one, (_, those), (_, share) in zip(steps, found, shares, strict=True)
            ],
        }
        pictures = {
            "over-training.png": charts.over_training(
                [(one.last, those) for one, (_, those) in zip(steps, found, strict=True)], "energy", name
            )
        }
        if energies is not None:
            pictures["energies.png"] = charts.histogram(energies, f"{args.run}: all saved steps")
        parts = [
            *(
                f"{label[0].upper()}{label[1:]}\n\n{tables.steps_table(found, signal)}"
                for signal, label in tables.SIGNALS.items()
            ),
            f"Token shares\n\n{tables.step_shares_table(shares)}",
            "\n".join(f"- {note}" for note in _notes(there, steps, args.pool)),
        ]
        write(folder, figures, name, "\n\n".join(parts) + "\n", pictures)
    return 0


def _label(one: Steps) -> str:
    return str(one.last) if one.first == one.last else f"{one.first}–{one.last}"


def _notes(there: Saved, steps: list[Steps], pool: int) -> list[str]:
    """Say what the figures are of."""
    notes = []
    if there.keep_groups is None:
        notes.append(
            "whether the run trained on all groups is not known, since its run.json is not here; group selection "
            "(keep_groups below 1) saves the groups with the largest spread alone"
        )
    elif there.keep_groups < 1:
        notes.append(
            f"the run trained on the {100 * there.keep_groups:g} % of its groups with the largest spread of rewards "
            "(keep_groups), and saved no others: ρ is that of the selected groups, not of all that were played"
        )
    left_out = sum(one.left_out for one in steps)
    if left_out:
        notes.append(f"{left_out} groups with fewer than {there.group_size} episodes are left out")
    if pool > 1:
        notes.append("the groups of a step are ranked among themselves, and the steps' ranks pooled")
    notes.append("intervals: 95 %, Fisher's z")
    return notes
