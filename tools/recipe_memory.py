"""GPU memory of the recipes by arithmetic, none of it measured: the table of recipes/README.md.

python -m tools.recipe_memory
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from verl_actfocus.config.engines import has_critic
from verl_actfocus.config.groups import packaged_groups
from verl_actfocus.experiments.runs.composition import compose
from verl_actfocus.experiments.runs.weightings import ACTFOCUS
from verl_actfocus.integration.fused import CHUNK_SIZE

VOCABULARY = 151_936
HEADER = ("recipes", "Qwen2.5", "GPUs", "generation", "state", "gathered", "activations", "logits", "training")
#: Groups after the recipe's.
LORA = "+actfocus/adapter=lora"


@dataclass(frozen=True)
class Shape:
    """What of a model's configuration decides its memory."""

    parameters: float
    layers: int
    width: int
    feed_forward: int


SHAPES = {
    "Qwen/Qwen2.5-0.5B-Instruct": Shape(0.494e9, 24, 896, 4864),
    "Qwen/Qwen2.5-1.5B-Instruct": Shape(1.544e9, 28, 1536, 8960),
    "Qwen/Qwen2.5-3B-Instruct": Shape(3.086e9, 36, 2048, 11008),
}


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    #: What is there while vLLM plays: its share of the card, and the state without gradients.
    generation: float
    #: float32 parameters, gradients and Adam's two moments, of the critic too.
    state: float
    #: The output matrix, which FSDP has gathered in bfloat16, and its gradient in bfloat16 and float32.
    gathered: float
    #: Inputs of all layers, and what one layer keeps while it is computed again.
    activations: float
    #: Logits in bfloat16, what log-probabilities keep of them, the entropy's and the loss's gradient; one chunk.
    logits: float

    @property
    def training(self) -> float:
        """The sum for training."""
        return self.state + self.gathered + self.activations + self.logits


def memory_of(config: DictConfig, card: float) -> Memory:
    """Compute what a recipe takes.

    Args:
        config: the complete configuration.
        card: bytes of a GPU.
    """
    policy = config.actor_rollout_ref
    shape = SHAPES[policy.model.path]
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    models, tokens = 1 + has_critic(config), policy.actor.ppo_max_token_len_per_gpu
    # With LoRA the parameters are frozen: they have no gradient and no moments.
    bytes_each = 4 if policy.model.lora_rank else 16
    state = models * bytes_each * shape.parameters / gpus
    layer = tokens * (20 * shape.width + 8 * shape.feed_forward)
    chunk = CHUNK_SIZE if policy.model.use_fused_kernels else policy.actor.entropy_from_logits_chunk_size
    rows = 0 if policy.model.use_fused_kernels else tokens
    return Memory(
        generation=policy.rollout.gpu_memory_utilization * card + state * min(bytes_each, 12) / bytes_each,
        state=state,
        gathered=8 * VOCABULARY * shape.width,
        activations=2 * shape.layers * tokens * shape.width + layer,
        logits=8 * rows * VOCABULARY + 12 * chunk * VOCABULARY,
    )


def card_of(recipe: str) -> float:
    """Return the bytes of the GPU that a recipe is for."""
    return 24e9 if recipe.endswith("_small") else 80e9


def recipes() -> list[tuple[str, str, Memory, DictConfig]]:
    """Return recipe, its name in the table, its memory and its configuration; small ones with LoRA too."""
    found = []
    for recipe in packaged_groups("recipe"):
        for extra in ((), (LORA,)) if recipe.endswith("_small") else ((),):
            config = compose(*ACTFOCUS.overrides(), f"+actfocus/recipe={recipe}", *extra)
            name = f"`{recipe}`{' (LoRA)' if extra else ''}"
            found.append((recipe, name, memory_of(config, card_of(recipe)), config))
    return found


def table() -> str:
    """Return the table, in GB (10⁹ bytes); recipes that take the same share a line."""
    names: dict[tuple[str, ...], list[str]] = {}
    for _, name, memory, config in recipes():
        model = config.actor_rollout_ref.model.path.removeprefix("Qwen/Qwen2.5-").removesuffix("-Instruct")
        parts = (memory.generation, memory.state, memory.gathered, memory.activations, memory.logits, memory.training)
        row = (model, str(config.trainer.n_gpus_per_node), *(f"{part / 1e9:.1f}" for part in parts))
        names.setdefault(row, []).append(name)
    lines = [f"| {' | '.join([', '.join(of), *row])} |" for row, of in names.items()]
    return "\n".join([f"| {' | '.join(HEADER)} |", f"|---|---|{'---:|' * (len(HEADER) - 2)}", *lines])


def main() -> None:
    """Print the table."""
    print(table())


if __name__ == "__main__":
    main()
