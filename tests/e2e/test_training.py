"""Short end-to-end runs: real trainer, FSDP on gloo, asynchronous agent loop, a real (tiny) language model."""

from __future__ import annotations

import math

import pytest

from verl_actfocus.trajectories import Trajectory, read_trajectories, trajectory_files

from ..documented_metrics import undocumented
from ..tag_styles import foreign_model
from .conftest import TINY

pytestmark = pytest.mark.e2e


def check_training_step(step: dict, rollout_difference: float = 1e-4) -> None:
    """What must hold of every ActFocus training step on a healthy run.

    Args:
        step: the step's metrics.
        rollout_difference: largest difference between the rollout's probabilities and the trainer's.
    """
    assert math.isfinite(step["actor/pg_loss"]) and math.isfinite(step["actor/grad_norm"])
    assert step["actor/grad_norm"] > 0
    # The rollout's own log-probabilities are those of the trainer's full forward pass.
    assert step["training/rollout_probs_diff_max"] < rollout_difference
    assert step["rollout/excluded_trajectories"] == 0
    assert step["actfocus/skipped_updates"] == 0
    assert undocumented(step) == set()
    assert 0 <= step["rollout/identical_responses"] <= 1
    stops = [value for name, value in step.items() if name.startswith("rollout/stop/")]
    assert sum(stops) == pytest.approx(1)
    for kind in ("token", "weight"):
        shares = [step[f"actfocus/{kind}_share/{span}"] for span in ("none", "reasoning", "action")]
        assert sum(shares) == pytest.approx(1)
    # alpha=0.1 on many reasoning tokens, 1 to 1.5 on few action tokens (Eq. 5).
    assert step["actfocus/mean_weight/reasoning"] == pytest.approx(0.1)
    assert 1.0 <= step["actfocus/mean_weight/action"] <= 1.5
    assert step["actfocus/token_share/action"] < step["actfocus/weight_share/action"]
    assert step["actfocus/signal_std"] > 0
    # No KL term asks for the reference model in these runs: its pass is there for the signal.
    assert step["timing_s/ref"] > 0


def check_whole_groups(trajectories: list[Trajectory], groups: int, size: int) -> None:
    """What must hold of the trajectories that an ActFocus step on an environment has written.

    Args:
        trajectories: those of one file.
        groups: how many prompt groups were asked for.
        size: trajectories of a group.
    """
    members: dict[str, list[Trajectory]] = {}
    for one in trajectories:
        members.setdefault(one.group, []).append(one)
    assert len(members) == groups
    tasks = [{one.task for one in group} for group in members.values()]
    assert all(len(task) == 1 for task in tasks) and len(set.union(*tasks)) == groups
    for group in members.values():
        assert [one.session for one in group] == list(range(size))
        assert len({tuple(one.prompt_ids) for one in group}) == 1
        # The advantage is that of the group (GRPO): it sums to 0 and follows the reward.
        first = [next(value for value in one.signals["advantage"] if value is not None) for one in group]
        assert sum(first) == pytest.approx(0, abs=1e-3)
        pairs = [(one.reward, advantage) for one, advantage in zip(group, first, strict=True)]
        assert [reward for reward, _ in sorted(pairs)] == [reward for reward, _ in sorted(pairs, key=lambda p: p[::-1])]
    for one in trajectories:
        assert one.step is not None and one.policy_version == one.step - 1
        computed = {"weight", "advantage", "signal", "ref_energy", "rollout_log_prob", "old_log_prob", "ref_log_prob"}
        assert one.signals.keys() == computed
        for values in one.signals.values():
            assert [value is None for value in values] == [turn == -1 for turn in one.turns]
        on_model = [place for place, turn in enumerate(one.turns) if turn >= 0]
        for place in on_model:
            # Rollout, old policy and, in the first step, the reference model are the same weights.
            for name in ("old_log_prob", *(["ref_log_prob"] if one.step == 1 else [])):
                assert one.signals[name][place] == pytest.approx(one.signals["rollout_log_prob"][place], abs=1e-3)
            assert one.signals["signal"][place] == one.signals["ref_energy"][place]
            if one.spans[place] != "action":
                assert one.signals["weight"][place] == pytest.approx(0.1)
        assert one.episode is not None and one.turn_count == len(one.episode.turns) == len(one.turn_rewards or [])
        assert sum(one.turn_rewards or []) == pytest.approx(one.reward)
        for number, turn in enumerate(one.episode.turns):
            text = "".join(token for token, index in zip(one.tokens, one.turns, strict=True) if index == number)
            assert text.startswith(turn.text) and turn.observation


def test_a_foreign_tag_style_trains_like_the_standard_one(run_verl, tmp_path):
    """The tiny model's tag tokens are respelled, so that its text has the tags that the run asks for."""
    folder = foreign_model("frozenlake", tmp_path / "model")
    metrics = run_verl(
        "algorithm.adv_estimator=actfocus_grpo",
        "+actfocus=default",
        "+actfocus/run=cpu_frozenlake",
        "+actfocus/device=cpu",
        *TINY,
        f"actor_rollout_ref.model.path={folder}/model",
        f"actor_rollout_ref.model.tokenizer_path={folder}/tokenizer",
        "algorithm.actfocus.tags.action=['<act>','</act>']",
        "algorithm.actfocus.tags.reasoning=['<reason>','</reason>']",
        "algorithm.actfocus.tags.prefill='<reason>'",
        f"algorithm.actfocus.trajectories.folder={tmp_path}/trajectories",
        "algorithm.actfocus.trajectories.every=2",
    )
    assert [step["step"] for step in metrics] == [0, 1, 2]
    assert [file.name for file in trajectory_files(tmp_path / "trajectories")] == ["1.jsonl", "2.jsonl"]
    for file in trajectory_files(tmp_path / "trajectories"):
        check_whole_groups(list(read_trajectories(file)), groups=2, size=4)
    for step in metrics[1:]:
        check_training_step(step)
        # The prompt asked for these tags, the parser took them and the tagger found them.
        assert step["rollout/valid_turn_rate"] > 0.8
        assert step["actfocus/action_tokens"] > 0
        assert step["rollout/effective_action_rate"] > 0


@pytest.mark.slow
def test_ppo_trains_with_a_critic_that_the_estimator_name_switches_on(run_verl):
    metrics = run_verl(
        "algorithm.adv_estimator=actfocus_gae",
        "+actfocus=default",
        "+actfocus/run=cpu_frozenlake",
        "+actfocus/device=cpu",
        *TINY,
        # Log-probabilities behind a shared prompt are the rollout's too; the critic's pass shares nothing.
        "algorithm.actfocus.share_prompts=True",
    )
    assert [step["step"] for step in metrics] == [0, 1, 2]
    assert metrics[0]["val/episodes"] == 8
    assert "val/success_final" in metrics[2]
    for step in metrics[1:]:
        check_training_step(step)
        assert math.isfinite(step["critic/vf_loss"]) and step["critic/grad_norm"] > 0


def test_two_fsdp2_ranks_with_lora_padding_removed_and_dynamic_batches(run_verl):
    """Everything at once that changes how a batch is split or where the reference model lives (in the actor)."""
    metrics = run_verl(
        "algorithm.adv_estimator=actfocus_grpo",
        "+actfocus=default",
        "+actfocus/run=cpu_frozenlake",
        "+actfocus/device=cpu",
        *TINY,
        "trainer.n_gpus_per_node=2",
        "actor_rollout_ref.actor.strategy=fsdp2",
        "actor_rollout_ref.actor.fsdp_config.strategy=fsdp2",
        "actor_rollout_ref.model.use_remove_padding=True",
        "actor_rollout_ref.actor.use_dynamic_bsz=True",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=1024",
        "actor_rollout_ref.model.lora_rank=8",
        "actor_rollout_ref.model.lora.merge=True",
        "actor_rollout_ref.actor.use_kl_loss=True",
        "actor_rollout_ref.actor.kl_loss_coef=0.001",
        "algorithm.actfocus.gradient_report.every=2",
        "algorithm.actfocus.share_prompts=True",
        "trainer.val_before_train=False",
        "trainer.test_freq=-1",
    )
    assert [step["step"] for step in metrics] == [1, 2]
    for step in metrics:
        # veRL exports merged adapters in bfloat16, which has 8 bits of precision.
        check_training_step(step, rollout_difference=0.1)
    first, second = ({name for name in step if name.startswith("actfocus/gradient_")} for step in metrics)
    shares = {f"actfocus/gradient_share/{span}" for span in ("none", "reasoning", "action")}
    assert first == shares
    assert second > {"actfocus/gradient_norm/reasoning", "actfocus/gradient_norm/action", "actfocus/gradient_cosine"}
    assert all(math.isfinite(metrics[1][name]) for name in second)
