"""GiGPO (arXiv 2505.10978) against its definition, step by step in plain Python."""

from __future__ import annotations

import random
from statistics import mean, stdev

import pytest
import torch

from verl_actfocus.estimators import GiGPO

from .batches import Played, batch_of

#: Added to a standard deviation by veRL's GRPO.
EPSILON = 1e-6


def discounted(rewards: list[float], turn: int, gamma: float) -> float:
    return sum(gamma**later * reward for later, reward in enumerate(rewards[turn:]))


def by_definition(played: list[Played], omega: float, gamma: float, by_std: bool) -> list[list[float]]:
    """Each trajectory's advantage by turn: of its episode as it was given, plus ω times that of the step."""
    found = []
    for one in played:
        values = []
        for turn, state in enumerate(one.states):
            returns = [
                discounted(other.rewards, k, gamma)
                for other in played
                if other.group == one.group
                for k, its_state in enumerate(other.states)
                if its_state == state
            ]
            step = 0.0
            if len(returns) > 1 and max(returns) - min(returns) > 1e-5:
                step = discounted(one.rewards, turn, gamma) - mean(returns)
                step /= stdev(returns) + EPSILON if by_std else 1
            values.append(one.advantage + omega * step)
        found.append(values)
    return found


def played_at_random(seed: int) -> list[Played]:
    draw = random.Random(seed)
    made = []
    for row in range(12):
        turns = draw.randint(1, 5)
        rewards = [draw.choice([-0.1, -0.1, 0.9, 10.9]) for _ in range(turns)]
        states = [draw.randint(1, 4) for _ in range(turns)]
        made.append(Played(f"g{row % 3}", rewards, states, advantage=draw.gauss(0, 1)))
    return made


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("omega", "gamma", "by_std"), [(1.0, 0.95, True), (0.3, 1.0, False), (2.0, 0.0, True)])
def test_every_token_of_a_step_has_the_advantage_of_the_definition(seed, omega, gamma, by_std):
    played = played_at_random(seed)
    found = GiGPO(omega=omega, gamma=gamma).estimate(batch_of(played, divide_by_std=by_std))
    expected = by_definition(played, omega, gamma, by_std)
    for one, advantages, returns, values in zip(played, found.advantages, found.returns, expected, strict=True):
        assert advantages.dtype == torch.float32
        # Zero on what the environment said.
        assert advantages.tolist() == pytest.approx(one.tokens(values, last_only=False), abs=1e-5)
        assert returns is advantages or returns.equal(advantages)
    assert max(abs(a).max() for a in found.advantages) > 0.5


def test_a_state_that_was_seen_once_in_its_group_has_no_advantage_of_its_own():
    played = [Played("a", [0.0, 1.0], [1, 2]), Played("a", [0.0, 0.0], [3, 4]), Played("b", [0.5], [2])]
    found = GiGPO().estimate(batch_of(played))
    assert all(row.eq(0).all() for row in found.advantages)
    assert found.metrics == {"shared_state_share": 0.0}


@pytest.mark.parametrize("reward", [10.8, 10.7, -0.3])
def test_steps_whose_returns_differ_by_rounding_alone_have_none_either(reward):
    # 16 equal rewards have a float32 mean that differs from them; -0.1 three times is not -0.3.
    played = [Played("a", [reward], [7]) for _ in range(16)]
    played += [Played("b", [-0.1, -0.1, -0.1], [1, 2, 3]), Played("b", [-0.3], [1])]
    found = GiGPO(gamma=1.0).estimate(batch_of(played))
    assert all(row.eq(0).all() for row in found.advantages)
    assert found.metrics["shared_state_share"] == 18 / 20


def test_a_group_of_equal_returns_teaches_through_its_steps_alone():
    """Both episodes end with the same return, and from the shared state one gets there a turn earlier."""
    played = [Played("a", [0.0, 1.0], [1, 2], advantage=0.4), Played("a", [1.0], [1], advantage=0.4)]
    found = GiGPO(omega=1.0, gamma=0.5).estimate(batch_of(played, divide_by_std=False))
    # From state 1: 0.5 and 1, mean 0.75. What veRL's GRPO gave the level group, 0.4, is cleared.
    assert [row[0].item() for row in found.advantages] == pytest.approx([-0.25, 0.25])
    assert found.advantages[0][-1] == 0
    assert found.metrics["shared_state_share"] == pytest.approx(2 / 3)


def test_without_omega_it_is_grpo():
    played = played_at_random(1)
    batch = batch_of(played)
    found = GiGPO(omega=0.0).estimate(batch)
    assert all(one.equal(other) for one, other in zip(found.advantages, batch.advantages, strict=True))


def test_tokens_that_rollout_correction_rejects_have_no_advantage_and_do_not_split_a_turn():
    played = [Played("a", [1.0], [1], [3]), Played("a", [0.0], [1], [3])]
    kept = [torch.tensor([1, 0, 1]), torch.tensor([1, 1, 1])]
    found = GiGPO().estimate(batch_of(played, response_mask=kept))
    value = 0.5 / (stdev([0, 1]) + EPSILON)
    assert found.advantages[0].tolist() == pytest.approx([value, 0, value])


def test_rows_without_a_turn_are_verls_padding():
    batch = batch_of([Played("pad", []), Played("a", [1.0], [1])])
    assert [len(row) for row in GiGPO().estimate(batch).advantages] == [0, 1]
    mask = [torch.zeros(1, dtype=torch.long)]
    nothing = batch_of([Played("pad", [0.0])], model_mask=mask, response_mask=mask)
    found = GiGPO().estimate(nothing)
    assert found.advantages[0].tolist() == [0.0] and found.metrics == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"omega": -0.1}, r"estimator\.omega=-0\.1 must be at least 0"), ({"gamma": 1.5}, r"gamma=1\.5 must lie in")],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        GiGPO(**settings)
