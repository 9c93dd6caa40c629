"""veRL's own tool agent loop trains with ActFocus: the example, in which the Hermes call is the action span."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from verl_actfocus.cli.main import main
from verl_actfocus.trajectories import read_trajectories

from .conftest import run_training

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples/tool_agent"


def test_the_tool_call_is_the_action_of_verls_own_agent_loop(tmp_path: Path) -> None:
    run_training(tmp_path, [sys.executable, str(EXAMPLE / "prepare.py"), str(tmp_path)], Path("/dev/null"))
    overrides = ["trainer.logger=[file]", "trainer.total_training_steps=2", "data.train_batch_size=4"]
    overrides += ["++algorithm.actfocus.trajectories.groups=4"]
    command = ["bash", str(EXAMPLE / "run.sh"), str(tmp_path), *overrides]
    metrics = run_training(tmp_path, command, PYTHON=sys.executable)
    assert [step["step"] for step in metrics] == [1, 2]
    for step in metrics:
        assert math.isfinite(step["actor/pg_loss"])
        assert step["actfocus/action_tokens"] > 0
        assert step["actfocus/mean_weight/reasoning"] == pytest.approx(0.1)
        assert 1 <= step["actfocus/mean_weight/action"] <= 1.5
        assert step["training/rollout_probs_diff_max"] < 1e-4
        # Nothing of an episode is known.
        assert not any(name.startswith("rollout/success") for name in step)
    # Which drawer to open is left to chance, so returns differ and there is something to learn from.
    assert max(step["actor/grad_norm"] for step in metrics) > 0

    written = list(read_trajectories(tmp_path / "trajectories/1.jsonl"))
    assert len(written) == 32 and [one.session for one in written] == [*range(8)] * 4
    assert [len({one.group for one in written[n : n + 8]}) for n in range(0, 32, 8)] == [1] * 4
    for one in written:
        assert one.episode is None and one.environment is None and one.turn_rewards is None
        assert {"weight", "advantage", "ref_energy", "rollout_log_prob", "old_log_prob"} <= one.signals.keys()
        assert one.prompt.endswith("<|im_start|>assistant\n") and one.reward in (0.0, 1.0)
    called = [one for one in written if one.turn_count == 2]
    assert len(called) > 16, "most of the warm-started model's responses are calls"
    for one in called:
        shown = list(zip(one.turns, one.spans, one.tokens, strict=True))
        call = json.loads("".join(text for turn, span, text in shown if span == "action"))
        assert call["name"] == "open_drawer"
        said = "".join(text for turn, _, text in shown if turn == -1)
        assert said.startswith("\n<|im_start|>tool\n") and said.endswith("<|im_start|>assistant\n")
        assert {span for turn, span, _ in shown if turn == 1} <= {"reasoning", "none"}

    # Both read what a loop has written that is not this package's.
    assert main(["view", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    assert main(["diagnose", "correlation", "--run", str(tmp_path), "--out", str(tmp_path / "diagnosis")]) == 0
    (step,) = json.loads((tmp_path / "diagnosis/diagnosis.json").read_text())["steps"]
    assert step["groups"] == 4
