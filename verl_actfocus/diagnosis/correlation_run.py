"""Groups played and correlated with the spread of their rewards: progress, files, what is printed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from verl_actfocus.diagnosis import charts, tables
from verl_actfocus.diagnosis.correlation import Group, correlations, token_shares, whole
from verl_actfocus.diagnosis.folder import DiagnosisFolder, sampled
from verl_actfocus.diagnosis.groups import play, token_signals
from verl_actfocus.diagnosis.output import Progress, say, say_what_failed, write
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.storage.claims import claimed
from verl_actfocus.trajectories import Trajectory


def run_correlation(
    policy: LocalModel,
    reference: LocalModel | None,
    settings: EvaluationSettings,
    place: Path,
    *,
    at_once: int,
    model: str,
) -> bool:
    """Play the groups that are not there yet, correlate all, write and print.

    Args:
        policy: plays; it is closed.
        reference: frozen model of the signals, which reads the policy's tokens; None for the policy.
        settings: tasks are groups, samples their episodes.
        place: folder of the diagnosis.
        at_once: most episodes at a time.
        model: name of the policy in headings.

    Returns:
        Whether no episode is missing.

    Raises:
        ExperimentError: the folder holds another diagnosis, is in use, or the disk is full.
    """
    folder = DiagnosisFolder(place)
    identity = {"model": policy.identity(), "reference": None if reference is None else reference.identity()}
    with claimed(folder.path, {**identity, "evaluation": sampled(settings.as_dict())}, "diagnosis"):
        schedule = dict.fromkeys(settings.schedule())
        there = {key for one in folder.trajectories() if (key := (one.task, one.session)) in schedule}
        missing = [key for key in schedule if key not in there]
        say(
            f"{settings.environment}: {settings.tasks} groups × {settings.samples} = {settings.episodes} episodes of "
            f"up to {settings.limits.turns} responses of {settings.limits.response_tokens} tokens, and a forward pass "
            f"for each; {len(there)} are there, {len(missing)} are left"
        )
        progress = Progress("episodes", settings.episodes, len(there))

        def ended(_: object, trajectory: Trajectory) -> None:
            folder.add_trajectory(trajectory)
            progress.add()

        signals = partial(token_signals, policy.model, (reference or policy).model)
        failures = play(policy, settings, missing, at_once=at_once, ended=ended, signals=signals)
        policy.close()
        progress.close()
        _write(folder, identity, settings, model)
    if failures:
        say_what_failed(failures, f"{len(failures)} of {settings.episodes} episodes are missing")
    return not failures


def _write(folder: DiagnosisFolder, identity: Mapping[str, Any], settings: EvaluationSettings, model: str) -> None:
    begun = _groups(folder, settings)
    groups = whole(begun.values(), settings.samples)
    names = {name for name, group in begun.items() if len(group.returns) == settings.samples}
    left_out = settings.tasks - len(groups)
    found = correlations(groups)
    name = f"{settings.environment}, model {model}: {len(groups)} groups of {settings.samples}"
    if identity["reference"] is None:
        own = "the policy is its own reference, so that there is no shift between them"
        found = [replace(one, problem=f"not defined: {own}") if one.signal == "shift" else one for one in found]
    shares = token_shares(groups)
    energies = charts.energy_histogram([_scheduled(folder, settings, names) for _ in range(2)])
    pictures = {"correlation.png": charts.scatter(groups, found, name)}
    if energies is not None:
        pictures["energies.png"] = charts.histogram(energies, name)
    rewards = [reward for group in groups for reward in group.rewards]
    figures = {
        "groups": len(groups),
        "groups_left_out": left_out,
        "groups_that_differ_in_reward": sum(group.spread > 0 for group in groups),
        "mean_reward": float(np.mean(rewards)) if rewards else None,
        "correlations": [one.as_dict() for one in found],
        "token_shares": shares,
        "energies": energies,
    }
    differ = figures["groups_that_differ_in_reward"]
    text = f"{tables.correlation_table(found)}\n\n{tables.shares_table(shares)}\n"
    text += f"\n{differ} of {len(groups)} groups differ in reward. Intervals: 95 %, Fisher's z.\n"
    if left_out:
        text += f"\n{left_out} groups of which episodes failed are left out.\n"
    write(folder, {**identity, "evaluation": settings.as_dict(), "correlation": figures}, name, text, pictures)


def _groups(folder: DiagnosisFolder, settings: EvaluationSettings) -> dict[str, Group]:
    """Return the groups that are asked for, by name, as far as they were played."""
    schedule = set(settings.schedule())
    groups: dict[str, Group] = {}
    for one in folder.trajectories():
        if (one.task, one.session) in schedule:
            groups.setdefault(one.group, Group()).add(one)
    return groups


def _scheduled(folder: DiagnosisFolder, settings: EvaluationSettings, names: Collection[str]) -> Iterator[Trajectory]:
    """Yield the trajectories that are asked for of groups with these names."""
    schedule = set(settings.schedule())
    return (one for one in folder.trajectories() if one.group in names and (one.task, one.session) in schedule)
