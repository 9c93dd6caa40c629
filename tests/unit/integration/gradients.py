"""Data of the tests of veRL's real FSDP engine, Eq. 6 by brute force, and `engine_rank` on gloo ranks."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
from tensordict import TensorDict

#: What forks the ranks, from the root of the project.
ROOT, RANKS = Path(__file__).parents[3], f"{__package__}.rank_server"
FIELDS = [
    "input_ids",
    "position_ids",
    "prompts",
    "responses",
    "response_mask",
    "loss_mask",
    "old_log_probs",
    "advantages",
]


def make_model(folder: Path) -> None:
    """Save a random Qwen2 model of a few thousand parameters."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def make_batch(size: int, seed: int = 1) -> dict[str, list[torch.Tensor]]:
    """Build trajectories of unequal length: prompts, responses with environment tokens, advantages, weights."""
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in [*FIELDS, "actfocus_weights", "actfocus_spans"]}
    for row in range(size):
        prompt_length, response_length = 3 + row % 4, 2 + 3 * (row % 5)
        ids = torch.randint(2, 64, (prompt_length + response_length,), generator=generator)
        mask = (torch.rand(response_length, generator=generator) < 0.7).long()
        mask[-1] = 1
        rows["input_ids"].append(ids)
        rows["position_ids"].append(torch.arange(len(ids)))
        rows["prompts"].append(ids[:prompt_length])
        rows["responses"].append(ids[prompt_length:])
        rows["response_mask"].append(mask)
        rows["loss_mask"].append(mask)
        rows["old_log_probs"].append(-4.2 + 0.5 * torch.randn(response_length, generator=generator))
        rows["advantages"].append(torch.randn(response_length, generator=generator))
        rows["actfocus_weights"].append(torch.rand(response_length, generator=generator) * 1.5 * mask)
        # Nothing (0), reasoning (1) and action (2) by turns; the first token of a response differs from row to row.
        rows["actfocus_spans"].append((torch.arange(response_length) + row) % 3)
    return rows


def with_prompts(rows: dict[str, list[torch.Tensor]], prompts: list[list[int]]) -> dict[str, list[torch.Tensor]]:
    """Put other prompts before the same responses."""
    rows = dict(rows)
    rows["prompts"] = [torch.tensor(prompt) for prompt in prompts]
    rows["input_ids"] = [torch.cat(parts) for parts in zip(rows["prompts"], rows["responses"], strict=True)]
    rows["position_ids"] = [torch.arange(len(ids)) for ids in rows["input_ids"]]
    return rows


def brute_force_loss(
    model: torch.nn.Module, rows: dict[str, list[torch.Tensor]], low: float, high: float
) -> torch.Tensor:
    """Evaluate Eq. 6 token by token, one sequence at a time, in Python."""
    terms = token_losses(model, rows, low, high)
    return sum(loss for _, _, loss in terms) / sum(float(weights.sum()) for weights in rows["actfocus_weights"])


def token_losses(
    model: torch.nn.Module, rows: dict[str, list[torch.Tensor]], low: float, high: float
) -> list[tuple[int, int, torch.Tensor]]:
    """Row, span and weighted loss of every token in the loss, before anything is divided."""
    terms = []
    for n, ids in enumerate(rows["input_ids"]):
        log_probs = torch.log_softmax(model(ids.unsqueeze(0)).logits[0], dim=-1)
        start = len(rows["prompts"][n])
        for t in range(len(rows["responses"][n])):
            weight = float(rows["actfocus_weights"][n][t])
            if not rows["response_mask"][n][t]:
                continue
            ratio = (log_probs[start + t - 1, ids[start + t]] - rows["old_log_probs"][n][t]).exp()
            advantage = rows["advantages"][n][t]
            surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
            # Dual clipping of veRL: a token of negative advantage loses at most clip_ratio_c * |A|.
            surrogate = torch.maximum(surrogate, 3.0 * advantage) if advantage < 0 else surrogate
            terms.append((n, int(rows["actfocus_spans"][n][t]), -weight * surrogate))
    return terms


def as_tensordict(rows: dict[str, list[torch.Tensor]], chosen: list[int], settings: dict) -> TensorDict:
    """Pack the chosen trajectories as veRL's worker receives them."""
    from verl.utils import tensordict_utils as tu

    data = TensorDict(
        {
            name: torch.nested.as_nested_tensor([values[i] for i in chosen], layout=torch.jagged)
            for name, values in rows.items()
        },
        batch_size=len(chosen),
    )
    tu.assign_non_tensor(data, **settings)
    return data


@cache
def ranks_server() -> subprocess.Popen[str]:
    """What forks ranks; it ends with the tests, which close its input."""
    environment = {
        **os.environ,
        "VERL_PLATFORM": "cpu",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", RANKS],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(server.communicate)
    return server


def run_ranks(model: Path, out: Path, case: dict, what: str) -> None:
    """Run `what` of `engine_rank` with a case on each of its ranks, which save into `out`."""
    batching = {"use_remove_padding": False, "use_fused_kernels": False, "calculate_entropy": False, **case["batching"]}
    arguments = {
        "model": str(model),
        "tokenizer": str(files("verl_actfocus") / "models/frozenlake/tokenizer"),
        "strategy": case.get("strategy", "fsdp"),
        "remove_padding": case.get("remove_padding", False),
        "batching": batching,
        "size": case["size"],
        "out": str(out),
        "zero_weights": case.get("zero_weights", False),
        "outputs_of_a_gpu": case.get("outputs_of_a_gpu", False),
        "overrides": case.get("overrides", []),
        "entries": case.get("entries", {}),
        "temperature": case.get("temperature", 0.7),
        "variants": [{**one, "batching": {**batching, **one.get("batching", {})}} for one in case.get("variants", [])],
    }
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = out.with_name(out.name + ".log")
    request = {"what": what, "world": case["world"], "port": port, "log": str(log), "arguments": arguments}
    server = ranks_server()
    assert server.stdin is not None and server.stdout is not None
    print(json.dumps(request), file=server.stdin, flush=True)
    answer = server.stdout.readline()
    assert answer, f"the server of ranks has ended: {server.poll()}"
    for rank, code in enumerate(json.loads(answer)):
        assert code == 0, Path(f"{log}.{rank}").read_text()[-4000:]
