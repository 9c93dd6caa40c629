"""States drawn and their returns' variance split: progress, files, what is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from verl_actfocus.diagnosis import charts, tables
from verl_actfocus.diagnosis.decisions import GAVE_UP, Decisions
from verl_actfocus.diagnosis.design import Design
from verl_actfocus.diagnosis.folder import DiagnosisFolder, sampled
from verl_actfocus.diagnosis.groups import play
from verl_actfocus.diagnosis.output import Progress, say, say_what_failed, write
from verl_actfocus.diagnosis.points import ANY_TURN, Point, points
from verl_actfocus.diagnosis.variance import Decided, decided
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.storage.claims import claimed
from verl_actfocus.trajectories import Trajectory

#: Most episodes that are played for a state of a turn, before the turn counts as hardly ever reached.
_EPISODES_FOR_A_STATE = 10


def decisions_claim(design: Design, settings: EvaluationSettings) -> dict[str, Any]:
    """Return what the states of a diagnosis depend on besides the model, as in the `settings.json` of its folder."""
    return {"design": asdict(design), "evaluation": sampled(settings.as_dict())}


def run_decisions(
    policy: LocalModel,
    settings: EvaluationSettings,
    design: Design,
    place: Path,
    *,
    turns: Sequence[int],
    states: int,
    at_once: int,
    model: str,
) -> bool:
    """Draw the states that are not there yet, split the variance over all, write and print.

    Args:
        policy: plays; it is closed.
        settings: budgets and sampling; how many tasks are played follows from `states`.
        design: draws of each state.
        place: folder of the diagnosis.
        turns: from 1, and 0 for any.
        states: of each turn.
        at_once: most episodes at a time.
        model: name of the policy in headings.

    Returns:
        Whether no state is missing but those of turns that too few episodes get to.

    Raises:
        ExperimentError: the folder holds another diagnosis, is in use, or the disk is full.
    """
    asked = sorted(set(turns))
    settings = replace(settings, tasks=_EPISODES_FOR_A_STATE * states, samples=1)
    folder = DiagnosisFolder(place)
    claim = decisions_claim(design, settings)
    identity = {"model": policy.identity(), "design": claim["design"]}
    with claimed(folder.path, {"model": identity["model"], **claim}, "diagnosis"):
        most = len(asked) * states
        say(
            f"{settings.environment}: {len(asked)} turns × {states} states × {design.reasonings} reasonings × "
            f"{design.actions} actions × {design.futures} futures = {most * design.episodes} episodes from the "
            f"decision on, {most * design.reasonings * (1 + design.actions)} sampled beginnings, and {states} to "
            f"{settings.tasks} whole episodes for the states; the first states tell how long that takes"
        )
        chosen, failures = _points(policy, settings, folder, asked, states, at_once)
        wanted = [one for turn in asked for one in chosen[turn]]
        saved = {(state["asked"], state["task"]): state for state in folder.states()}
        there = {one.key: saved[one.key] for one in wanted if one.key in saved}
        missing = [one for one in wanted if one.key not in there]
        progress = Progress("states", len(wanted), len(there))
        for state in Decisions(policy, settings, design, at_once).draw(missing):
            if "failure" in state:
                failures.append(f"turn {state['turn']}, task {state['task']}: {state['failure']}")
            else:
                folder.add_state(state)
                there[state["asked"], state["task"]] = state
            progress.add()
        policy.close()
        progress.close()
        drawn = {turn: [there[one.key] for one in chosen[turn] if one.key in there] for turn in asked}
        # Of a turn that too few episodes get to, what there is is all there is.
        lacking = most - len(there)
        complete = not (failures and lacking)
        _write(folder, {**identity, "evaluation": settings.as_dict(), "complete": complete}, drawn, model)
    if failures:
        say_what_failed(failures, f"{lacking} of {most} states are missing")
    return complete


def _points(
    policy: LocalModel,
    settings: EvaluationSettings,
    folder: DiagnosisFolder,
    asked: list[int],
    states: int,
    at_once: int,
) -> tuple[dict[int, list[Point]], list[str]]:
    """Play episodes until there are enough states of every turn, or too few episodes get there."""
    played = list(folder.trajectories())
    failures: list[str] = []
    tried: set[int] = set()

    def ended(_: object, trajectory: Trajectory) -> None:
        folder.add_trajectory(trajectory)
        played.append(trajectory)

    for number in range(1, _EPISODES_FOR_A_STATE + 1):
        there = {one.task for one in played}
        # A task that failed is not played again in this attempt.
        schedule = [key for key in settings.schedule()[: number * states] if key[0] not in there | tried]
        tried |= {task for task, _ in schedule}
        failures += play(policy, settings, schedule, at_once=at_once, ended=ended)
        chosen = {turn: points(played, turn, states, settings.seed) for turn in asked}
        if all(len(ones) == states for ones in chosen.values()):
            break
    for turn, ones in chosen.items():
        if len(ones) < states:
            say(f"only {len(ones)} of {len(played)} episodes get to turn {turn}; {states} states were asked for")
    return chosen, failures


def _write(folder: DiagnosisFolder, described: Mapping[str, Any], states: Mapping[int, list[Any]], model: str) -> None:
    found: list[tuple[str, str, Decided]] = []
    figures = []
    notes = []
    for turn, those in states.items():
        label = "any" if turn == ANY_TURN else str(turn)
        if not those:
            notes.append(f"- turn {label}: no episode gets there.")
            continue
        for outcome in those[0]["returns"]:
            one = decided(np.array([state["returns"][outcome] for state in those]))
            found.append((label, outcome, one))
            figures.append({"turn": turn, "outcome": outcome, **one.as_dict(), **_given_up(described, those)})
        notes += _expert_note(described, label, those)
    name = f"{described['evaluation']['environment']}, model {model}: where the return is decided"
    text = tables.decisions_table(found) if found else "no episode gets to any of the turns"
    text = "\n".join([text, "", *notes, "", "Intervals: 95 % over states, by Fieller's theorem."]) + "\n"
    pictures = {"decisions.png": charts.decision_bars(found, name)} if found else {}
    write(folder, {**described, "decisions": figures}, name, text, pictures)


def _given_up(described: Mapping[str, Any], states: Sequence[Mapping[str, Any]]) -> dict[str, int | None]:
    """Futures in which the expert knew no way to the goal; None where a state does not say so."""
    if described["design"]["future"] != "expert":
        return {}
    recorded = all(GAVE_UP in state for state in states)
    return {GAVE_UP: sum(state[GAVE_UP] for state in states) if recorded else None}


def _expert_note(described: Mapping[str, Any], label: str, states: Sequence[Mapping[str, Any]]) -> list[str]:
    found = _given_up(described, states)
    if not found:
        return []
    design, count = described["design"], found[GAVE_UP]
    futures = len(states) * design["reasonings"] * design["actions"] * design["futures"]
    said = "it was not recorded in how many" if count is None else f"{count}"
    return [f"- turn {label}: in {said} of {futures} futures the expert knew no way to the goal, and they ended there."]
