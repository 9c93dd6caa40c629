"""How far weights by the policy before the update drift from the paper's: the table of docs/performance.md.

    python -m tools.signal_drift --env sokoban outputs/compare/sokoban/actfocus-seed0 ...

Plays groups of episodes with a trained model, as the next training step of GRPO would, and computes the weights of the
same tokens twice: from the energies of the frozen reference model (the environment's tiny model, which the training
began with), and from those of the trained model itself (`signal_source=old`).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from tabulate import tabulate
from torch import Tensor
from transformers import PreTrainedModel

from verl_actfocus import models
from verl_actfocus.diagnosis.groups import play
from verl_actfocus.episodes.player import Player
from verl_actfocus.episodes.tokens import EpisodeTokens
from verl_actfocus.evaluation.checkpoints import find_model, merge
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.settings import profile_settings
from verl_actfocus.weighting import Span, token_energy, token_weights

FIRST_SEED = 1_000_000
"""First task of training, as in the configurations."""
AT_ONCE = 64
"""Episodes at a time."""
HEADER = ("model", "action tokens", "mean |Δw|", "largest |Δw|", "rank correlation", "energy: reference", "energy: old")


@dataclass(frozen=True)
class Drift:
    """Weights of the same action tokens from two models."""

    reference: Tensor
    """Weight by the reference model's energies, shape (N,)."""
    old: Tensor
    """Weight by the policy's own energies, shape (N,)."""
    energies: tuple[Tensor, Tensor]
    """Energies under the reference model and under the policy, shape (N,) each."""

    def row(self, name: str) -> list[str]:
        """The line of the table."""
        difference = (self.reference - self.old).abs()
        rank = spearmanr(self.reference.numpy(), self.old.numpy()).statistic
        means = [f"{one.mean().item():.2f} ± {one.std().item():.2f}" for one in self.energies]
        numbers = [f"{difference.mean().item():.3f}", f"{difference.max().item():.3f}", f"{rank:.2f}"]
        return [name, str(len(difference)), *numbers, *means]


def drift(policy: LocalModel, reference: PreTrainedModel, profile: str, groups: int, size: int) -> Drift:
    """Play `groups` tasks, `size` episodes each, and weigh their tokens by both models."""
    episodes: list[EpisodeTokens] = []

    def ended(player: Player, _: object) -> None:
        episodes.append(player.tokens)

    schedule = [(task, sample) for task in range(FIRST_SEED, FIRST_SEED + groups) for sample in range(size)]
    if failures := play(policy, profile_settings(profile), schedule, at_once=AT_ONCE, ended=ended):
        raise RuntimeError("\n".join(failures))
    pad = torch.nn.utils.rnn.pad_sequence
    spans = pad([torch.tensor(one.spans) for one in episodes], batch_first=True)
    mask = pad([torch.tensor(one.mask) for one in episodes], batch_first=True)
    action = (mask == 1) & (spans == Span.ACTION)
    weights, energies = [], []
    for model in (reference, policy.model):
        energy = pad([_energies(model, one) for one in episodes], batch_first=True)
        weights.append(token_weights(spans, energy, response_mask=mask)[action])
        energies.append(energy[action])
    return Drift(weights[0], weights[1], (energies[0], energies[1]))


@torch.inference_mode()
def _energies(model: PreTrainedModel, tokens: EpisodeTokens) -> Tensor:
    return token_energy(model(torch.tensor([tokens.ids])).logits[0, tokens.prompt_length - 1 : -1])


def main() -> None:
    """Play, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", help="runs or checkpoints that were trained from the environment's model")
    parser.add_argument("--env", default="frozenlake", choices=models.available(), help="where (default frozenlake)")
    parser.add_argument("--groups", type=int, default=16, help="tasks (default 16)")
    parser.add_argument("--group-size", type=int, default=8, help="episodes of a task (default 8)")
    args = parser.parse_args()
    reference = LocalModel(find_model(str(models.folder(args.env))), device="cpu").model
    rows = []
    for name in args.model:
        policy = LocalModel(merge(find_model(name)), device="cpu")
        rows.append(drift(policy, reference, f"cpu_{args.env}", args.groups, args.group_size).row(name))
    print(tabulate(rows, HEADER, tablefmt="github"))


if __name__ == "__main__":
    main()
