"""From the episodes of a batch to metrics, the groups that are kept, and the run's best evaluation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transfer_queue import KVBatchMeta

from verl_actfocus.episodes.record import EpisodeRecord, summarise
from verl_actfocus.episodes.spread import spread
from verl_actfocus.integration import selection
from verl_actfocus.integration.dataset import EnvironmentDataset, EnvironmentSettings
from verl_actfocus.integration.exclusions import exclusion_metrics
from verl_actfocus.integration.metrics import (
    SuccessTracker,
    identical_responses,
    rollout_metrics,
    validation_metrics,
)
from verl_actfocus.integration.selection import groups_to_keep


def test_excluded_trajectories_are_counted_by_reason_and_crashes_make_up_the_rest():
    reasons = Counter({"environment_error": 2, "rollout_aborted": 1})
    metrics = exclusion_metrics("rollout", expected=20, present=15, reasons=reasons)
    assert metrics["rollout/excluded_trajectories"] == 5
    assert metrics["rollout/excluded/environment_error"] == pytest.approx(0.1)
    assert metrics["rollout/excluded/rollout_aborted"] == pytest.approx(0.05)
    assert metrics["rollout/excluded/crashed"] == pytest.approx(0.1)
    assert metrics["rollout/excluded/prompt_too_long"] == 0


def test_groups_with_the_largest_spread_are_kept_in_order():
    rewards = {"a": [0, 0, 0], "b": [0, 1, 1], "c": [0, 10, 0], "d": [1, 1, 1]}
    assert groups_to_keep(rewards, 0.5) == ["b", "c"]
    assert groups_to_keep(rewards, 0.25) == ["c"]
    assert groups_to_keep(rewards, 1.0) == ["a", "b", "c", "d"]
    assert groups_to_keep(rewards, 0.01) == ["c"]


def test_a_share_keeps_as_many_groups_as_it_says_in_decimals():
    rewards = {str(group): [0.0, float(group)] for group in range(25)}
    assert groups_to_keep(rewards, 0.28) == [str(group) for group in range(18, 25)]


def test_selection_without_any_spread_keeps_the_share_all_the_same():
    assert groups_to_keep({"a": [1, 1], "b": [0, 0], "c": [2, 2]}, 0.6) == ["a", "b"]
    assert groups_to_keep({"a": [1]}, 0.25) == ["a"]


def test_rounding_is_no_spread_and_a_single_trajectory_has_none():
    # Mathematically 0; numpy's standard deviation of seven times 10.3 is 1.8e-15.
    rounded = {"a": [10.3] * 7, "b": [0.1 + 0.2 - 0.3, 0.0], "c": [10.8], "d": [10.8, float(np.float32(10.8))]}
    assert np.std(rounded["a"]) > 0
    assert {name: spread(values) for name, values in rounded.items()} == dict.fromkeys(rounded, 0.0)
    assert groups_to_keep({**rounded, "e": [1e-3, 0.0], "f": [1000.0, 1000.1]}, 0.3) == ["e", "f"]


def test_groups_without_spread_and_those_of_one_are_counted_before_the_selection(monkeypatch):
    rewards = {"a_0_0": 10.8, "b_0_0": 1.0, "b_1_0": 0.0, **{f"c_{session}_0": 10.3 for session in range(7)}}
    monkeypatch.setattr(selection, "tq", SimpleNamespace(kv_clear=lambda keys, **_: None))
    scores = [torch.tensor([0.0, reward]) for reward in rewards.values()]
    batch = KVBatchMeta(keys=list(rewards), tags=[{} for _ in rewards], partition_id="train")
    metrics = {}
    assert selection.select_groups(batch, scores, 0.3, metrics).keys == ["b_0_0", "b_1_0"]
    assert metrics["selection/groups_without_spread"] == pytest.approx(2 / 3)
    assert metrics["selection/groups_of_one"] == 1
    assert (metrics["selection/spread_all"], metrics["selection/spread_kept"]) == (pytest.approx(0.5 / 3), 0.5)


def test_identical_responses_are_the_trajectories_that_repeat_a_sibling_to_the_last_token():
    tokens = {"a": [[1, 2], [1, 2], [1, 2, 3]], "b": [[1, 2], [4]], "alone": [[9]]}
    groups = [group for group, rows in tokens.items() for _ in rows]
    responses = [torch.tensor(row) for rows in tokens.values() for row in rows]
    # Two of the five that have siblings; equal tokens of another group do not count.
    assert identical_responses(groups, responses) == {"rollout/identical_responses": pytest.approx(2 / 5)}
    assert identical_responses(["alone"], [torch.tensor([9])]) == {}


def counts(outcomes=None, **changes):
    """What training stores of an episode."""
    played = EpisodeRecord(task=0, sample=0, success=True, stop_reason="success", outcomes=outcomes or {}).counts()
    return {
        **played,
        "turns": 2,
        "well_formed_turns": 2,
        "valid_turns": 2,
        "actions": 3,
        "effective_actions": 3,
        "response_tokens": 50,
        **changes,
    }


def test_validation_metrics_are_left_to_verl_for_other_agent_loops():
    assert validation_metrics({"reward": [1.0, 0.0]}) == {}
    records = [counts(), counts(success=0.0, stop_reason="terminated")]
    infos = {name: [r[name] for r in records] for name in counts()}
    metrics = validation_metrics({**infos, "reward": [1.0, 0.0]})
    assert metrics["val/success"] == 0.5 and metrics["val/episodes"] == 2
    # One task does not tell how tasks differ.
    assert "val/success_standard_error" not in metrics


def test_the_standard_error_of_an_evaluation_covers_what_it_says():
    """Within 1.96 standard errors lies the true rate in about 95 % of evaluations of 32 tasks × 16 episodes."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        solved = rng.binomial(16, rng.uniform(size=32))
        records = [counts(success=float(n < solved[task]), seed=task) for task in range(32) for n in range(16)]
        infos = {name: [one[name] for one in records] for name in records[0]}
        metrics = validation_metrics({**infos, "reward": [0.0] * len(records)})
        inside += abs(metrics["val/success"] - 0.5) <= 1.96 * metrics["val/success_standard_error"]
    assert inside / 400 >= 0.92


def test_outcomes_that_an_environment_declares_are_averaged_in_training_and_evaluation():
    episodes = [counts(outcomes={"purchase": bought}) for bought in (True, True, False)]
    assert [one["purchase"] for one in episodes] == [1.0, 1.0, 0.0]
    assert rollout_metrics([{"reward_extra_info": one} for one in episodes])["rollout/purchase"] == pytest.approx(2 / 3)
    # veRL's validation: one list per name, None where an episode has no such value.
    infos = {name: [one.get(name) for one in [*episodes, counts()]] for name in episodes[0]}
    assert validation_metrics({**infos, "reward": [1.0] * 4})["val/purchase"] == pytest.approx(2 / 3)
    assert not any("purchase" in name for name in summarise([counts()]))


def test_the_peak_survives_a_restart(tmp_path):
    tracker = SuccessTracker()
    tracker.update(0, 0.4)
    tracker.update(10, 0.7)
    tracker.save(tmp_path)
    resumed = SuccessTracker()
    resumed.load(tmp_path)
    metrics = resumed.update(20, 0.6)
    assert metrics == {"val/success_final": 0.6, "val/success_peak": 0.7, "val/success_peak_step": 10.0}


def test_a_save_that_is_interrupted_leaves_the_peak_that_was_there(tmp_path, monkeypatch):
    tracker = SuccessTracker()
    tracker.update(10, 0.7)
    tracker.save(tmp_path)
    tracker.update(20, 0.8)

    def killed(path, content):
        path.open("w").close()  # what a kill right after opening leaves
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_bytes", killed)
        tracker.save(tmp_path)
    resumed = SuccessTracker()
    resumed.load(tmp_path)
    assert (resumed.peak, resumed.peak_step) == (0.7, 10)


@pytest.mark.parametrize("content", ["", "[]", '{"peak": 0.5}'])
def test_a_damaged_peak_is_an_error_that_names_the_file_and_the_remedy(tmp_path, content):
    (tmp_path / "actfocus.json").write_text(content)
    with pytest.raises(ValueError, match=r"actfocus\.json is damaged.* write \{.*\} into it") as refused:
        SuccessTracker().load(tmp_path)
    # The remedy, word for word; without the file the checkpoint would be taken for another run's.
    (tmp_path / "actfocus.json").write_text("{" + str(refused.value).partition("{")[2].partition("}")[0] + "}")
    SuccessTracker().load(tmp_path)


def data_config(**environment):
    from omegaconf import OmegaConf

    return OmegaConf.create({"environment": {"name": "frozenlake", **environment}})


def test_training_and_evaluation_never_share_a_seed():
    config = data_config(train_size=50, val_size=20)
    training, evaluation = (EnvironmentDataset(split, config=config) for split in ("train", "val"))
    seeds = [
        {row["environment"]["seed"] for row in (data[i] for i in range(len(data)))} for data in (training, evaluation)
    ]
    assert (len(seeds[0]), len(seeds[1])) == (50, 20)
    assert not seeds[0] & seeds[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "frozenpond"}, "frozenpond.*frozenlake"),
        ({"val_size": 0}, "val_size=0"),
        ({"train_seed": 10, "val_seed": 0, "val_size": 32}, "overlap"),
        ({"turns": 3}, r"no setting \['turns'\]"),
    ],
)
def test_wrong_environment_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        EnvironmentSettings.from_config(data_config(**changes))


def test_a_file_path_is_refused_with_what_to_write_instead():
    with pytest.raises(ValueError, match=r"train_files=train.*gsm8k"):
        EnvironmentDataset("~/data/gsm8k.parquet", config=data_config())


def test_configured_limits_change_the_environments_own_and_are_checked():
    settings = EnvironmentSettings.from_config(data_config(limits={"turns": 2}))
    assert settings.episode_limits().turns == 2
    assert settings.episode_limits().actions == 10
    with pytest.raises(ValueError, match="turns"):
        EnvironmentDataset("train", config=data_config(limits={"turns": 0}))


def test_another_loops_reward_may_say_why_a_response_stopped() -> None:
    """What a reward function returns reaches both, under names of its own choice."""
    assert rollout_metrics([{"reward_extra_info": {"score": 1.0, "stop_reason": "eos"}}]) == {}
    assert validation_metrics({"reward": [1.0], "score": [1.0], "stop_reason": ["eos"]}) == {}
