"""GAE over turns against its definition, and against GAE over tokens where both are the same."""

from __future__ import annotations

from statistics import mean, variance

import pytest
import torch
from verl.trainer.ppo.core_algos import compute_gae_advantage_return

from verl_actfocus.estimators import TurnGAE

from .batches import Played, batch_of


def with_values(played: list[Played], seed: int, **more):
    """A batch whose critic says something else before every token."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(row.shape, generator=generator) for row in batch_of(played).rewards]
    return batch_of(played, inputs={"values": rows}, **more)


def by_definition(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    following = [*values[1:], 0.0]
    delta = [r + gamma * v_next - v for r, v_next, v in zip(rewards, following, values, strict=True)]
    return [sum((gamma * lam) ** (k - turn) * delta[k] for k in range(turn, len(delta))) for turn in range(len(delta))]


PLAYED = [Played("a", [0.5, -0.1, 10.9]), Played("a", [-0.1]), Played("b", [0.0, 1.0])]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.7), (0.0, 1.0)])
def test_a_turn_has_the_advantage_of_the_definition_whitened_over_tokens(gamma, lam):
    batch = with_values(PLAYED, 3, gamma=gamma, lam=lam)
    found = TurnGAE().estimate(batch)
    raw, returns = [], []
    for one, values in zip(PLAYED, batch.inputs["values"], strict=True):
        starts = [sum(one.lengths[:turn]) + 2 * turn for turn in range(len(one.lengths))]
        of_turns = [values[start].item() for start in starts]
        advantages = by_definition(one.rewards, of_turns, gamma, lam)
        raw.append((one, advantages))
        learnt = [a + v for a, v in zip(advantages, of_turns, strict=True)]
        returns.append(one.tokens(learnt, last_only=False))
    chosen = [a for one, values in raw for a, length in zip(values, one.lengths, strict=True) for _ in range(length)]
    centre, scale = mean(chosen), (variance(chosen) + 1e-8) ** -0.5
    for row, (one, values) in zip(found.advantages, raw, strict=True):
        expected = one.tokens([(value - centre) * scale for value in values], last_only=False)
        assert row.tolist() == pytest.approx(expected, abs=1e-5)
    assert [row.tolist() for row in found.returns] == [pytest.approx(row, abs=1e-5) for row in returns]


@pytest.mark.parametrize("seed", range(3))
def test_where_every_turn_is_one_token_it_is_verls_gae(seed):
    rewards = [[0.5, -0.1, 1.0], [0.3, 0.2, 0.9], [1.0, 0.0, 0.0]]
    played = [Played("a", row, lengths=[1, 1, 1]) for row in rewards]
    batch = with_values(played, seed, gamma=0.9, lam=0.8)
    advantages, returns = compute_gae_advantage_return(
        torch.stack(list(batch.inputs["turn_rewards"])),
        torch.stack(list(batch.inputs["values"])),
        torch.stack(list(batch.response_mask)),
        gamma=0.9,
        lam=0.8,
    )
    found = TurnGAE().estimate(batch)
    mask = torch.stack(list(batch.response_mask))
    torch.testing.assert_close(torch.stack(found.advantages), advantages * mask)
    torch.testing.assert_close(torch.stack(found.returns), returns * mask)


def test_values_of_later_tokens_of_a_turn_are_not_read():
    batch = with_values(PLAYED, 5)
    changed = [row.clone() for row in batch.inputs["values"]]
    # The last turn of the first trajectory has three tokens.
    changed[0][-1] = 99.0
    other = batch_of(PLAYED, inputs={"values": changed})
    for one, two in zip(TurnGAE().estimate(batch).advantages, TurnGAE().estimate(other).advantages, strict=True):
        assert one.equal(two)


def test_a_single_token_has_nothing_to_be_compared_with():
    batch = batch_of([Played("a", [2.0], lengths=[1])], inputs={"values": [torch.tensor([0.5])]})
    assert TurnGAE().estimate(batch).advantages[0].tolist() == [1.5]
