"""From a batch in TransferQueue to the loss: what differs from stock veRL's step is the weights and nothing else.

Both trainers' own `_compute_advantage`, with TransferQueue in memory, and both policy losses on what they leave there.
"""

from __future__ import annotations

import math

import pytest
import torch
from omegaconf import OmegaConf
from tensordict import NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.v1 import trainer_base
from verl.utils import tensordict_utils as tu
from verl.workers.config import ActorConfig, PolicyLossConfig
from verl.workers.utils.losses import ppo_loss

from verl_actfocus.config.settings import ActFocusSettings
from verl_actfocus.estimators import GRPO, GiGPO, MultiTurnOptimalTokenBaseline, OptimalTokenBaseline
from verl_actfocus.integration import fields, trainer
from verl_actfocus.integration.policy_loss import actfocus_ppo_loss
from verl_actfocus.integration.sync_trainer import PortableSyncTrainer
from verl_actfocus.integration.trajectories import TrajectoryLog
from verl_actfocus.weighting import ActFocus, Span, Uniform

A, R = int(Span.ACTION), int(Span.REASONING)
PROMPT = 3
NAMES = {"grpo": PortableSyncTrainer, "actfocus_grpo": trainer.ActFocusTrainer}


def nested(rows):
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


class Queue:
    """The rows of one TransferQueue partition."""

    def __init__(self, rows):
        self.rows = rows

    def kv_batch_get(self, keys, partition_id, select_fields):
        names = [name for name in select_fields if name in self.rows[keys[0]]]
        data = TensorDict({name: nested([self.rows[key][name] for key in keys]) for name in names}, len(keys))
        if "uid" in select_fields:
            data["uid"] = NonTensorStack(*[key.rsplit("_", 2)[0] for key in keys])
        return data

    def kv_batch_put(self, keys, partition_id, fields):
        for name, values in fields.items():
            for key, value in zip(keys, values.unbind(), strict=True):
                self.rows[key][name] = value
        return handle(keys)


def handle(keys):
    return KVBatchMeta(keys=list(keys), tags=[{}] * len(keys), partition_id="train", extra_info={})


def make_rows(returns, lengths=None, seed=0):
    """Rows by key: a return on the last token; log-probabilities of rollout and old policy that differ."""
    generator = torch.Generator().manual_seed(seed)
    rows = {}
    for number, (key, value) in enumerate(returns.items()):
        length = lengths[number] if lengths else 2 + number % 4
        mask = torch.ones(length, dtype=torch.long)
        rewards = torch.zeros(length)
        rewards[-1] = value
        old = -1 - torch.rand(length, generator=generator)
        rows[key] = {
            "response_mask": mask,
            "loss_mask": mask,
            "rm_scores": rewards,
            "old_log_probs": old,
            "rollout_log_probs": old.clone(),
            "log_prob": old + 0.3 * torch.randn(length, generator=generator),
            fields.SPANS: torch.randint(R, A + 1, (length,), generator=generator),
            "actfocus_input_ref_energy": torch.randn(PROMPT + length, generator=generator),
            "actfocus_input_old_log_prob": -1 - torch.rand(PROMPT + length, generator=generator),
            "actfocus_input_old_sum_pi_squared": torch.rand(PROMPT + length, generator=generator),
            fields.TURN_REWARDS: rewards,
            fields.ANCHOR_STATES: torch.cat([torch.zeros(length - 1, dtype=torch.int64), torch.tensor([5])]),
            "prompts": torch.ones(PROMPT, dtype=torch.long),
            "responses": mask,
            "input_ids": torch.ones(PROMPT + length, dtype=torch.long),
        }
    return rows


@pytest.fixture
def step(monkeypatch):
    """Run a trainer's `_compute_advantage` over rows, which it changes."""

    def step(name, rows, weighting=None, estimator=None, **algorithm):
        queue = Queue(rows)
        monkeypatch.setattr(trainer_base, "tq", queue)
        monkeypatch.setattr(trainer, "tq", queue)
        made = object.__new__(NAMES[name])
        made.config = OmegaConf.create(
            {
                "algorithm": {"adv_estimator": name, "use_kl_in_reward": False, "gamma": 1.0, "lam": 1.0, **algorithm},
                "actor_rollout_ref": {"rollout": {"n": 16}},
            }
        )
        made.settings = ActFocusSettings(weighting=weighting or Uniform(), estimator=estimator or GRPO())
        made.global_steps, made._bypass = 1, False
        made._trajectories = TrajectoryLog(made.settings.trajectories, None)
        made._compute_advantage(handle(rows), {})
        return {key: row["advantages"] for key, row in rows.items()}

    return step


def group(name, returns):
    return {f"{name}_{session}_0": value for session, value in enumerate(returns)}


@pytest.mark.parametrize("normalise", [True, False])
def test_the_advantages_of_groups_whose_returns_differ_are_verls_bit_for_bit(step, normalise):
    returns = {
        **group("a", [10.8, -0.5, 10.7, 3.1]),
        **group("b", [0.0, 1e-3, 0.0]),
        **group("c", [10.8] * 15 + [10.7]),
    }
    settings = {"norm_adv_by_std_in_grpo": normalise}
    stock = step("grpo", make_rows(returns), **settings)
    ours = step("actfocus_grpo", make_rows(returns), **settings)
    for key, advantages in stock.items():
        assert ours[key].equal(advantages) and advantages.ne(0).any()


@pytest.mark.parametrize("weighting", [Uniform(), ActFocus()])
def test_equal_returns_and_a_single_trajectory_get_no_advantage_under_either_weighting(step, weighting):
    """Stock veRL gives them -0.48, 0.48 and 10.8."""
    level = {**group("a", [10.8] * 16), **group("b", [10.7] * 16), **group("c", [10.8])}
    differ = group("d", [10.8, -0.5])
    stock = step("grpo", make_rows(level))
    assert [round(float(stock[f"{name}_0_0"][0]), 2) for name in "abc"] == [-0.48, 0.48, 10.8]
    ours = step("actfocus_grpo", make_rows({**level, **differ}), weighting)
    assert all(ours[key].eq(0).all() for key in level)
    assert float(ours["d_0_0"][0]) == pytest.approx(0.7071, abs=1e-4)


def test_verls_padding_rows_and_earlier_outputs_of_a_session_leave_groups_as_they_are(step):
    returns = {"a_0_0": 7.0, "a_0_1": 1.0, "a_1_0": 0.0, "padx_0_0": 0.0, "padx_1_0": 0.0}
    stock, ours = (step(name, make_rows(returns)) for name in NAMES)
    assert all(ours[key].equal(stock[key]) for key in returns)
    assert ours["a_0_0"][0] == ours["a_0_1"][0] > 0
    # What counts is the last output of a session: the group is level, whatever came before.
    level = step("actfocus_grpo", make_rows({"a_0_0": 7.0, "a_0_1": 10.8, "a_1_0": 10.8}))
    assert all(values.eq(0).all() for values in level.values())


def padded(rows, name, begin=0, end=None):
    """A column of the rows, each of which is cut to this range, as veRL's functions take it."""
    columns = [row[name][begin:end].float() for row in rows.values()]
    return torch.nn.utils.rnn.pad_sequence(columns, batch_first=True)


BASELINES = {
    OptimalTokenBaseline: core_algos.compute_optimal_token_baseline_advantage,
    MultiTurnOptimalTokenBaseline: core_algos.compute_multi_turn_optimal_token_baseline_advantage,
}


@pytest.mark.parametrize("estimator", BASELINES)
@pytest.mark.parametrize("zero_tail", [True, False])
@pytest.mark.parametrize("importance", [False, True])
def test_the_optimal_token_baselines_are_verls_functions_on_the_old_policys_probabilities(
    step, estimator, zero_tail, importance
):
    rows = make_rows({**group("a", [10.8, -0.5, 10.7, 3.1]), **group("b", [0.0, 1.0, 0.2]), **group("c", [2.0])})
    generator = torch.Generator().manual_seed(5)
    for row in rows.values():
        # The environment speaks in between.
        row["loss_mask"] = row["response_mask"] = torch.tensor([1, 0, 1, 1, 1][: len(row["responses"])])
        if importance:
            row["rollout_is_weights"] = 0.5 + torch.rand(len(row["responses"]), generator=generator)
    step("actfocus_grpo", rows, estimator=estimator(handle_zero_tail=zero_tail))
    advantages, returns = BASELINES[estimator](
        token_level_rewards=padded(rows, "rm_scores"),
        response_mask=padded(rows, "response_mask"),
        index=[key[0] for key in rows],
        # The engine's outputs for token t stand at the position that predicts it.
        old_log_probs=padded(rows, "actfocus_input_old_log_prob", PROMPT - 1, -1),
        sum_pi_squared=padded(rows, "actfocus_input_old_sum_pi_squared", PROMPT - 1, -1),
        rollout_is_weights=padded(rows, "rollout_is_weights") if importance else None,
        handle_zero_tail=zero_tail,
    )
    for row, expected, its_returns in zip(rows.values(), advantages, returns, strict=True):
        expected = expected[: len(row["responses"])]
        # Where one trajectory is its own baseline, veRL's difference of the two is rounding, which becomes 0.
        told_apart = expected.abs() > 2e-6 * 10.8
        assert row["advantages"].equal(torch.where(told_apart, expected, 0.0))
        assert row["returns"].equal(its_returns[: len(row["responses"])])
        assert row[fields.WEIGHTS].equal(row["loss_mask"].float())
    assert advantages.abs().max() > 1


def test_an_optimal_baseline_that_leaves_nothing_but_rounding_leaves_nothing(step):
    rows = make_rows(group("a", [10.8] * 16), lengths=[3] * 16)
    step("actfocus_grpo", rows, estimator=OptimalTokenBaseline())
    assert all(row["advantages"].eq(0).all() for row in rows.values())


@pytest.mark.parametrize("normalise", [True, False])
def test_gigpo_where_all_steps_begin_in_one_state_is_grpo_twice(step, normalise):
    """Of one turn each: the step's return is the episode's."""
    returns = {**group("a", [10.8, -0.5, 10.7, 3.1]), **group("b", [10.8] * 16)}
    settings = {"norm_adv_by_std_in_grpo": normalise}
    plain = step("actfocus_grpo", make_rows(returns), **settings)
    twice = step("actfocus_grpo", make_rows(returns), ActFocus(), GiGPO(), **settings)
    for key, advantages in plain.items():
        torch.testing.assert_close(twice[key], 2 * advantages)
        assert key[0] == "a" or twice[key].eq(0).all()


#: Token-level rejection of rollout correction: the tokens that the rollout's policy holds for e² times less likely.
REJECTION = {"rollout_correction": {"rollout_rs": "token_k1", "rollout_rs_threshold": "0.5_2.0"}}
SURVIVE = [[1, 0, 0, 1, 0], [0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1]]


def rejected_rows():
    """Two groups of two trajectories with 16 tokens, 7 of which survive the rejection."""
    rows = make_rows({**group("a", [1.0, 0.0]), **group("b", [0.3, 10.8])}, lengths=[len(row) for row in SURVIVE])
    for row, survives in zip(rows.values(), SURVIVE, strict=True):
        row["rollout_log_probs"] = row["old_log_probs"] - 2.0 * (1 - torch.tensor(survives))
    return rows


def loss_and_gradient(loss_of, loss_mode, rows, agg_mode):
    """Value and gradient of an actor loss over one mini-batch, whose totals the engine counts like this."""
    names = ["response_mask", "loss_mask", "old_log_probs", "advantages", "prompts", "responses", "input_ids"]
    names += [fields.WEIGHTS] if loss_mode == "actfocus" else []
    data = TensorDict({name: nested([row[name] for row in rows.values()]) for name in names}, len(rows))
    tokens = int(data["loss_mask"].values().sum())
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=tokens, global_batch_size=len(rows))
    if loss_mode == "actfocus":
        tu.assign_non_tensor(data, **{fields.WEIGHT_SUM: data[fields.WEIGHTS].values().double().sum().item()})
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=2,
        use_dynamic_bsz=True,
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        loss_agg_mode=agg_mode,
        policy_loss=PolicyLossConfig(loss_mode=loss_mode),
    )
    leaves = [row["log_prob"].clone().requires_grad_() for row in rows.values()]
    # The output for token t stands at the position that predicts it.
    whole = [torch.cat([torch.zeros(PROMPT - 1), leaf, torch.zeros(1)]) for leaf in leaves]
    loss, _ = loss_of(config, {"log_probs": nested(whole)}, data)
    loss.backward()
    return loss.detach(), torch.cat([leaf.grad for leaf in leaves])


@pytest.mark.parametrize("agg_mode", ["token-mean", "seq-mean-token-mean"])
def test_uniform_weights_give_the_stock_loss_where_rollout_correction_rejects_tokens(step, agg_mode):
    stock_rows, rows = rejected_rows(), rejected_rows()
    step("grpo", stock_rows, **REJECTION)
    step("actfocus_grpo", rows, Uniform(), **REJECTION)
    assert [row["response_mask"].tolist() for row in rows.values()] == SURVIVE
    stock_loss, stock_gradient = loss_and_gradient(ppo_loss, "vanilla", stock_rows, agg_mode)
    loss, gradient = loss_and_gradient(actfocus_ppo_loss, "actfocus", rows, agg_mode)
    assert gradient.ne(0).sum() > 3
    if agg_mode == "token-mean":
        assert loss.equal(stock_loss) and gradient.equal(stock_gradient)
    else:
        torch.testing.assert_close(loss, stock_loss)
        torch.testing.assert_close(gradient, stock_gradient)


def test_weights_of_rejected_tokens_count_in_what_the_loss_is_divided_by(step):
    rows = rejected_rows()
    step("actfocus_grpo", rows, ActFocus(alpha=0.1, beta=0.5), **REJECTION)
    loss, _ = loss_and_gradient(actfocus_ppo_loss, "actfocus", rows, "token-mean")
    # He et al. 2026, Eq. 5, 16-18 over all tokens that the model wrote, Eq. 6 over those that survive.
    tokens = [(row, t) for row in rows.values() for t in range(len(row["responses"]))]
    energy = [float(row["actfocus_input_ref_energy"][PROMPT - 1 + t]) for row, t in tokens]
    action = [int(row[fields.SPANS][t]) == A for row, t in tokens]
    chosen = [e for e, is_action in zip(energy, action, strict=True) if is_action]
    mean = sum(chosen) / len(chosen)
    std = (sum((e - mean) ** 2 for e in chosen) / len(chosen)) ** 0.5
    total = weight = 0.0
    for (row, t), e, is_action in zip(tokens, energy, action, strict=True):
        w = 1 + 0.5 / (1 + math.exp(-(e - mean) / std)) if is_action else 0.1
        weight += w
        if row["response_mask"][t]:
            ratio, advantage = math.exp(row["log_prob"][t] - row["old_log_probs"][t]), float(row["advantages"][t])
            total -= w * min(ratio * advantage, min(max(ratio, 0.8), 1.28) * advantage)
    assert 0 < sum(action) < len(tokens) == 16
    assert float(loss) == pytest.approx(total / weight, rel=1e-5)
