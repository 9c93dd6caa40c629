"""Correlation of group means with the spread of rewards: scipy's, and a sentence where there is none."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from tools.interval_coverage import rank_coverage
from verl_actfocus import models
from verl_actfocus.diagnosis.charts import energy_histogram
from verl_actfocus.diagnosis.correlation import Group, correlate, correlations, token_shares, whole
from verl_actfocus.diagnosis.groups import token_signals
from verl_actfocus.diagnosis.intervals import rank_correlation
from verl_actfocus.diagnosis.ranks import p_value, pooled_ranks
from verl_actfocus.diagnosis.saved import Saved
from verl_actfocus.diagnosis.tables import correlation_table
from verl_actfocus.episodes import Episode
from verl_actfocus.episodes.player import Player
from verl_actfocus.evaluation.driver import Players
from verl_actfocus.evaluation.settings import profile_settings
from verl_actfocus.trajectories import Trajectory, write_trajectory

from .drawn import Thinker


def trajectory(group: str, session: int, reward: float, energies: list[float], step: int | None = None) -> Trajectory:
    """Two reasoning tokens, a tag, an action token, and one of the environment."""
    return Trajectory(
        group=group,
        session=session,
        step=step,
        prompt_ids=[1],
        prompt="?",
        ids=[1, 2, 3, 4, 5],
        tokens=list("abcde"),
        spans=["reasoning", "reasoning", "none", "action", "none"],
        turns=[0, 0, 0, 0, -1],
        signals={"ref_energy": [*energies, None], "old_log_prob": [-0.5, -1.5, -2.5, -3.5, None]},
        reward=reward,
    )


def group(rewards: list[float], energies: list[float], step: int | None = None) -> Group:
    found = Group(step=step)
    for number, reward in enumerate(rewards):
        found.add(trajectory("g", number, reward, energies))
    return found


def random_groups(count: int) -> list[Group]:
    rng = np.random.default_rng(0)
    return [group(rng.integers(2, size=6).tolist(), rng.normal(size=4).tolist()) for _ in range(count)]


def test_means_are_over_the_sampled_tokens_of_each_part_in_all_trajectories_of_the_group() -> None:
    found = Group()
    found.add(trajectory("g", 0, 1.0, [1.0, 2.0, 3.0, 4.0]))
    found.add(trajectory("g", 1, 0.0, [5.0, 6.0, 7.0, 8.0]))
    assert [found.mean("energy", part) for part in ("all", "reasoning", "action")] == [4.5, 3.5, 6.0]
    assert found.mean("nll", "action") == 3.5  # minus the log-probability that training recorded
    assert found.mean("shift", "action") is None and found.spread == 0.5
    assert token_shares([found]) == {
        "reasoning_share": 0.5,
        "action_share": 0.25,
        "none_share": 0.25,
        "tokens_per_trajectory": 4,
    }


def test_correlation_and_p_value_are_scipys() -> None:
    groups = random_groups(50)
    for part in ("all", "reasoning", "action"):
        found = correlate(groups, "energy", part)
        expected = stats.spearmanr(
            [one.mean("energy", part) for one in groups], [round(one.spread, 9) for one in groups]
        )
        assert (found.rho, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
        low, high = found.interval or (1.0, -1.0)
        assert low < expected.statistic < high and found.problem is None


def test_rewards_that_differ_by_rounding_do_not_differ() -> None:
    assert group([10.8, float(np.float32(10.8))], [1, 1, 1, 1]).spread == 0
    assert group([0.3, 0.1 + 0.2], [1, 1, 1, 1]).spread == 0
    assert group([0.0, 1e-3], [1, 1, 1, 1]).spread == 5e-4
    # The same rewards in another order, and as sums of float32: the spreads share a rank.
    rewards = [0.1, 1.1, 2.1, 0.1, 1.1]
    orders = [rewards, rewards[::-1], np.float32(rewards).tolist(), [0.0] * 5]
    assert len({group(one, [1, 1, 1, 1]).spread for one in orders}) > 2
    found = correlate([group(one, [n, n, n, n]) for n, one in enumerate(orders)], "energy", "action")
    assert found.rho == pytest.approx(stats.spearmanr(range(4), [1, 1, 1, 0]).statistic)


def test_an_episode_in_parts_is_one_reward_that_of_its_last_part() -> None:
    found = Group()
    for session, reward in ((0, 5.0), (0, 1.0), (1, 0.0)):
        found.add(trajectory("g", session, reward, [1.0, 2.0, 3.0, 4.0]))
    assert found.rewards == [1.0, 0.0]


@pytest.mark.parametrize("count", [3, 4, 6])
def test_few_groups_have_the_p_value_of_all_permutations(count: int) -> None:
    rng = np.random.default_rng(count)
    for pairs in (rng.permuted([[n // 2, n] for n in range(count)], axis=0), rng.normal(size=(count, 2))):

        def strength(one: np.ndarray, other: np.ndarray = pairs[:, 1]) -> float:
            return abs(stats.spearmanr(one, other).statistic)

        expected = stats.permutation_test(
            (pairs[:, 0],), strength, permutation_type="pairings", vectorized=False, alternative="greater"
        )
        assert p_value(pooled_ranks([pairs])) == pytest.approx(expected.pvalue)
    assert p_value(pooled_ranks([np.arange(3)[:, None].repeat(2, 1)])) == pytest.approx(1 / 3)


def test_more_groups_that_agree_fully_have_no_p_value_of_zero() -> None:
    found = correlate([group([0, n], [n, n, n, n]) for n in range(10)], "energy", "action")
    assert found.rho == 1 and found.p_value == pytest.approx(2 / math.factorial(10))
    assert found.interval is None and found.problem == "no interval: the ranks agree in all groups"


def drifting(steps: int, groups: int, seed: int) -> list[Group]:
    """Within a step nothing goes together; signal and spread grow from step to step."""
    rng = np.random.default_rng(seed)
    return [
        group([0, 2 * step + rng.random()], (2 * step + rng.random(4)).tolist(), step)
        for step in range(steps)
        for _ in range(groups)
    ]


def test_steps_that_drift_do_not_correlate_by_that_when_they_are_pooled() -> None:
    found = [correlate(drifting(5, 8, seed), "energy", "all") for seed in range(40)]
    rhos = [one.rho for one in found if one.rho is not None]
    assert len(rhos) == 40 and abs(np.mean(rhos)) < 0.1  # over 0.9 where all are ranked together
    assert sum(one.p_value is not None and one.p_value < 0.05 for one in found) < 7
    low, high = found[0].interval or (0.0, 0.0)
    assert high - low > 0.5


def test_pooled_steps_that_agree_in_each_agree_together() -> None:
    there = [group([0, n], [n, n, n, n], step) for step in range(3) for n in (10 - step, 20 - step, 30 - step)]
    found = correlate(there, "energy", "action")
    assert found.rho == pytest.approx(1)
    assert found.p_value == pytest.approx(2 / 6**3)  # of the permutations within three steps of three
    assert found.problem == "no interval: fewer than 10 groups without one for each of the steps after the first (7)"


def test_pooled_steps_of_a_single_group_say_nothing() -> None:
    found = correlate([group([0, n], [n, n, n, n], n) for n in range(12)], "energy", "action")
    assert found.rho is None
    assert found.problem == "not defined: every step has a single group, and groups are compared within their step"


def test_groups_of_which_episodes_are_missing_are_left_out() -> None:
    there = [group([0, 1, 1], [1, 1, 1, 1]), group([0, 1], [1, 1, 1, 1])]
    assert whole(there, 3) == there[:1]


def test_the_interval_of_a_correlation_is_that_of_fishers_z() -> None:
    low, high = rank_correlation(0.5, 40)
    error = math.sqrt((1 + 0.125) / 37)
    assert (math.atanh(high) - math.atanh(low)) / (2 * 1.959964) == pytest.approx(error)
    assert (math.atanh(high) + math.atanh(low)) / 2 == pytest.approx(math.atanh(0.5))


@pytest.mark.parametrize(("steps", "groups"), [(1, 10), (1, 40), (5, 4)])
def test_intervals_of_a_correlation_hold_the_true_one_about_as_often_as_they_say(steps: int, groups: int) -> None:
    assert all(rank_coverage(steps, groups, slope, 500) > 0.92 for slope in (0, 0.7))


@pytest.mark.parametrize(
    ("groups", "signal", "problem"),
    [
        (random_groups(2), "energy", "2 groups are too few; a rank correlation needs at least 3"),
        ([group([1, 1], [n, n, n, n]) for n in range(9)], "energy", "within every group all episodes earn the same"),
        ([group([0, 1], [n, n, n, n]) for n in range(9)], "energy", r"do not differ in their spread .* \(all spread"),
        ([group([0, n], [1, 1, 1, 1]) for n in range(9)], "energy", "the reference energy of all groups is the same"),
        (random_groups(5), "shift", "not recorded: no action token has the log-probability shift"),
        ([], "energy", "no group has action tokens"),
    ],
)
def test_what_cannot_be_correlated_is_said_in_words(groups: list[Group], signal: str, problem: str) -> None:
    found = correlate(groups, signal, "action")
    assert found.rho is None and found.p_value is None and found.interval is None
    assert found.problem is not None
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(found.problem)
    json.dumps(found.as_dict(), allow_nan=False)
    assert problem.split(" .")[0].replace("\\", "") in correlation_table(correlations(groups))


def test_fewer_than_ten_groups_have_no_interval() -> None:
    found = correlate(random_groups(9), "energy", "action")
    assert found.rho is not None and found.interval is None
    assert found.problem == "no interval: fewer than 10 groups"
    assert correlate(random_groups(10), "energy", "action").interval is not None


def test_histograms_share_their_bins_and_leave_out_the_environments_tokens() -> None:
    there = [trajectory("g", 0, 1.0, [0.0, 1.0, 99.0, 4.0])]
    found = energy_histogram([there, there])
    assert found is not None and (found["edges"][0], found["edges"][-1]) == (0.0, 4.0)
    assert sum(found["reasoning"]) == sum(found["action"]) == pytest.approx(1.0)
    assert found["action"][-1] == 1.0
    assert energy_histogram([[], []]) is None


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(models.folder("frozenlake") / "model").eval()


def test_signals_are_those_of_the_paper_at_temperature_1(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = profile_settings("cpu_frozenlake")
    player: Player = Players(Thinker(tokenizer), settings).new()
    assert isinstance(player.episode, Episode)
    player.begin(3)
    ids = tokenizer.encode("I go.</think><answer>Left</answer>", add_special_tokens=False)
    player.answer([*ids, tokenizer.eos_token_id], cut_off=False)
    reference = copy.deepcopy(model)
    with torch.no_grad():
        reference.get_parameter("lm_head.weight").mul_(0.9)
    found = token_signals(model, reference, player)
    whole, start = torch.tensor([player.tokens.ids]), player.tokens.prompt_length
    with torch.no_grad():
        policies, references = (one(whole).logits[0, start - 1 : -1] for one in (model, reference))
    of_policy, of_reference = (torch.distributions.Categorical(logits=one) for one in (policies, references))
    targets = whole[0, start:]
    expected = {
        "ref_energy": -references.exp().sum(-1).log(),
        "ref_entropy": of_reference.entropy(),
        "nll": -of_policy.log_prob(targets),
        "shift": of_policy.log_prob(targets) - of_reference.log_prob(targets),
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        sampled = [place for place, mask in enumerate(player.tokens.mask) if mask]
        assert [place for place, value in enumerate(found[name]) if value is not None] == sampled
        assert [found[name][place] for place in sampled] == pytest.approx(values[sampled].tolist(), abs=1e-4)
    assert "shift" not in token_signals(model, model, player)


def test_saved_trajectories_are_correlated_step_by_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "trajectories"
    folder.mkdir()
    for step in (2, 10, 11):
        for name in range(4):
            energies = rng.normal(size=4).tolist()
            for session in range(3):
                line = trajectory(str(name), session, float(rng.integers(2)), energies, step)
                write_trajectory(folder / f"{step}.jsonl.gz", line)
    alone = Saved(tmp_path).steps(pool=1)
    assert [(one.first, one.last, len(one.groups)) for one in alone] == [(2, 2, 4), (10, 10, 4), (11, 11, 4)]
    assert all(len(group.rewards) == 3 for one in alone for group in one.groups)
    pooled = Saved(folder).steps(pool=2)
    assert [(one.first, one.last, len(one.groups)) for one in pooled] == [(2, 10, 8), (11, 11, 4)]


def test_saved_groups_of_which_trajectories_are_missing_are_left_out_and_counted(tmp_path: Path) -> None:
    for name, sessions in (("a", 3), ("b", 2), ("c", 3)):
        for session in range(sessions):
            write_trajectory(tmp_path / "1.jsonl", trajectory(name, session, 1.0, [1.0] * 4, step=1))
    saved = Saved(tmp_path)
    (one,) = saved.steps(pool=1)
    assert (saved.group_size, len(one.groups), one.left_out, saved.keep_groups) == (3, 2, 1, None)
    settings = {"actor_rollout_ref.rollout.n": 4, "algorithm.actfocus.keep_groups": 0.25}
    (tmp_path / "run.json").write_text(json.dumps({"run": {"weighting": "actfocus"}, "settings": settings}))
    saved = Saved(tmp_path)
    (one,) = saved.steps(pool=1)
    assert (saved.group_size, len(one.groups), one.left_out, saved.keep_groups) == (4, 0, 3, 0.25)


def test_a_run_without_trajectories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        Saved(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no trajectories"):
        Saved(tmp_path)
    write_trajectory(tmp_path / "trajectories.jsonl", trajectory("g", 0, 1.0, [1.0] * 4))
    with pytest.raises(ValueError, match="trajectories of no training step; name a training run"):
        Saved(tmp_path)
