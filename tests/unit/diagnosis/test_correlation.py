"""Correlation of group means with the spread of rewards: scipy's, and a sentence where there is none."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from verl_actfocus import models
from verl_actfocus.diagnosis.charts import energy_histogram
from verl_actfocus.diagnosis.correlation import Group, correlate, correlations, rank_correlation, token_shares
from verl_actfocus.diagnosis.groups import token_signals
from verl_actfocus.diagnosis.saved import saved_steps
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


def group(rewards: list[float], energies: list[float]) -> Group:
    found = Group()
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
        expected = stats.spearmanr([one.mean("energy", part) for one in groups], [one.spread for one in groups])
        assert (found.rho, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
        low, high = found.interval or (1.0, -1.0)
        assert low < expected.statistic < high and found.problem is None


def test_rank_correlation_of_many_resamples_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(4, size=(20, 9)), rng.integers(4, size=(20, 9))
    expected = [stats.spearmanr(one, other).statistic for one, other in zip(first, second, strict=True)]
    assert rank_correlation(first, second) == pytest.approx(expected)
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5)))


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


def test_a_correlation_that_hangs_on_one_group_has_no_interval() -> None:
    groups = [group([0, 0], [n, n, n, n]) for n in range(9)] + [group([0, 1], [9, 9, 9, 9])]
    found = correlate(groups, "energy", "action")
    assert found.rho is not None and found.interval is None
    assert found.problem == "no interval: too many resamples of the groups have one spread"


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
    alone = saved_steps(tmp_path, pool=1)
    assert [(one.first, one.last, len(one.groups)) for one in alone] == [(2, 2, 4), (10, 10, 4), (11, 11, 4)]
    assert all(len(group.rewards) == 3 for one in alone for group in one.groups)
    pooled = saved_steps(folder, pool=2)
    assert [(one.first, one.last, len(one.groups)) for one in pooled] == [(2, 10, 8), (11, 11, 4)]


def test_a_run_without_trajectories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        saved_steps(tmp_path / "nowhere", pool=1)
    with pytest.raises(ValueError, match="holds no trajectories"):
        saved_steps(tmp_path, pool=1)
    write_trajectory(tmp_path / "trajectories.jsonl", trajectory("g", 0, 1.0, [1.0] * 4))
    with pytest.raises(ValueError, match="trajectories of no training step; name a training run"):
        saved_steps(tmp_path, pool=1)
