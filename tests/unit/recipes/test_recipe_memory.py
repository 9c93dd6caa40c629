"""The recipes fit their GPUs by arithmetic, and the table that says so is the tool's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import recipe_memory
from tools.recipe_memory import LORA, card_of, memory_of

#: Left on a card for what the arithmetic leaves out: contexts of CUDA and NCCL, vLLM asleep, fragmentation.
ROOM = 0.85


def test_every_recipe_leaves_room_on_its_card_in_generation_and_in_training():
    found = recipe_memory.recipes()
    assert len(found) == 16
    for recipe, name, memory, _ in found:
        assert max(memory.generation, memory.training) < ROOM * card_of(recipe), name


def test_the_bytes_are_those_of_adam_in_float32_and_of_the_logits(compose_recipe):
    """Qwen2.5-3B with PPO on four GPUs: two models of 16 bytes a parameter; 16384 tokens of 151936."""
    memory = memory_of(compose_recipe("sokoban_ppo"), 80e9)
    assert memory.state == pytest.approx(2 * 16 * 3.086e9 / 4)
    assert memory.logits == 8 * 16384 * 151936 + 12 * 512 * 151936
    assert memory.generation == pytest.approx(40e9 + 2 * 12 * 3.086e9 / 4)
    adapters = memory_of(compose_recipe("sokoban_grpo_small", "default", LORA), 24e9)
    assert adapters.state == pytest.approx(4 * 0.494e9)


def test_the_documented_table_is_what_the_tool_prints():
    readme = (Path(__file__).resolve().parents[3] / "recipes/README.md").read_text()
    assert recipe_memory.table() in readme
