"""How much of the policy gradient is signal, how much noise, and what a step gains, under each way of giving credit.

    python -m tools.evidence.gradient_variance --env frozenlake --groups 64 --group-size 8

    python -m tools.evidence.gradient_variance --env frozenlake --model outputs/frozenlake-action --groups 256

    python -m tools.evidence.gradient_variance --env sokoban --groups 128 --methods actfocus entropy_top gigpo/uniform

Plays groups of episodes with the environment's tiny model, or with another one of the environment, as a training step
does, and takes the gradient of every group at the start of the update, where the ratio is 1 and nothing is clipped.
What is computed from them, and what the *gain* in the last column is: `tools.evidence.gradient_statistics`.

A group in which no method that is measured tells episodes apart, for GRPO one of equal returns, is no part of the
table, so that a method that tells more groups apart (`gigpo/…`) changes the others' variance and signal a little; their
gain it leaves as it is but for the number of groups that `n` stands for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import yaml
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tools.evidence.gradient_statistics import STEP, UNIFORM, Measured
from verl_actfocus import models
from verl_actfocus.diagnosis.groups import play
from verl_actfocus.episodes.player import Player
from verl_actfocus.estimators import PREFIX, Estimator, Place, TrajectoryBatch, estimator_from
from verl_actfocus.evaluation.checkpoints import find_model
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.settings import profile_settings
from verl_actfocus.experiments.runs.estimators import EstimatorChoice
from verl_actfocus.experiments.runs.weightings import WeightingChoice
from verl_actfocus.weighting import (
    Span,
    TokenBatch,
    Weighting,
    token_energy,
    token_entropy,
    turn_indices,
    weighting_from,
)

FIRST_SEED = 1_000_000
"""First task of training, as in the configurations."""
AT_ONCE = 64
"""Episodes at a time."""
PARTS = {
    "reasoning tokens alone": Span.REASONING,
    "action tokens alone": Span.ACTION,
    "tags and ends of turn alone": Span.NONE,
}
"""Whose gradients add up to Uniform's."""
COLUMNS = ("turn_rewards", "anchor_states")
"""What an estimator may need."""
INPUTS = ("spans", "turns", "ref_energy", "old_entropy")
"""What a weighting may need."""


@dataclass(frozen=True)
class Trajectory:
    """One played episode; lists are over every token after the first prompt."""

    task: int
    sample: int
    ids: list[int]
    """All tokens, the first prompt included."""
    prompt_length: int
    mask: list[int]
    spans: list[int]
    turn_rewards: list[float]
    """At the last token of every turn, 0 elsewhere, as the agent loop hands them on."""
    states: list[int]
    """The state that a turn began in, at its last token."""
    reward: float


@dataclass(frozen=True)
class Method:
    """A way of giving credit: an estimator of advantages and a weighting of tokens."""

    name: str
    """As on the command line: `weighting`, or `estimator/weighting`."""
    estimator: Estimator
    weighting: Weighting

    @classmethod
    def parse(cls, name: str) -> Method:
        """Read `weighting`, or `estimator/weighting`, with settings as `actfocus compare` takes them.

        Raises:
            ValueError: there is no such estimator or weighting, or a setting is out of range.
        """
        estimator, _, weighting = name.rpartition("/")
        chosen, weights = EstimatorChoice.parse(estimator or "grpo"), WeightingChoice.parse(weighting)
        method = cls(
            name,
            estimator_from(PREFIX + chosen.name, _values(chosen.settings)),
            weighting_from({"name": weights.name, **_values(weights.settings)}),
        )
        if method.estimator.base != "grpo":
            raise ValueError(f"{name}: {chosen.name} needs a trained critic, which there is none of before training")
        unknown = {*method.estimator.needs} - {*COLUMNS} | {*method.weighting.needs} - {*INPUTS}
        if unknown:
            raise ValueError(f"{name} needs {', '.join(sorted(unknown))}, which is not computed here")
        return method

    def factors(self, trajectories: Sequence[Trajectory], inputs: Mapping[str, Tensor]) -> Tensor:
        """Return advantage times weight of every token, shape (B, T), over all trajectories at once as in training."""
        mask = inputs["mask"]
        advantages = pad_sequence(_advantages(self.estimator, trajectories), batch_first=True)
        batch = TokenBatch(
            spans=inputs["spans"],
            response_mask=mask,
            turns=turn_indices(mask),
            advantages=advantages,
            inputs={name: inputs[name] for name in ("ref_energy", "old_entropy")},
        )
        return self.weighting.weights(batch) * advantages * mask


def play_groups(model: LocalModel, profile: str, groups: int, size: int) -> list[list[Trajectory]]:
    """Play `groups` tasks, `size` episodes each, at temperature 1."""
    settings = profile_settings(profile)
    tasks = range(FIRST_SEED, FIRST_SEED + groups)
    played: dict[int, list[Trajectory]] = {task: [] for task in tasks}
    failures = play(
        model,
        settings,
        [(task, sample) for task in tasks for sample in range(size)],
        at_once=AT_ONCE,
        ended=lambda player, _: played[player.task].append(_trajectory(player)),
    )
    if failures:
        raise RuntimeError("\n".join(failures))
    return list(played.values())


def _trajectory(player: Player) -> Trajectory:
    tokens = player.tokens
    rewards, states = player.at_turn_ends()
    return Trajectory(
        task=player.task,
        sample=player.sample,
        ids=tokens.ids,
        prompt_length=tokens.prompt_length,
        mask=tokens.mask,
        spans=tokens.spans,
        turn_rewards=rewards,
        states=states,
        reward=player.episode.total_reward,
    )


def _values(settings: Sequence[tuple[str, str]]) -> dict[str, object]:
    return {name: yaml.safe_load(value) for name, value in settings}


def _advantages(estimator: Estimator, trajectories: Sequence[Trajectory]) -> list[Tensor]:
    """Advantage of every token, as the trainer has them: veRL's GRPO, then the estimator."""
    masks = [torch.tensor(one.mask) for one in trajectories]
    by_task: dict[int, list[float]] = {}
    for one in trajectories:
        by_task.setdefault(one.task, []).append(one.reward)
    returns = {task: torch.tensor(values, dtype=torch.float64) for task, values in by_task.items()}
    stock = [
        ((one.reward - returns[one.task].mean()) / (returns[one.task].std() + 1e-6)).float() * mask
        for one, mask in zip(trajectories, masks, strict=True)
    ]
    rewards = [torch.zeros(len(mask)) for mask in masks]
    for row, one in zip(rewards, trajectories, strict=True):
        row[-1] = one.reward
    estimate = estimator.estimate(
        TrajectoryBatch(
            places=[Place(str(one.task), str(one.sample), 0) for one in trajectories],
            rewards=rewards,
            model_mask=masks,
            response_mask=masks,
            advantages=stock,
            inputs={
                "turn_rewards": [torch.tensor(one.turn_rewards) for one in trajectories],
                "anchor_states": [torch.tensor(one.states) for one in trajectories],
            },
        )
    )
    return stock if estimate is None else estimate.advantages


def gradients(model: torch.nn.Module, group: Sequence[Trajectory], factors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the group's gradient of `sum_t f_t log pi(y_t)` for each per-token factor `f` in `factors`.

    Args:
        model: The policy.
        group: Its trajectories.
        factors: Advantage times weight, each of shape (B, T) over the tokens after the first prompt, padded with 0.
    """
    ids = pad_sequence([torch.tensor(one.ids) for one in group], batch_first=True)
    # What is padded comes last, where a causal model does not see it.
    logits = model(ids).logits[:, :-1].float()
    every = torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None])[..., 0]
    rows = [row[one.prompt_length - 1 : len(one.ids) - 1] for row, one in zip(every, group, strict=True)]
    log_probs = pad_sequence(rows, batch_first=True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for number, factor in enumerate(factors, start=1):
        parts = torch.autograd.grad((factor * log_probs).sum(), parameters, retain_graph=number < len(factors))
        yield torch.cat([part.reshape(-1) for part in parts])


def measure(model: torch.nn.Module, groups: Sequence[Sequence[Trajectory]], methods: Sequence[Method]) -> Measured:
    """Take the gradients of all groups in which some method tells episodes apart.

    Args:
        model: who played them; policy and reference model in one, since nothing was trained yet.
        groups: the episodes of each task.
        methods: what is measured beside Uniform and its parts.
    """
    trajectories = [one for group in groups for one in group]
    with torch.no_grad():
        energies, entropies = [], []
        for one in trajectories:
            logits = model(torch.tensor([one.ids])).logits[0, one.prompt_length - 1 : -1]
            energies.append(token_energy(logits))
            entropies.append(token_entropy(logits))
    inputs = {
        "spans": pad_sequence([torch.tensor(one.spans) for one in trajectories], batch_first=True),
        "mask": pad_sequence([torch.tensor(one.mask) for one in trajectories], batch_first=True),
        "ref_energy": pad_sequence(energies, batch_first=True),
        "old_entropy": pad_sequence(entropies, batch_first=True),
    }
    factors = {one.name: one.factors(trajectories, inputs) for one in [Method.parse(UNIFORM), *methods]}
    chosen = {name: (inputs["mask"] == 1) & (inputs["spans"] == span) for name, span in PARTS.items()}
    parts = {name: factors[UNIFORM] * part for name, part in chosen.items()}
    places = [0, *torch.tensor([len(group) for group in groups]).cumsum(0).tolist()]
    # Uniform's gradient is the sum of its parts'.
    wanted = {**parts, **{name: factor for name, factor in factors.items() if name != UNIFORM}}
    told = []
    for group, (first, last) in zip(groups, pairwise(places), strict=True):
        rows = {name: factor[first:last] for name, factor in wanted.items()}
        if any(row.any() for row in rows.values()):
            told.append((group, rows))
    size = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    # The largest thing by far: it is there once.
    taken = {name: torch.zeros(len(told), size) for name in {**parts, **factors}}
    for number, (group, rows) in enumerate(told):
        longest = max(len(one.mask) for one in group)
        short = [row[:, :longest] for row in rows.values()]
        for name, gradient in zip(rows, gradients(model, group, short), strict=True):
            taken[name][number] = gradient
            if name in parts:
                taken[UNIFORM][number] += gradient
    tokens = {name: part.sum().item() / inputs["mask"].sum().item() for name, part in chosen.items()}
    return Measured(taken, tokens, len(groups))


def main() -> None:
    """Play, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="frozenlake", choices=models.available(), help="environment of the episodes")
    parser.add_argument("--model", help="who plays, named as for actfocus eval (default: the environment's tiny model)")
    parser.add_argument("--groups", type=int, default=64, help="tasks (default 64)")
    parser.add_argument("--group-size", type=int, default=8, help="episodes of a task (default 8)")
    parser.add_argument("--step", type=int, default=STEP, help=f"tasks of an optimizer step (default {STEP})")
    parser.add_argument(
        "--methods", nargs="+", default=["actfocus"], metavar="[ESTIMATOR/]WEIGHTING",
        help="what is measured beside Uniform and its parts (default actfocus)",
    )  # fmt: skip
    args = parser.parse_args()
    try:
        methods = [Method.parse(name) for name in args.methods if name != UNIFORM]
    except ValueError as error:
        parser.error(str(error))
    name = args.model or args.env
    policy = LocalModel(find_model(name), device="cpu")
    groups = play_groups(policy, f"cpu_{args.env}", args.groups, args.group_size)
    measured = measure(policy.model, groups, methods)
    told = len(measured.gradients[UNIFORM])
    print(f"{name}: in {told} of {args.groups} groups of {args.group_size} episodes are told apart; of these groups:")
    print("\n".join(measured.table(args.step)))


if __name__ == "__main__":
    main()
