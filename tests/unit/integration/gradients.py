"""Runs veRL's real FSDP engine on gloo ranks and saves the full gradient of one mini-batch.

Used by the gradient tests: as a library for the data and the brute-force evaluation of Eq. 6, and as a script by each
rank.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from functools import partial
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import torch
from tensordict import TensorDict

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


def compose(overrides: list[str]):
    """Compose a complete veRL configuration with this package's groups."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module

    import_module("verl")  # loads the plugin, which tells Hydra where the groups are
    with initialize_config_module("verl.trainer.config", version_base=None):
        return hydra_compose("ppo_trainer", overrides=overrides)


def build_engine(arguments: dict):
    """Join the process group and build this package's engine for the actor; returns it and the actor's config."""
    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.distributed import initialize_global_process_group_ray
    from verl.workers.engine import EngineRegistry

    strategy = arguments["strategy"]
    config = compose(
        [
            "algorithm.adv_estimator=actfocus_grpo",
            "+actfocus=default",
            "+actfocus/device=cpu",
            f"actor_rollout_ref.model.path={arguments['model']}",
            f"actor_rollout_ref.model.tokenizer_path={arguments['tokenizer']}",
            f"actor_rollout_ref.model.use_remove_padding={arguments['remove_padding']}",
            f"actor_rollout_ref.actor.strategy={strategy}",
            f"actor_rollout_ref.actor.fsdp_config.strategy={strategy}",
            "actor_rollout_ref.actor.fsdp_config.use_orig_params=True",
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4",
            "actor_rollout_ref.actor.clip_ratio_low=0.2",
            "actor_rollout_ref.actor.clip_ratio_high=0.28",
            "actor_rollout_ref.actor.optim.total_training_steps=1",
            *arguments.get("overrides", []),
        ]
    )
    initialize_global_process_group_ray(backend="gloo")
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    model_config = omega_conf_to_dataclass(config.actor_rollout_ref.model)
    model_config.model_type = "language_model"
    settings = {
        "model_config": model_config,
        "engine_config": actor.engine,
        "optimizer_config": actor.optim,
        "checkpoint_config": actor.checkpoint,
    }
    if arguments.get("outputs_of_a_gpu"):
        engine = gpu_engine_class()(**settings)
    else:
        engine = EngineRegistry.new(model_type="language_model", backend=strategy, **settings)
    engine.initialize()
    return engine, actor


def gpu_engine_class() -> type:
    """This package's engine for GPUs, with all that it computes, run on a CPU."""
    from verl_actfocus.integration.cpu.engines import OnCPU
    from verl_actfocus.integration.engine import ActFocusLanguageEngine

    return type("GPUEngineOnCPU", (OnCPU, ActFocusLanguageEngine), {})


def run_ranks(model: Path, out: Path, case: dict, what: str) -> None:
    """Run this file as a script on every rank of a case: `what` is run with the case, and saves into `out`."""
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
        "overrides": case.get("overrides", []),
        "entries": case.get("entries", {}),
        "temperature": case.get("temperature", 0.7),
        "variants": [{**one, "batching": {**batching, **one.get("batching", {})}} for one in case.get("variants", [])],
    }
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    ranks = []
    for rank in range(case["world"]):
        environment = {
            **os.environ,
            "VERL_PLATFORM": "cpu",
            "RANK": str(rank),
            "WORLD_SIZE": str(case["world"]),
            "LOCAL_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-W", "ignore", __file__, what, json.dumps(arguments)]
        ranks.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    outputs = [process.communicate(timeout=300)[0] for process in ranks]
    for process, output in zip(ranks, outputs, strict=True):
        assert process.returncode == 0, output[-4000:]


def run_outputs(arguments: dict) -> None:
    """Run one forward pass that asks for all extra outputs and save them per response token."""
    from verl.workers.utils.padding import response_from_nested

    from verl_actfocus.integration import fields
    from verl_actfocus.weighting.inputs import ENGINE_INPUTS

    engine, _ = build_engine(arguments)
    inputs = list(ENGINE_INPUTS)
    names = [fields.INPUT_PREFIX + name for name in inputs]
    settings = {
        "temperature": arguments["temperature"],
        "global_batch_size": arguments["size"],
        fields.INPUTS: ",".join(inputs),
    }
    data = as_tensordict(
        make_batch(arguments["size"]), list(range(arguments["size"])), {**settings, **arguments["batching"]}
    )
    with engine.eval_mode():
        output = engine.infer_batch(data)["model_output"]
    mask = data["response_mask"]
    if torch.distributed.get_rank() == 0:
        torch.save(
            {name: list(response_from_nested(output[name], mask).unbind()) for name in [*names, "log_probs"]},
            arguments["out"],
        )


def run_rank(arguments: dict) -> None:
    """Compute the gradient of this rank's share of the mini-batch through the engine and save it (rank 0)."""
    engine, actor = build_engine(arguments)
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    rows = make_batch(arguments["size"])
    if arguments.get("zero_weights"):
        rows["actfocus_weights"] = [torch.zeros_like(weights) for weights in rows["actfocus_weights"]]
    chosen = list(range(arguments["size"]))[rank::world]
    settings = {"temperature": 1.0, "global_batch_size": arguments["size"], **arguments.get("entries", {})}
    data = as_tensordict(rows, chosen, {**settings, **arguments["batching"]})

    from verl_actfocus.integration.policy_loss import actfocus_ppo_loss

    before = full_parameters(engine.module)
    with engine.train_mode():
        engine.optimizer_zero_grad()
        output = engine.forward_backward_batch(data, partial(actfocus_ppo_loss, config=actor))
        gradient = full_gradient(engine.module)
        norm = engine.optimizer_step()
    moved = any(not torch.equal(old, new) for old, new in zip(before, full_parameters(engine.module), strict=True))
    if rank == 0:
        skipped = output["metrics"]["actfocus/skipped_update_share"]
        torch.save(
            {"gradient": gradient, "moved": moved, "grad_norm": float(norm), "skipped": float(skipped.aggregate())},
            arguments["out"],
        )


def run_updates(arguments: dict) -> None:
    """Run two updates through a new engine for each of `variants` and save what each leaves on this rank."""
    left = [updated({**arguments, **variant}) for variant in arguments["variants"]]
    torch.save(left, f"{arguments['out']}.{torch.distributed.get_rank()}")


def updated(arguments: dict) -> dict:
    """What two updates on the same mini-batch leave on this rank, and their metrics."""
    engine, actor = build_engine(arguments)

    from verl_actfocus.integration.policy_loss import actfocus_ppo_loss

    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    chosen = list(range(arguments["size"]))[rank::world]
    settings = {"temperature": 1.0, "global_batch_size": arguments["size"]}
    rows = make_batch(arguments["size"])
    rows["ref_log_prob"] = [values - 0.3 for values in rows["old_log_probs"]]
    data = as_tensordict(rows, chosen, {**settings, **arguments["entries"], **arguments["batching"]})
    torch.manual_seed(3 + rank)
    metrics = []
    with engine.train_mode():
        for _ in range(2):
            found = engine.train_batch(data, partial(actfocus_ppo_loss, config=actor))["metrics"]
            metrics.append({name: getattr(value, "values", value) for name, value in found.items()})
    return {
        "parameters": full_parameters(engine.module),
        "optimizer": engine.optimizer.state_dict()["state"],
        "random": torch.random.get_rng_state(),
        "gradients": [None if p.grad is None else p.grad.clone() for p in engine.module.parameters()],
        "metrics": metrics,
        "entropy": engine.compute_entropy_from_logits.__name__,
    }


def full_parameters(module: torch.nn.Module) -> list[torch.Tensor]:
    """Copies of all parameters, unsharded."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    if isinstance(module, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(module):
            return [p.detach().clone() for p in module.parameters()]
    return [p.full_tensor().detach().clone() for p in module.parameters()]


def full_gradient(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gradients by parameter name, unsharded."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    if isinstance(module, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(module, with_grads=True):
            return {name.replace("_fsdp_wrapped_module.", ""): p.grad.clone() for name, p in module.named_parameters()}
    return {name: p.grad.full_tensor().clone() for name, p in module.named_parameters()}


if __name__ == "__main__":
    os.environ["VERL_PLATFORM"] = "cpu"
    {"gradient": run_rank, "outputs": run_outputs, "updates": run_updates}[sys.argv[1]](json.loads(sys.argv[2]))
