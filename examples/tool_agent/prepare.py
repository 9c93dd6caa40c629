"""Make what the run needs: data with veRL's columns, and a tiny model that has seen how a call is written.

    python examples/tool_agent/prepare.py outputs/tool_agent

A model that never calls leaves nothing to weigh, so it imitates demonstrations for some seconds. Their calls open a
drawer at random: the form is shown, which drawer to open is left to the training.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from verl_actfocus.episodes import Message
from verl_actfocus.episodes.tokens import ChatML, conversation
from verl_actfocus.warmstart.model import build_model
from verl_actfocus.warmstart.publish import save
from verl_actfocus.warmstart.tokenizer import build_tokenizer
from verl_actfocus.warmstart.train import IGNORED, response_loss

COLOURS = ("red", "green", "blue")
THINGS = ("a key", "a coin", "a map")
CALL_TAGS = ("<tool_call>", "</tool_call>")
SYSTEM = (
    'You may open one drawer: <tool_call>\n{"name": "open_drawer", "arguments": {"colour": ...}}\n</tool_call>\n'
    "Think first, between <think> and </think>. Then say what the drawer holds."
)


def question(colour: str) -> list[Message]:
    """The prompt of a task."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"What is in the {colour} drawer?"}]


def demonstration(rng: random.Random) -> list[Message]:
    """A conversation with a call, the tool's answer and what it comes to."""
    opened, thing = rng.choice(COLOURS), rng.choice(THINGS)
    call = f'{{"name": "open_drawer", "arguments": {{"colour": "{opened}"}}}}'
    return [
        *question(rng.choice(COLOURS)),
        {"role": "assistant", "content": f"<think>I open one.</think>\n<tool_call>\n{call}\n</tool_call>"},
        {"role": "tool", "content": thing},
        {"role": "assistant", "content": f"<think>I have seen it.</think>\n{thing}"},
    ]


def row(index: int, rng: random.Random) -> dict[str, object]:
    """A task as veRL's `RLHFDataset` takes it."""
    colour, contents = rng.choice(COLOURS), {name: rng.choice(THINGS) for name in COLOURS}
    return {
        "data_source": "drawers",
        "prompt": question(colour),
        "reward_model": {"style": "rule", "ground_truth": contents[colour]},
        "extra_info": {"index": index, "tools_kwargs": {"open_drawer": {"create_kwargs": contents}}},
    }


def imitate(tokenizer: PreTrainedTokenizerBase, iterations: int) -> Qwen2ForCausalLM:
    """Teach a tiny model the demonstrations' form."""
    rng, model, encoder = random.Random(0), build_model(tokenizer, seed=0), ChatML(tokenizer, prefill="")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(iterations):
        encoded = [conversation(encoder, demonstration(rng)) for _ in range(16)]
        ids_BT = pad_sequence([torch.tensor(ids) for ids, _ in encoded], batch_first=True)
        mask_BT = pad_sequence([torch.tensor(mask) for _, mask in encoded], batch_first=True)
        loss = response_loss(model, ids_BT, torch.where(mask_BT == 1, ids_BT, IGNORED))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(f"{iterations} iterations, loss {loss.item():.3f} nats per token")
    return model.eval()


def prepare(folder: Path, iterations: int = 100) -> None:
    """Write `train.parquet`, `val.parquet`, `model/` and `tokenizer/`."""
    rng = random.Random(1)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", 256), ("val", 16)):
        pd.DataFrame([row(index, rng) for index in range(rows)]).to_parquet(folder / f"{name}.parquet")
    tokenizer = build_tokenizer([demonstration(rng) for _ in range(200)], bpe_size=320)
    tokenizer.add_tokens(list(CALL_TAGS))
    save(folder, imitate(tokenizer, iterations), tokenizer)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
