"""Runs the diagnoses of `actfocus diagnose`: cost, progress, files, what is printed."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from verl_actfocus.cli._diagnosis_output import Progress, say, write
from verl_actfocus.cli._model_arguments import local_model, short_name
from verl_actfocus.diagnosis import charts, tables
from verl_actfocus.diagnosis.correlation import Group, correlations, token_shares, whole
from verl_actfocus.diagnosis.decisions import GAVE_UP, Decisions
from verl_actfocus.diagnosis.design import Design
from verl_actfocus.diagnosis.folder import DiagnosisFolder
from verl_actfocus.diagnosis.groups import play, token_signals
from verl_actfocus.diagnosis.points import ANY_TURN, Point, points
from verl_actfocus.diagnosis.variance import Decided, decided
from verl_actfocus.envs import registry
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.storage.claims import claimed
from verl_actfocus.trajectories import Trajectory

#: Exit code of a diagnosis of which episodes or states are missing.
INCOMPLETE = 1
#: Most episodes that are played for a state of a turn, before the turn counts as hardly ever reached.
_EPISODES_FOR_A_STATE = 10


def correlation(args: argparse.Namespace, settings: EvaluationSettings) -> int:
    """Play groups and correlate; see `cli.diagnose.run`."""
    policy = local_model(args)
    reference = policy if args.reference is None else _reference(args, policy)
    folder = DiagnosisFolder(args.out or Path("outputs") / f"diagnose-correlation-{_named(args)}")
    identity = {"model": policy.identity(), "reference": None if args.reference is None else reference.identity()}
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

        signals = partial(token_signals, policy.model, reference.model)
        failures = play(policy, settings, missing, at_once=args.batch_size, ended=ended, signals=signals)
        policy.close()
        progress.close()
        _write_correlation(args, folder, identity, settings)
    if failures:
        _say_failed(failures, f"{len(failures)} of {settings.episodes} episodes are missing")
    return INCOMPLETE if failures else 0


def _reference(args: argparse.Namespace, policy: LocalModel) -> LocalModel:
    """Load the reference, which must read the policy's tokens."""
    reference = local_model(argparse.Namespace(**{**vars(args), "model": args.reference}))
    if reference.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise ValueError(f"--reference {args.reference} has another vocabulary than --model {args.model}")
    return reference


def _write_correlation(
    args: argparse.Namespace, folder: DiagnosisFolder, identity: Mapping[str, Any], settings: EvaluationSettings
) -> None:
    begun = _groups(folder, settings)
    groups = whole(begun.values(), settings.samples)
    names = {name for name, group in begun.items() if len(group.returns) == settings.samples}
    left_out = settings.tasks - len(groups)
    found = correlations(groups)
    name = f"{settings.environment}, model {Path(args.model).name}: {len(groups)} groups of {settings.samples}"
    if args.reference is None:
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


def decisions(args: argparse.Namespace, settings: EvaluationSettings) -> int:
    """Draw and split the variance; see `cli.diagnose.run`."""
    reasonings, actions, futures = args.draws
    design = Design(reasonings, actions, futures, args.future)
    asked = sorted(set(args.at_turn))
    if max(asked) > settings.limits.turns:
        raise ValueError(f"--at-turn {max(asked)}: an episode has at most {settings.limits.turns} turns here")
    settings = replace(settings, tasks=_EPISODES_FOR_A_STATE * args.states, samples=1)
    if design.future == "expert":
        registry.expert(settings.environment)  # refused before the model is loaded
    policy = local_model(args)
    folder = DiagnosisFolder(args.out or Path("outputs") / f"diagnose-decisions-{_named(args)}")
    claim = decisions_claim(design, settings)
    identity = {"model": policy.identity(), "design": claim["design"]}
    with claimed(folder.path, {"model": identity["model"], **claim}, "diagnosis"):
        most = len(asked) * args.states
        say(
            f"{settings.environment}: {len(asked)} turns × {args.states} states × {design.reasonings} reasonings × "
            f"{design.actions} actions × {design.futures} futures = {most * design.episodes} episodes from the "
            f"decision on, {most * design.reasonings * (1 + design.actions)} sampled beginnings, and {args.states} to "
            f"{settings.tasks} whole episodes for the states; the first states tell how long that takes"
        )
        chosen, failures = _points(policy, settings, folder, asked, args.states, args.batch_size)
        wanted = [one for turn in asked for one in chosen[turn]]
        saved = {(state["asked"], state["task"]): state for state in folder.states()}
        there = {one.key: saved[one.key] for one in wanted if one.key in saved}
        missing = [one for one in wanted if one.key not in there]
        progress = Progress("states", len(wanted), len(there))
        for state in Decisions(policy, settings, design, args.batch_size).draw(missing):
            if "failure" in state:
                failures.append(f"turn {state['turn']}, task {state['task']}: {state['failure']}")
            else:
                folder.add_state(state)
                there[state["asked"], state["task"]] = state
            progress.add()
        policy.close()
        progress.close()
        states = {turn: [there[one.key] for one in chosen[turn] if one.key in there] for turn in asked}
        # Of a turn that too few episodes get to, what there is is all there is.
        lacking = most - len(there)
        complete = not (failures and lacking)
        _write_decisions(args, folder, {**identity, "evaluation": settings.as_dict(), "complete": complete}, states)
    if failures:
        _say_failed(failures, f"{lacking} of {most} states are missing")
    return 0 if complete else INCOMPLETE


def decisions_claim(design: Design, settings: EvaluationSettings) -> dict[str, Any]:
    """Return what the states of a diagnosis depend on besides the model, as in the `settings.json` of its folder."""
    return {"design": asdict(design), "evaluation": sampled(settings.as_dict())}


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


def _write_decisions(
    args: argparse.Namespace, folder: DiagnosisFolder, described: Mapping[str, Any], states: Mapping[int, list[Any]]
) -> None:
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
    name = f"{described['evaluation']['environment']}, model {Path(args.model).name}: where the return is decided"
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


def _say_failed(failures: Sequence[str], missing: str) -> None:
    """Say what is missing in the figures, and what failed."""
    say(
        f"actfocus diagnose: {missing}; {len(failures)} infrastructure failures:\n"
        + "\n".join(failures[:5])
        + "\nonce the cause is removed, the same command plays what failed"
    )


def sampled(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that each episode depends on: a folder may be continued with more tasks."""
    return {name: value for name, value in evaluation.items() if name not in ("tasks", "samples")}


def _named(args: argparse.Namespace) -> str:
    return f"{args.profile or args.env}-{short_name(args.model)}"
