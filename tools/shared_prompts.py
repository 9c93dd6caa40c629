"""What `algorithm.actfocus.share_prompts` gains in a pass of the engine: the figures of docs/performance.md.

    python -m tools.shared_prompts --runs outputs/grpo-frozenlake/uniform-seed0 ...
    python -m tools.shared_prompts --lengths 300 200 16 --groups 2 --large

One process runs veRL's FSDP engine of the miniature of FrozenLake on one rank, a pass with and one without shared
prompts in turn, as the reference pass is run: log-probabilities and energies. The trajectories are those that runs have
written (`algorithm.actfocus.trajectories.folder`), or random tokens.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

#: Set before veRL is imported: a process group of one rank on a CPU.
RANK = {"VERL_PLATFORM": "cpu", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
#: Group → prompt and response of each trajectory.
Groups = list[list[tuple[list[int], list[int]]]]


def main() -> None:
    """Measure and print one paragraph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--runs", nargs="+", type=Path, help="runs of FrozenLake with written trajectories")
    source.add_argument("--lengths", nargs=3, type=int, metavar=("PROMPT", "RESPONSE", "SIZE"), help="of random groups")
    parser.add_argument("--groups", type=int, default=16, help="groups of a pass (default 16)")
    parser.add_argument("--rounds", type=int, default=10, help="passes of each kind (default 10)")
    parser.add_argument("--large", action="store_true", help="27 million parameters instead of the tiny model")
    parser.add_argument("--port", default="29655", help="free port of this machine (default 29655)")
    args = parser.parse_args()
    os.environ.update(RANK, MASTER_PORT=args.port)
    if args.runs:
        groups = written(args.runs)
    else:
        prompt, response, size = args.lengths
        groups = random_groups(prompt, response, size, args.groups)
    if len(groups) < args.groups:
        raise SystemExit(f"--groups {args.groups}: the runs have written {len(groups)}; name more runs")
    print(measured(groups[: args.groups], args.rounds, args.large))


def written(runs: list[Path]) -> Groups:
    """Read the groups that runs have written."""
    from verl_actfocus.trajectories import read_trajectories, trajectory_files

    found: dict[tuple[Path, str], list[tuple[list[int], list[int]]]] = defaultdict(list)
    for file in (file for run in runs for file in trajectory_files(run / "trajectories")):
        for one in read_trajectories(file):
            found[file, one.group].append((list(one.prompt_ids), list(one.ids)))
    return list(found.values())


def random_groups(prompt: int, response: int, size: int, count: int) -> Groups:
    """Return groups of random tokens."""
    import torch

    torch.manual_seed(0)

    def tokens(length: int) -> list[int]:
        return torch.randint(5, 400, (length,)).tolist()

    return [[(start, tokens(response)) for _ in range(size)] for start in (tokens(prompt) for _ in range(count))]


def measured(groups: Groups, rounds: int, large: bool) -> str:
    """Run passes with and without shared prompts in turn, and say what came out."""
    import torch

    from verl_actfocus.benchmarks.report import conditions, conditions_line
    from verl_actfocus.benchmarks.statistics import Spread, ratio_of_medians

    engine = built(large)
    seconds: dict[bool, list[list[float]]] = {False: [], True: []}
    cpu_seconds: dict[bool, list[list[float]]] = {False: [], True: []}
    outputs: dict[bool, dict[str, torch.Tensor]] = {}
    for number in range(rounds + 1):  # the first round warms up
        for share in (False, True) if number % 2 else (True, False):
            wall, cpu = time.perf_counter(), time.process_time()
            outputs[share] = run_pass(engine, groups, share)
            if number:
                seconds[share].append([time.perf_counter() - wall])
                cpu_seconds[share].append([time.process_time() - cpu])
    rows = [row for group in groups for row in group]
    total = sum(len(prompt) + len(response) for prompt, response in rows)
    saved = sum(len(group[0][0]) * (len(group) - 1) for group in groups)
    plain, shared = (Spread.of([one[0] for one in cpu_seconds[share]]) for share in (False, True))
    difference = max(float((outputs[True][name] - outputs[False][name]).abs().max()) for name in outputs[True])
    parameters = sum(one.numel() for one in engine.module.parameters())
    return (
        f"{len(rows)} trajectories in {len(groups)} groups, {total} tokens; {parameters / 1e6:.1f} million parameters. "
        f"CPU seconds of a pass, median (least) of {rounds}: plain {plain.median:.2f} ({plain.least:.2f}), shared "
        f"{shared.median:.2f} ({shared.least:.2f}). **{ratio_of_medians(cpu_seconds[False], cpu_seconds[True])} times "
        f"faster** ({ratio_of_medians(seconds[False], seconds[True])} by the clock; {total / (total - saved):.2f} "
        f"times fewer tokens). Largest difference of an output: {difference:.1e}.\n\n{conditions_line(conditions())}"
    )


def built(large: bool) -> Any:
    """Build the engine of the miniature's policy."""
    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.distributed import initialize_global_process_group_ray
    from verl.workers.engine import EngineRegistry

    from verl_actfocus import models
    from verl_actfocus.benchmarks.larger_model import make_larger_model
    from verl_actfocus.experiments.runs.composition import compose

    words = ["+actfocus=default", "+actfocus/run=cpu_frozenlake", "+actfocus/device=cpu"]
    words += ["algorithm.adv_estimator=actfocus_grpo", "actor_rollout_ref.actor.optim.total_training_steps=1"]
    initialize_global_process_group_ray(backend="gloo")
    with tempfile.TemporaryDirectory() as folder:
        if large:
            make_larger_model(models.folder("frozenlake") / "model", Path(folder) / "model")
            words.append(f"actor_rollout_ref.model.path={folder}/model")
        config = compose(*words)
        actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
        model = omega_conf_to_dataclass(config.actor_rollout_ref.model)
        model.model_type = "language_model"
        settings = {
            "engine_config": actor.engine,
            "optimizer_config": actor.optim,
            "checkpoint_config": actor.checkpoint,
        }
        engine = EngineRegistry.new("language_model", backend=actor.strategy, model_config=model, **settings)
        engine.initialize()
    return engine


def run_pass(engine: Any, groups: Groups, share: bool) -> Any:
    """Return the outputs of a pass over all trajectories, by name, of their response tokens."""
    import torch
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.padding import response_from_nested

    from verl_actfocus.integration import fields

    rows = [row for group in groups for row in group]
    columns = {
        "prompts": [prompt for prompt, _ in rows],
        "input_ids": [prompt + response for prompt, response in rows],
        "position_ids": [list(range(len(prompt) + len(response))) for prompt, response in rows],
        "loss_mask": [[1] * len(response) for _, response in rows],
    }
    nested = {
        name: torch.nested.as_nested_tensor([torch.tensor(row) for row in column], layout=torch.jagged)
        for name, column in columns.items()
    }
    data = TensorDict(nested, batch_size=len(rows))
    entries = {fields.INPUTS: "ref_energy", fields.SHARE_PROMPTS: share, "temperature": 1.0, "calculate_entropy": False}
    batching = {"use_dynamic_bsz": True, "max_token_len_per_gpu": 8192}
    tu.assign_non_tensor(data, **entries, **batching, use_remove_padding=False, use_fused_kernels=False)
    with engine.eval_mode():
        found = engine.infer_batch(data)["model_output"]
    return {name: response_from_nested(value, nested["loss_mask"]).values() for name, value in found.items()}


if __name__ == "__main__":
    main()
