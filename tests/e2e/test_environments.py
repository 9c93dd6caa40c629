"""Every environment of the paper through the whole trainer, with the paper's budgets of turns, actions and words.

The models that ship know their tasks in miniature alone: the prompts of the paper make them ramble until they are cut
off. So that actions reach the environment, each test first teaches a tiny model the form of a response in under a
minute. It knows how to ask for an action and not which. A command of their own, `pytest -m slow`: what every run of the
tests trains in these environments is their recipes (`test_recipes_on_cpu.py`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from verl_actfocus.envs import TextEnv, spec
from verl_actfocus.envs.demonstrations import Miniature, Response
from verl_actfocus.warmstart.demonstrations import demonstrate
from verl_actfocus.warmstart.loop import TrainingSettings
from verl_actfocus.warmstart.publish import save
from verl_actfocus.warmstart.tokenizer import build_tokenizer
from verl_actfocus.warmstart.train import train

from .conftest import TINY
from .test_training import check_training_step

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RESPONSE_TOKENS = 64
#: What the miniatures change, back to the environments' own. Of the lengths only WebShop needs so much: long pages are
#: what costs time, and an episode that meets many of them ends for want of room.
PAPER_BUDGETS = [
    "~data.environment.kwargs",
    "~data.environment.limits",
    f"+data.environment.limits.response_tokens={RESPONSE_TOKENS}",
    "data.max_prompt_length=896",
    "data.max_response_length=2048",
    "++actor_rollout_ref.model.override_config.max_position_embeddings=4096",
]


def any_action(env: TextEnv, rng: np.random.Generator, max_actions: int) -> Response:
    """A response with an available action that takes no copying from the page: no product's id, a short search."""
    words = str(rng.choice([action for action in env.legal_actions() if not action.startswith("click[af")])).split()
    action = " ".join(words[:2]).rstrip("]") + "]" if words[0].startswith("search[") else " ".join(words)
    return Response("I try one.", (f" {action}",))


def teach(name: str, folder: Path, iterations: int) -> None:
    """Write a tiny model that answers in form to `folder`, as `actfocus warmstart` would."""
    limits = replace(spec(name).limits, turns=3, response_tokens=RESPONSE_TOKENS)
    task = Miniature(environment=name, limits=limits, demonstrate=any_action, iterations=iterations)
    env = task.make_env()
    tokenizer = build_tokenizer([demonstrate(task, env, seed=0, index=index).messages for index in range(150)])
    settings = TrainingSettings(iterations=iterations, episodes_per_batch=4, warmup_iterations=15)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, _ = train(task, tokenizer, settings)
    torch.set_num_threads(threads)
    save(folder, model, tokenizer)


@pytest.mark.parametrize(
    ("env", "most_turns"),
    # He et al. 2026, App. C
    [
        ("sokoban", 5),
        ("frozenlake", 5),
        ("sudoku", 8),
        ("webshop", 9),
    ],
)
def test_grpo_trains_two_steps_with_the_papers_budgets(run_verl, tmp_path, env, most_turns):
    teach(env, tmp_path / "beginner", iterations=60)
    metrics = run_verl(
        "algorithm.adv_estimator=actfocus_grpo",
        "+actfocus=default",
        f"+actfocus/run=cpu_{env}",
        "+actfocus/device=cpu",
        f"actor_rollout_ref.model.path={tmp_path}/beginner/model",
        f"actor_rollout_ref.model.tokenizer_path={tmp_path}/beginner/tokenizer",
        *TINY,
        *PAPER_BUDGETS,
    )
    assert [step["step"] for step in metrics] == [0, 1, 2]
    assert metrics[0]["val/episodes"] == 8
    for step in metrics[1:]:
        check_training_step(step)
        assert 1 < step["rollout/turns"] <= most_turns
        assert step["rollout/stop/environment_error"] == 0
    # Actions of the model were accepted and changed the state.
    assert max(step["rollout/valid_turn_rate"] for step in metrics[1:]) > 0
    assert max(step["rollout/effective_action_rate"] for step in metrics[1:]) > 0
