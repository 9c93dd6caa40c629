"""What a rank does in the tests of veRL's real FSDP engine: passes and updates, saved for the test."""

from __future__ import annotations

from functools import partial

import torch

from tests.unit.integration.composing import compose
from tests.unit.integration.gradients import as_tensordict, make_batch, with_prompts


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
    if arguments["outputs_of_a_gpu"]:
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


def run_shared_prompts(arguments: dict) -> None:
    """Run every variant's pass with each trajectory by itself and with prompts shared, and save this rank's outputs."""
    engine, _ = build_engine(arguments)
    calls: list[tuple[int, int]] = []
    engine.module.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    saved = []
    for variant in arguments["variants"]:
        plain = shared_outputs(engine, variant, share=False)
        calls.clear()
        saved.append({"plain": plain, "shared": shared_outputs(engine, variant, share=True), "calls": list(calls)})
    torch.save(saved, f"{arguments['out']}.{torch.distributed.get_rank()}")


def shared_outputs(engine, variant: dict, share: bool) -> dict[str, list[torch.Tensor]]:
    """All outputs of this rank's trajectories in a pass without gradient, over their responses."""
    from verl.workers.utils.padding import response_from_nested

    from verl_actfocus.integration import fields
    from verl_actfocus.weighting.inputs import ENGINE_INPUTS

    prompts = variant["prompts"]
    settings = {
        "temperature": variant["temperature"],
        "global_batch_size": len(prompts),
        fields.INPUTS: ",".join(ENGINE_INPUTS),
        fields.SHARE_PROMPTS: share,
        **variant["batching"],
        "calculate_entropy": True,
    }
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    share_of_rank = range(rank * len(prompts) // world, (rank + 1) * len(prompts) // world)
    data = as_tensordict(with_prompts(make_batch(len(prompts)), prompts), list(share_of_rank), settings)
    with engine.eval_mode():
        output = engine.infer_batch(data)["model_output"]
    return {name: list(response_from_nested(value, data["response_mask"]).unbind()) for name, value in output.items()}


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


def run_adapters(arguments: dict) -> None:
    """Send the adapters of an engine for each of `variants`; save what each sent beside what peft says of the model."""
    sent = [sent_adapters({**arguments, **variant}) for variant in arguments["variants"]]
    torch.save(sent, f"{arguments['out']}.{torch.distributed.get_rank()}")


def sent_adapters(arguments: dict) -> dict:
    """Adapters as peft saves them of the model before it is sharded, and as the engine sends them, either way asked."""
    from peft.utils.save_and_load import get_peft_model_state_dict

    from verl_actfocus.integration.cpu.engines import OnCPU

    stock, expected = OnCPU._build_fsdp_module, {}

    def shard(engine, module):
        torch.manual_seed(5)
        for name, parameter in module.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter)
        expected.update({name: value.clone() for name, value in get_peft_model_state_dict(module).items()})
        return stock(engine, module)

    OnCPU._build_fsdp_module = shard
    try:
        engine, _ = build_engine(arguments)
    finally:
        OnCPU._build_fsdp_module = stock
    found = []
    for layered in (False, True):
        weights, config = engine.get_per_tensor_param(layered_summon=layered, base_sync_done=True)
        found.append({"weights": dict(weights), "rank": config["r"]})
    # Sending comes before the first pass of a run, which FSDP must not be in the way of.
    engine.module(input_ids=torch.arange(8).unsqueeze(0))
    return {"expected": expected, "sent": found}


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


#: What a rank can be asked for.
RUNS = {
    "gradient": run_rank,
    "outputs": run_outputs,
    "shared": run_shared_prompts,
    "updates": run_updates,
    "adapters": run_adapters,
}
