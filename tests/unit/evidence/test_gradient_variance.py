"""Signal, noise and gain of gradients, against plain NumPy; methods as the trainer has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import CausalLMOutput

from tools.evidence.gradient_statistics import Estimate, Measured
from tools.evidence.gradient_variance import Method, Trajectory, gradients, measure
from verl_actfocus.weighting import Span, token_energy, token_weights


def normal(seed: int, groups: int, parameters: int) -> torch.Tensor:
    values = np.random.default_rng(seed).normal(size=(groups, parameters)) + np.arange(parameters)
    return torch.tensor(values, dtype=torch.float32)


def test_variance_and_signal_are_those_of_numpys_covariance() -> None:
    sample = normal(0, 12, 5)
    found = Estimate.of(sample, sample)
    variance = np.trace(np.cov(sample.numpy(), rowvar=False))
    assert found.variance == pytest.approx(variance, rel=1e-5)
    # The squared length of the mean is too long by the noise that is left in it.
    assert found.signal == pytest.approx((sample.numpy().mean(axis=0) ** 2).sum() - variance / 12, rel=1e-5)


def test_errors_are_those_of_leaving_out_every_group_once() -> None:
    sample, uniform = normal(1, 9, 4), normal(2, 9, 4)
    found = Estimate.of(sample, uniform)
    kept = [[row for row in range(9) if row != n] for n in range(9)]
    left_out = [Estimate.of(sample[rows], uniform[rows]) for rows in kept]
    for error, values in (
        (found.error, [one.signal for one in left_out]),
        (found.gain_error, [one.gain for one in left_out]),
    ):
        assert error == pytest.approx(np.sqrt(8 / 9 * np.square(np.array(values) - np.mean(values)).sum()), rel=1e-4)


def test_gain_is_the_objective_that_a_step_of_fixed_length_adds() -> None:
    """Against many steps that are drawn: their mean product with Uniform's expectation, over their root mean square."""
    rng = np.random.default_rng(3)
    expected, uniform = np.array([1.0, 0.5, 0.0]), np.array([1.0, 0.0, 0.5])
    scatter = {"own": 0.7, "uniform": 2.0}
    own = expected + scatter["own"] * rng.normal(size=(4000, 3))
    stock = uniform + scatter["uniform"] * rng.normal(size=(4000, 3))
    found = Estimate.of(torch.tensor(own).float(), torch.tensor(stock).float(), step=4)
    lengths = [
        np.sqrt((mean**2).sum() + 3 * one**2 / 4)
        for mean, one in zip((expected, uniform), scatter.values(), strict=True)
    ]
    truth = (expected @ uniform / lengths[0]) / (uniform @ uniform / lengths[1])
    assert found.gain == pytest.approx(truth, abs=3 * found.gain_error)
    assert found.gain_error < 0.1
    same = Estimate.of(torch.tensor(stock).float(), torch.tensor(stock).float())
    assert (same.gain, same.gain_error) == (pytest.approx(1), pytest.approx(0, abs=1e-12))


class Bigram(torch.nn.Module):
    """Logits of the next token by the last one alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self, ids: torch.Tensor) -> CausalLMOutput:
        return CausalLMOutput(logits=self.table[ids])


def episode(
    task: int, sample: int, ids: list[int], rewards: tuple[float, float], states: tuple[int, int]
) -> Trajectory:
    """Two turns of reasoning, action and end of turn, with a word of the environment between them."""
    spans = [Span.REASONING, Span.ACTION, Span.NONE, Span.NONE, Span.REASONING, Span.ACTION, Span.NONE]
    return Trajectory(
        task=task,
        sample=sample,
        ids=[0, *ids],
        prompt_length=1,
        mask=[1, 1, 1, 0, 1, 1, 1],
        spans=[int(span) for span in spans],
        turn_rewards=[0, 0, rewards[0], 0, 0, 0, rewards[1]],
        states=[0, 0, states[0], 0, 0, 0, states[1]],
        reward=sum(rewards),
    )


GROUPS = [
    [episode(7, 0, [1, 2, 5, 0, 1, 3, 5], (0, 1), (1, 2)), episode(7, 1, [1, 3, 5, 0, 1, 4, 5], (0, 0), (1, 3))],
    # Level in return; only discounting tells the two apart.
    [episode(8, 0, [1, 4, 5, 0, 1, 2, 5], (1, 0), (4, 5)), episode(8, 1, [2, 4, 5, 0, 2, 2, 5], (0, 1), (4, 6))],
    [episode(9, 0, [2, 2, 5, 0, 2, 3, 5], (0, 0), (7, 8)), episode(9, 1, [2, 3, 5, 0, 1, 4, 5], (1, 0), (7, 8))],
]


def test_factors_are_the_advantages_of_training_times_its_weights() -> None:
    model = Bigram()
    mask = torch.tensor([one.mask for group in GROUPS for one in group])
    spans = torch.tensor([one.spans for group in GROUPS for one in group])
    ids = torch.tensor([one.ids for group in GROUPS for one in group])
    with torch.no_grad():
        logits = model(ids).logits[:, :-1]
    inputs = {"mask": mask, "spans": spans, "ref_energy": token_energy(logits), "old_entropy": torch.zeros(6, 7)}
    flat = [one for group in GROUPS for one in group]
    # The sample standard deviation of 0 and 1 is √½, so advantages are ±√½.
    root = 0.5**0.5
    signs = torch.tensor([root, -root, 0, 0, -root, root])[:, None]
    uniform = Method.parse("uniform").factors(flat, inputs)
    torch.testing.assert_close(uniform, signs * mask, rtol=1e-5, atol=1e-5)
    focused = Method.parse("actfocus").factors(flat, inputs)
    weights = token_weights(spans, token_energy(logits), response_mask=mask)
    torch.testing.assert_close(focused, weights * signs * mask, rtol=1e-5, atol=1e-5)
    # In the level group both first turns began in state 4; discounted, their returns are 1 and 0.95.
    steps = Method.parse("gigpo/uniform").factors(flat, inputs)[2:4]
    first_turn = torch.tensor([1, 1, 1, 0, 0, 0, 0])
    torch.testing.assert_close(steps, torch.tensor([[root], [-root]]) * first_turn, rtol=1e-4, atol=1e-4)


def test_uniforms_gradient_is_the_sum_of_its_parts_and_level_groups_are_left_out() -> None:
    model = Bigram()
    stock = measure(model, GROUPS, [])
    assert len(stock.gradients["uniform"]) == 2 and stock.groups == 3
    mask = torch.tensor([one.mask for one in GROUPS[2]])
    root = 0.5**0.5
    (whole,) = gradients(model, GROUPS[2], [torch.tensor([[-root], [root]]) * mask])
    torch.testing.assert_close(stock.gradients["uniform"][1], whole, rtol=1e-4, atol=1e-5)
    with_turns = measure(model, GROUPS, [Method.parse("gigpo/uniform")])
    assert len(with_turns.gradients["uniform"]) == 3
    assert not with_turns.gradients["uniform"][1].any() and with_turns.gradients["gigpo/uniform"][1].any()
    assert stock.tokens == pytest.approx(
        {"reasoning tokens alone": 1 / 3, "action tokens alone": 1 / 3, "tags and ends of turn alone": 1 / 3}
    )


def test_episodes_of_different_lengths_and_prompts_count_as_if_each_were_alone() -> None:
    """Against one episode after another: no token of the prompt or of the padding has a gradient."""

    def one(sample: int, prompt: list[int], ids: list[int], mask: list[int], reward: float) -> Trajectory:
        spans = [int(Span.REASONING)] * len(ids)
        zeros = [0.0] * len(ids)
        return Trajectory(5, sample, [*prompt, *ids], len(prompt), mask, spans, zeros, [0] * len(ids), reward)

    group = [
        one(0, [1, 2, 3], [4, 5], [1, 1], 1.0),
        one(1, [1, 2], [3, 4, 5, 1, 2], [1, 1, 0, 1, 1], 0.0),
        one(2, [3], [2, 2, 4], [1, 1, 1], 0.0),
    ]
    model = Bigram()
    found = measure(model, [group], [Method.parse("entropy_top share=0.25")])
    rewards = torch.tensor([row.reward for row in group])
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
    log_probs = torch.log_softmax(model.table, -1)
    sampled = [
        (advantage, row.ids[place - 1], row.ids[place])
        for row, advantage in zip(group, advantages, strict=True)
        for place, kept in enumerate(row.mask, start=row.prompt_length)
        if kept
    ]
    assert len(sampled) == 9
    (expected,) = torch.autograd.grad(
        sum(advantage * log_probs[last, token] for advantage, last, token in sampled), model.table, retain_graph=True
    )
    torch.testing.assert_close(found.gradients["uniform"][0], expected.flatten(), rtol=1e-4, atol=1e-5)
    # Of nine tokens the three after the words that leave most open; the earlier of equals.
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
    order = sorted(range(9), key=lambda n: (-entropy[sampled[n][1]].item(), n))[:3]
    chosen = [sampled[n] for n in sorted(order)]
    (top,) = torch.autograd.grad(sum(a * log_probs[last, token] for a, last, token in chosen), model.table)
    torch.testing.assert_close(found.gradients["entropy_top share=0.25"][0], top.flatten(), rtol=1e-4, atol=1e-5)


def test_a_table_says_nothing_of_gains_where_uniforms_own_direction_is_not_known() -> None:
    half = torch.tensor(np.random.default_rng(5).normal(size=(4, 50)), dtype=torch.float32)
    noise = torch.cat([half, -half])
    clear = noise + 3
    tokens = {"reasoning tokens alone": 0.8}
    lost, told = (
        Measured({"reasoning tokens alone": one, "uniform": one}, tokens, 9).table()[-2:] for one in (noise, clear)
    )
    assert lost[0].split("|")[-2].strip() == "–" and told[0].split("|")[-2].strip() == "1.00 ± 0.00"
    assert told[0].startswith("| reasoning tokens alone | 80.0% | 100.0% |") and told[1].endswith("| 1 |")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gigpo", "gigpo"),
        ("nobody/uniform", "nobody"),
        ("uniform x=1", "x"),
        ("gae/uniform", "gae needs a trained critic"),
        ("actfocus signal=nll", "needs .*, which is not computed here"),
        ("optimal_token_baseline/uniform", "which is not computed here"),
    ],
)
def test_an_unknown_method_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Method.parse(name)
