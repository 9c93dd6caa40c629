"""How much of the policy gradient is signal, and how much noise, under each weighting: the table of docs/why.md.

    python -m tools.gradient_variance --env frozenlake --groups 64 --group-size 8

    python -m tools.gradient_variance --env frozenlake --model outputs/frozenlake-action --groups 256

Plays groups of episodes with the environment's tiny model, or with another one of the environment, as a training step
of GRPO does, and takes the gradient of every group at the start of the update, where the ratio is 1 and nothing is
clipped. Groups are independent, so that the variance of a gradient that is averaged over `n` groups is the trace of the
groups' covariance over `n`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verl_actfocus import models
from verl_actfocus.diagnosis.groups import play
from verl_actfocus.episodes.player import Player
from verl_actfocus.evaluation.checkpoints import find_model
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.settings import profile_settings
from verl_actfocus.weighting import Span, token_energy, token_weights

FIRST_SEED = 1_000_000
"""First task of training, as in the configurations."""
AT_ONCE = 64
"""Episodes at a time."""
PARTS = ("reasoning", "action", "tags and ends of turn")


@dataclass(frozen=True)
class Trajectory:
    """One played episode: its tokens, mask and span of every token after the first prompt, and its return."""

    ids: list[int]
    prompt_length: int
    mask: list[int]
    spans: list[int]
    reward: float


@dataclass(frozen=True)
class Estimate:
    """What the gradients of independent groups say about their mean and their scatter."""

    variance: float
    """Trace of the covariance of one group's gradient, unbiased."""
    signal: float
    """Squared length of the expected gradient, unbiased, and so maybe below zero."""
    error: float
    """Standard error of the signal, by the jackknife over groups."""

    @classmethod
    def of(cls, gradients: Sequence[Tensor]) -> Estimate:
        """Estimate from the gradient of every group, each of shape (parameters,)."""
        stacked = torch.stack(list(gradients))
        products = (stacked @ stacked.T).double()
        count = len(gradients)
        rows = products.sum(dim=1) - products.diag()
        signal = rows.sum().item() / (count * (count - 1))
        # Without one group, the mean over the pairs of the others.
        without = (rows.sum() - 2 * rows) / ((count - 1) * (count - 2))
        error = ((count - 1) / count * (without - without.mean()).square().sum()).sqrt().item()
        return cls(products.diag().mean().item() - signal, signal, error)


def play_groups(model: LocalModel, profile: str, groups: int, size: int) -> list[list[Trajectory]]:
    """Play `groups` tasks, `size` episodes each, at temperature 1; leave out groups that do not differ in return."""
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
    return [group for group in played.values() if len({round(one.reward, 9) for one in group}) > 1]


def _trajectory(player: Player) -> Trajectory:
    tokens = player.tokens
    return Trajectory(tokens.ids, tokens.prompt_length, tokens.mask, tokens.spans, player.episode.total_reward)


def gradients(model: torch.nn.Module, group: Sequence[Trajectory], weights: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the group's gradient of `sum_t v_t A log pi(y_t)` for each per-token factor `v` in `weights`.

    Args:
        model: The policy.
        group: Its trajectories.
        weights: Factors, each of shape (B, T) over the tokens after the first prompt, padded with 0.
    """
    rewards = torch.tensor([one.reward for one in group], dtype=torch.float64)
    advantages = ((rewards - rewards.mean()) / (rewards.std() + 1e-6)).float()
    rows = []
    for one in group:
        ids = torch.tensor([one.ids])
        logits = model(ids).logits[0, one.prompt_length - 1 : -1].float()
        rows.append(torch.log_softmax(logits, -1).gather(1, ids[0, one.prompt_length :, None])[:, 0])
    log_probs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for number, factor in enumerate(weights, start=1):
        loss = (factor * advantages[:, None] * log_probs).sum()
        parts = torch.autograd.grad(loss, parameters, retain_graph=number < len(weights))
        yield torch.cat([part.reshape(-1) for part in parts])


def main() -> None:
    """Play, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="frozenlake", choices=models.available(), help="environment of the episodes")
    parser.add_argument("--model", help="who plays, named as for actfocus eval (default: the environment's tiny model)")
    parser.add_argument("--groups", type=int, default=64, help="tasks (default 64)")
    parser.add_argument("--group-size", type=int, default=8, help="episodes of a task (default 8)")
    args = parser.parse_args()
    name = args.model or args.env
    policy = LocalModel(find_model(name), device="cpu")
    groups = play_groups(policy, f"cpu_{args.env}", args.groups, args.group_size)
    print(f"{name}: {len(groups)} of {args.groups} groups of {args.group_size} differ in return")

    trajectories = [one for group in groups for one in group]
    pad = torch.nn.utils.rnn.pad_sequence
    spans = pad([torch.tensor(one.spans) for one in trajectories], batch_first=True)
    mask = pad([torch.tensor(one.mask) for one in trajectories], batch_first=True)
    with torch.no_grad():
        energies = [
            token_energy(policy.model(torch.tensor([one.ids])).logits[0, one.prompt_length - 1 : -1])
            for one in trajectories
        ]
    focused = token_weights(spans, pad(energies, batch_first=True), response_mask=mask)
    chosen = [(mask == 1) & (spans == span) for span in (Span.REASONING, Span.ACTION, Span.NONE)]
    factors = {
        **{f"Uniform, {name} only": part.float() for name, part in zip(PARTS, chosen, strict=True)},
        "Uniform": mask.float(),
        "ActFocus": focused,
    }
    found: dict[str, list[Tensor]] = {name: [] for name in factors}
    start = 0
    for group in groups:
        longest = max(len(one.mask) for one in group)
        rows = [factor[start : start + len(group), :longest] for factor in factors.values()]
        for name, gradient in zip(factors, gradients(policy.model, group, rows), strict=True):
            found[name].append(gradient)
        start += len(group)

    tokens, weight = mask.sum().item(), focused.sum().item()
    for name, part in zip(PARTS, chosen, strict=True):
        print(
            f"{name}: {part.sum().item() / tokens:.1%} of the tokens, {focused[part].sum().item() / weight:.1%} of "
            "ActFocus's weight"
        )
    estimates = {name: Estimate.of(gradients) for name, gradients in found.items()}
    everything = estimates["Uniform"].variance
    print(f"{'gradient of':<36} {'variance':>9} {'signal ± error':>19} {'groups until noise equals signal':>33}")
    for name, one in estimates.items():
        signal = f"{one.signal / everything:.3%} ± {one.error / everything:.3%}"
        until = f"{one.variance / one.signal:.0f}" if one.signal > 2 * one.error else "signal not told from 0"
        print(f"{name:<36} {one.variance / everything:>9.1%} {signal:>19} {until:>33}")


if __name__ == "__main__":
    main()
