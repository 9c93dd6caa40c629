"""Runs the diagnoses of `actfocus diagnose`: cost, progress, files, what is printed."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from verl_actfocus.cli._model_arguments import local_model
from verl_actfocus.diagnosis import charts, tables
from verl_actfocus.diagnosis.correlation import Correlation, Group, correlations, token_shares
from verl_actfocus.diagnosis.decisions import Decisions, Design
from verl_actfocus.diagnosis.folder import DiagnosisFolder
from verl_actfocus.diagnosis.groups import play, token_signals
from verl_actfocus.diagnosis.points import ANY_TURN, Point, points
from verl_actfocus.diagnosis.saved import saved_steps
from verl_actfocus.diagnosis.variance import Decided, decided
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.experiments import machine
from verl_actfocus.experiments.claims import claimed
from verl_actfocus.experiments.disk import write_whole
from verl_actfocus.experiments.folder import write_json
from verl_actfocus.experiments.progress import Display, duration
from verl_actfocus.trajectories import Trajectory

#: Exit code of a diagnosis of which episodes or states are missing.
INCOMPLETE = 1
#: Share of the work between two lines of progress where the output is no terminal.
_NEWS = 0.1
#: Most episodes that are played for a state of a turn, before the turn counts as hardly ever reached.
_EPISODES_FOR_A_STATE = 10


def correlation(args: argparse.Namespace, settings: EvaluationSettings) -> int:
    """Play groups and correlate; see `cli.diagnose.run`."""
    policy = local_model(args)
    reference = policy if args.reference is None else _reference(args, policy)
    folder = DiagnosisFolder(args.out or Path("outputs") / f"diagnose-correlation-{_named(args)}")
    identity = {"model": policy.identity(), "reference": None if args.reference is None else reference.identity()}
    with claimed(folder.path, {**identity, "evaluation": _sampled(settings)}, "diagnosis"):
        schedule = dict.fromkeys(settings.schedule())
        there = {key for one in folder.trajectories() if (key := (one.task, one.session)) in schedule}
        missing = [key for key in schedule if key not in there]
        _say(
            f"{settings.environment}: {settings.tasks} groups × {settings.samples} = {settings.episodes} episodes of "
            f"up to {settings.limits.turns} responses of {settings.limits.response_tokens} tokens, and a forward pass "
            f"for each; {len(there)} are there, {len(missing)} are left"
        )
        progress = _Progress("episodes", settings.episodes, len(there))

        def ended(_: object, trajectory: Trajectory) -> None:
            folder.add_trajectory(trajectory)
            progress.add()

        signals = partial(token_signals, policy.model, reference.model)
        failures = play(policy, settings, missing, at_once=args.batch_size, ended=ended, signals=signals)
        policy.close()
        progress.close()
        groups: dict[str, Group] = {}
        for trajectory in folder.trajectories():
            if (trajectory.task, trajectory.session) in schedule:
                groups.setdefault(trajectory.group, Group()).add(trajectory)
        found = correlations(list(groups.values()), seed=settings.seed)
        _write_correlation(args, folder, identity, settings, list(groups.values()), found)
    return _failed(failures, "episodes", settings.episodes)


def _reference(args: argparse.Namespace, policy: LocalModel) -> LocalModel:
    """Load the reference, which must read the policy's tokens."""
    reference = local_model(argparse.Namespace(**{**vars(args), "model": args.reference}))
    if reference.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise ValueError(f"--reference {args.reference} has another vocabulary than --model {args.model}")
    return reference


def _write_correlation(
    args: argparse.Namespace,
    folder: DiagnosisFolder,
    identity: Mapping[str, Any],
    settings: EvaluationSettings,
    groups: list[Group],
    found: list[Correlation],
) -> None:
    name = f"{settings.environment}, model {Path(args.model).name}: {len(groups)} groups of {settings.samples}"
    if args.reference is None:
        own = "the policy is its own reference, so that there is no shift between them"
        found = [replace(one, problem=f"not defined: {own}") if one.signal == "shift" else one for one in found]
    shares = token_shares(groups)
    energies = charts.energy_histogram([folder.trajectories(), folder.trajectories()])
    pictures = {"correlation.png": charts.scatter(groups, found, name)}
    if energies is not None:
        pictures["energies.png"] = charts.histogram(energies, name)
    rewards = [reward for group in groups for reward in group.rewards]
    figures = {
        "groups": len(groups),
        "groups_that_differ_in_reward": sum(group.spread > 0 for group in groups),
        "mean_reward": float(np.mean(rewards)) if rewards else None,
        "correlations": [one.as_dict() for one in found],
        "token_shares": shares,
        "energies": energies,
    }
    differ = figures["groups_that_differ_in_reward"]
    text = f"{tables.correlation_table(found)}\n\n{tables.shares_table(shares)}\n"
    text += f"\n{differ} of {len(groups)} groups differ in reward. Intervals: 95 %, bootstrap over groups.\n"
    _write(folder, {**identity, "evaluation": settings.as_dict(), "correlation": figures}, name, text, pictures)


def saved(args: argparse.Namespace) -> int:
    """Correlate step by step what a run saved; see `cli.diagnose.run`."""
    steps = saved_steps(args.run, args.pool)
    folder = DiagnosisFolder(args.out or Path("outputs") / f"diagnose-correlation-{_short(str(args.run))}")
    name = f"{args.run}: energy and spread of rewards over training"
    with claimed(folder.path, {"run": str(args.run.resolve()), "pool": args.pool}, "diagnosis"):
        found = [(one, correlations(one.groups)) for one in steps]
        labels = [str(one.last) if one.first == one.last else f"{one.first}–{one.last}" for one in steps]
        figures = [
            {
                "first_step": one.first,
                "last_step": one.last,
                "groups": len(one.groups),
                "correlations": [correlation.as_dict() for correlation in those],
                "token_shares": token_shares(one.groups),
            }
            for one, those in found
        ]
        named = list(zip(labels, [those for _, those in found], strict=True))
        text = "\n\n".join(
            f"{label[0].upper()}{label[1:]}\n\n{tables.steps_table(named, signal)}"
            for signal, label in tables.SIGNALS.items()
        )
        picture = charts.over_training([(one.last, those) for one, those in found], "energy", name)
        _write(folder, {"run": str(args.run), "steps": figures}, name, f"{text}\n", {"over-training.png": picture})
    return 0


def decisions(args: argparse.Namespace, settings: EvaluationSettings) -> int:
    """Draw and split the variance; see `cli.diagnose.run`."""
    reasonings, actions, futures = args.draws
    design = Design(reasonings, actions, futures, args.future)
    asked = sorted(set(args.at_turn))
    if max(asked) > settings.limits.turns:
        raise ValueError(f"--at-turn {max(asked)}: an episode has at most {settings.limits.turns} turns here")
    settings = replace(settings, tasks=_EPISODES_FOR_A_STATE * args.states, samples=1)
    policy = local_model(args)
    folder = DiagnosisFolder(args.out or Path("outputs") / f"diagnose-decisions-{_named(args)}")
    identity = {"model": policy.identity(), "design": asdict(design)}
    with claimed(folder.path, {**identity, "evaluation": _sampled(settings)}, "diagnosis"):
        most = len(asked) * args.states
        _say(
            f"{settings.environment}: {len(asked)} turns × {args.states} states × {design.reasonings} reasonings × "
            f"{design.actions} actions × {design.futures} futures = {most * design.episodes} episodes from the "
            f"decision on, {most * design.reasonings * (1 + design.actions)} sampled beginnings, and {args.states} to "
            f"{settings.tasks} whole episodes for the states; the first states tell how long that takes"
        )
        chosen, failures = _points(policy, settings, folder, asked, args.states, args.batch_size)
        there = {(state["asked"], state["task"]): state for state in folder.states()}
        missing = [one for turn in asked for one in chosen[turn] if one.key not in there]
        progress = _Progress("states", sum(map(len, chosen.values())), len(there))
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
        _write_decisions(args, folder, {**identity, "evaluation": settings.as_dict()}, states)
    return _failed(failures, "states", most)


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

    def ended(_: object, trajectory: Trajectory) -> None:
        folder.add_trajectory(trajectory)
        played.append(trajectory)

    for number in range(1, _EPISODES_FOR_A_STATE + 1):
        there = {one.task for one in played}
        schedule = [key for key in settings.schedule()[: number * states] if key[0] not in there]
        failures += play(policy, settings, schedule, at_once=at_once, ended=ended)
        chosen = {turn: points(played, turn, states, settings.seed) for turn in asked}
        if all(len(ones) == states for ones in chosen.values()):
            break
    for turn, ones in chosen.items():
        if len(ones) < states:
            _say(f"only {len(ones)} of {len(played)} episodes get to turn {turn}; {states} states were asked for")
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
            one = decided(
                np.array([state["returns"][outcome] for state in those]), seed=described["evaluation"]["seed"]
            )
            found.append((label, outcome, one))
            figures.append({"turn": turn, "outcome": outcome, **one.as_dict()})
    name = f"{described['evaluation']['environment']}, model {Path(args.model).name}: where the return is decided"
    text = tables.decisions_table(found) if found else "no episode gets to any of the turns"
    text = "\n".join([text, "", *notes, "", "Intervals: 95 %, bootstrap over states."]) + "\n"
    pictures = {"decisions.png": charts.decision_bars(found, name)} if found else {}
    _write(folder, {**described, "decisions": figures}, name, text, pictures)


def _write(
    folder: DiagnosisFolder, figures: Mapping[str, Any], name: str, text: str, pictures: Mapping[str, bytes]
) -> None:
    """Write figures, table and pictures, and print the table."""
    write_json(
        folder.path / "diagnosis.json",
        {
            **figures,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": machine.versions(),
            "commit": machine.git_commit(),
            "hardware": machine.hardware(),
        },
    )
    shown = "".join(f"\n![{Path(file).stem}]({file})\n" for file in pictures)
    write_whole(folder.path / "diagnosis.md", f"# {name}\n\n{text}{shown}".encode())
    for file, content in pictures.items():
        write_whole(folder.path / file, content)
    print(f"{name}\n\n{text}")
    print("written: " + ", ".join(str(folder.path / file) for file in ("diagnosis.json", "diagnosis.md", *pictures)))


def _failed(failures: Sequence[str], what: str, asked: int) -> int:
    """Say what failed; return the exit code."""
    if not failures:
        return 0
    _say(
        f"actfocus diagnose: {len(failures)} of {asked} {what} ended in an infrastructure failure and are in no figure:"
        "\n" + "\n".join(failures[:5]) + "\nonce the cause is removed, the same command plays them"
    )
    return INCOMPLETE


class _Progress:
    """A line on the standard error: how far, and how much longer."""

    def __init__(self, what: str, count: int, there: int) -> None:
        self._what, self._count, self._there, self._done = what, count, there, there
        self._display = Display("diagnose", sys.stderr)
        self._began, self._told = time.monotonic(), there

    def add(self) -> None:
        """One more is done."""
        self._done += 1
        spent = time.monotonic() - self._began
        left = spent / (self._done - self._there) * (self._count - self._done)
        news = self._done >= self._told + _NEWS * self._count or self._told == self._there
        if news:
            self._told = self._done
        self._display.show(f"{self._done}/{self._count} {self._what} | {duration(left)} left", news)

    def close(self) -> None:
        """Write the last line."""
        spent = duration(time.monotonic() - self._began)
        self._display.close(f"{self._done}/{self._count} {self._what} | {spent}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _sampled(settings: EvaluationSettings) -> dict[str, Any]:
    """Return the settings that each episode depends on: a folder may be continued with more tasks."""
    return {name: value for name, value in settings.as_dict().items() if name not in ("tasks", "samples")}


def _named(args: argparse.Namespace) -> str:
    return f"{args.profile or args.env}-{_short(args.model)}"


def _short(name: str) -> str:
    """A model's or run's name as part of a folder's: the last two parts of its path."""
    parts = [part for part in Path(name).expanduser().parts if part.strip("/.")]
    return re.sub(r"[^\w.-]+", "-", "-".join(parts[-2:])) or "model"
