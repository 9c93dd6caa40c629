"""How far weights move if the logits are in bfloat16, or the whole forward pass is: the figures of docs/memory.md.

    python -m tools.bf16_energies

Computes the energies of the packaged trajectories (`actfocus view --demo`) with FrozenLake's tiny model, which was
their reference model, and the weights of all their action tokens as of one batch: in float32, of logits that are
rounded to bfloat16 (as a model in bfloat16 returns them), and of a model whose weights and activations are rounded too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from verl_actfocus import models
from verl_actfocus.trajectories.files import read_trajectories
from verl_actfocus.trajectories.format import Trajectory
from verl_actfocus.weighting import Span, token_energy, token_weights

HEADER = ("in bfloat16", "action tokens", "largest |ΔE|", "mean |Δw|", "largest |Δw|")


@torch.inference_mode()
def energies(model: PreTrainedModel, played: list[Trajectory], rounded: bool) -> Tensor:
    """Energies of all responses one behind the other, `(1, N)` float32; of logits in bfloat16 if `rounded`."""
    found = []
    for one in played:
        ids = torch.tensor([[*one.prompt_ids, *one.ids]])
        logits = model(ids).logits[0, len(one.prompt_ids) - 1 : -1]
        found.append(token_energy(logits.bfloat16() if rounded else logits))
    return torch.cat(found).unsqueeze(0)


@dataclass(frozen=True)
class Moved:
    """What rounding changes on the action tokens of a batch."""

    #: Their number.
    tokens: int
    #: Largest change of an energy.
    energy: float
    #: Mean and largest change of a weight.
    mean_weight: float
    weight: float


def measure(folder: str, played: list[Trajectory]) -> dict[str, Moved]:
    """Compare weights in float32 with those of rounded logits, and of a rounded pass.

    Args:
        folder: the model's.
        played: trajectories, together one batch.
    """
    spans = torch.tensor([[Span[name.upper()] for one in played for name in one.spans]])
    action = spans == Span.ACTION
    exact_model, half_model = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()
        for dtype in (torch.float32, torch.bfloat16)
    )
    exact = energies(exact_model, played, rounded=False)
    expected = token_weights(spans, exact)
    found = {}
    for name, model in (("logits", exact_model), ("the whole pass", half_model)):
        energy = energies(model, played, rounded=True)
        moved = (token_weights(spans, energy) - expected)[action].abs()
        change = float((energy - exact)[action].abs().max())
        found[name] = Moved(int(action.sum()), change, float(moved.mean()), float(moved.max()))
    return found


def packaged() -> list[Trajectory]:
    """Return the trajectories that ship with the viewer."""
    demo = Path(str(files("verl_actfocus"))) / "viewer/demo"
    return [one for name in ("ActFocus", "Uniform") for one in read_trajectories(demo / f"{name}.jsonl.gz")]


def main() -> None:
    """Compute, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(models.folder("frozenlake") / "model"), help="folder of the model")
    found = measure(parser.parse_args().model, packaged())
    rows = [
        [name, one.tokens, f"{one.energy:.4f}", f"{one.mean_weight:.5f}", f"{one.weight:.4f}"]
        for name, one in found.items()
    ]
    print(tabulate(rows, HEADER, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
