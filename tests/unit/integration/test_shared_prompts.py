"""A prompt that a group shares is computed once in passes without a gradient, and nothing comes out differently."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from transformers import (
    Gemma3TextConfig,
    Qwen2_5_VLConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3NextConfig,
)

from verl_actfocus.config.compatibility import check_compatible
from verl_actfocus.config.settings import ActFocusSettings
from verl_actfocus.integration import fields
from verl_actfocus.integration.groups import group_of
from verl_actfocus.integration.passes import dealt_to_ranks, run_by_groups
from verl_actfocus.integration.shared_prompts import cut_to, empty_cache, prompt_groups, split_by_prompt
from verl_actfocus.integration.trainer import ActFocusTrainer
from verl_actfocus.weighting import Uniform
from verl_actfocus.weighting.inputs import ENGINE_INPUTS

from . import composing, gradients

A, B, LONGER, ONE = [7, 8, 9, 10, 11, 12], [20, 21, 22], [7, 8, 9, 10, 11, 12, 13], [30]
#: Prompts of eight trajectories, whose responses have 2, 5, 8, 11, 14, 2, 5 and 8 tokens.
PROMPTS = {
    "two groups that take turns": [A, B, A, B, A, B, A, B],
    "a prompt that begins another, and one of a single token": [A, LONGER, ONE, A, LONGER, ONE, A, A],
    "nothing shared": [[40 + row, 50 - row, 2] for row in range(8)],
}
#: The groups of the first layout have 53 and 38 tokens. Of the last one the first half has 38 tokens, the second 41, so
#: that of two ranks one needs fewer micro-batches than the other.
BATCHING = {
    "all in one": {"micro_batch_size_per_gpu": 4, "use_dynamic_bsz": False},
    "micro-batches of two": {"micro_batch_size_per_gpu": 2, "use_dynamic_bsz": False},
    "by tokens": {"max_token_len_per_gpu": 40, "use_dynamic_bsz": True},
    "by tokens, a group in each": {"max_token_len_per_gpu": 56, "use_dynamic_bsz": True},
}
ENGINES = {
    "one rank, padded": {"world": 1, "batching": {}},
    "two ranks, FSDP1, fused kernels": {
        "world": 2,
        "batching": {"use_fused_kernels": True},
        "overrides": ["actor_rollout_ref.model.use_fused_kernels=True"],
    },
    "two ranks, FSDP2, padding removed": {
        "world": 2,
        "strategy": "fsdp2",
        "remove_padding": True,
        "batching": {"use_remove_padding": True},
    },
    "a GPU's outputs, entropy in chunks, padding removed": {
        "world": 1,
        "outputs_of_a_gpu": True,
        "remove_padding": True,
        "batching": {"use_remove_padding": True},
        "overrides": [
            "actor_rollout_ref.actor.fsdp_config.entropy_from_logits_with_chunking=True",
            "actor_rollout_ref.actor.entropy_from_logits_with_chunking=True",
        ],
    },
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    gradients.make_model(folder)
    return folder


#: Every layout and batching, both temperatures with each.
VARIANTS = [
    {"prompts": prompts, "batching": batching, "temperature": (0.7, 1.0)[(number + place) % 2]}
    for number, prompts in enumerate(PROMPTS.values())
    for place, batching in enumerate(BATCHING.values())
]


@pytest.fixture(scope="module", params=ENGINES)
def results(request, model, tmp_path_factory) -> list[list[dict]]:
    """What each rank found, variant by variant."""
    case, out = ENGINES[request.param], tmp_path_factory.mktemp("shared") / "out"
    gradients.run_ranks(model, out, {"size": 8, **case, "variants": VARIANTS}, "shared")
    return [torch.load(f"{out}.{rank}") for rank in range(case["world"])]


def test_log_probabilities_entropy_and_all_inputs_are_those_of_whole_trajectories(results):
    wanted = {"log_probs", "entropy", *(fields.INPUT_PREFIX + name for name in ENGINE_INPUTS)}
    for found in results:
        for variant, result in zip(VARIANTS, found, strict=True):
            assert result["plain"].keys() == result["shared"].keys() == wanted
            for output, rows in result["plain"].items():
                for row, shared in zip(rows, result["shared"][output], strict=True):
                    torch.testing.assert_close(shared, row, atol=1e-5, rtol=0, msg=f"{variant} {output}")


def test_a_prompt_is_computed_once_for_every_micro_batch_that_has_it(results):
    for found in results:
        for variant, result in zip(VARIANTS, found, strict=True):
            prompts, responses = result["calls"][::2], result["calls"][1::2]
            assert sum(rows for rows, _ in responses) == 8 / len(results)
            if variant["prompts"] is PROMPTS["nothing shared"]:
                assert [rows for rows, _ in prompts] == [rows for rows, _ in responses]
            elif variant["batching"] == BATCHING["by tokens, a group in each"]:
                different = {tuple(prompt) for prompt in variant["prompts"]}
                assert sum(rows for rows, _ in prompts) <= len(different)


def test_ranks_call_the_model_equally_often(results):
    assert len({tuple(len(result["calls"]) for result in found) for found in results}) == 1


def test_prompts_are_the_same_if_all_their_tokens_are():
    prompts = [torch.tensor(prompt) for prompt in (A, LONGER, B, A, [*A[:-1], 5], B)]
    assert prompt_groups(prompts) == [0, 1, 2, 0, 3, 2]


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([1, 1, 1, 1, 1, 1], 6, [[0, 2, 4, 1, 3, 5]]),
        ([1, 1, 1, 1, 1, 1], 4, [[0, 2, 4], [1, 3, 5]]),
        ([1, 1, 1, 1, 1, 1], 2, [[0, 2], [4, 1], [3, 5]]),
        ([5, 1, 5, 1, 5, 1], 9, [[0], [2], [4, 1, 3, 5]]),
        ([9, 9, 9, 9, 9, 9], 9, [[0], [2], [4], [1], [3], [5]]),
    ],
)
def test_a_group_is_cut_only_where_it_does_not_fit_into_a_micro_batch(sizes, limit, expected):
    assert split_by_prompt([0, 1, 0, 1, 0, 1], sizes, limit) == expected


def test_a_trajectory_beyond_the_limit_is_named_with_the_setting():
    with pytest.raises(ValueError, match=r"trajectory of 10 tokens exceeds the micro-batch of 9; raise .*_token_len"):
        split_by_prompt([0, 0], [3, 10], 9)


def test_a_rank_with_fewer_micro_batches_than_others_halves_its_largest():
    assert cut_to(4, [[0, 1, 2, 3, 4], [5]]) == [[0, 1], [2], [3, 4], [5]]
    assert cut_to(2, [[0], [1]]) == [[0], [1]]


def test_ranks_get_whole_groups_and_about_as_many_tokens():
    generator = torch.Generator().manual_seed(0)
    keys = [f"group{group}_{session}_0" for session in range(4) for group in range(8)]
    tokens = torch.randint(50, 400, (32,), generator=generator).tolist()
    order = dealt_to_ranks(keys, tokens, ranks=2)
    assert sorted(order) == list(range(32))
    shares = [{group_of(keys[row]) for row in half} for half in (order[:16], order[16:])]
    assert not shares[0] & shares[1]
    first = sum(tokens[row] for row in order[:16])
    assert first == pytest.approx(sum(tokens) / 2, rel=0.05)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_rows_of_a_group_follow_one_another_whatever_their_number(ranks):
    keys = [f"{group}_{session}_0" for session, group in enumerate("abacabadabaa")]
    groups = [group_of(keys[row]) for row in dealt_to_ranks(keys, [1] * 12, ranks)]
    assert sorted(groups) == sorted("abacabadabaa")
    assert sum(one != other for one, other in pairwise(groups)) == 3


def test_a_pass_by_groups_leaves_the_order_for_the_update_as_it_was():
    keys = ["a_0_0", "b_0_0", "a_1_0", "b_1_0"]
    batch = KVBatchMeta(keys=list(keys), tags=[{"seq_len": 3}] * 4, partition_id="train")
    seen = []

    def run(batch, metrics):
        seen.append(list(batch.keys))
        return KVBatchMeta(keys=batch.keys, tags=batch.tags, partition_id="train")

    assert run_by_groups(run, batch, {}, ranks=2).keys == keys
    assert seen == [["a_0_0", "a_1_0", "b_0_0", "b_1_0"]]


@pytest.mark.parametrize("share", [False, True])
def test_the_passes_ask_for_it_and_the_next_ones_do_not(share, monkeypatch):
    asked = []

    def run(self, batch, metrics):
        asked.append(batch.extra_info[fields.SHARE_PROMPTS])
        return batch

    for name in ("_compute_old_log_prob", "_compute_ref_log_prob"):
        monkeypatch.setattr(ActFocusTrainer.__base__, name, run)
    trainer = object.__new__(ActFocusTrainer)
    trainer.settings = ActFocusSettings(weighting=Uniform(), share_prompts=share)
    trainer.actor_rollout_wg = SimpleNamespace(world_size=2)
    keys = ["a_0_0", "b_0_0", "a_1_0", "b_1_0"]
    batch = KVBatchMeta(keys=keys, tags=[{"seq_len": 3}] * 4, partition_id="train")
    for run_pass in (trainer._compute_old_log_prob, trainer._compute_ref_log_prob):
        batch = run_pass(batch, {})
        assert fields.SHARE_PROMPTS not in batch.extra_info
    assert asked == [share, share]
    assert batch.keys == keys


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Qwen2Config(use_sliding_window=True, sliding_window=8, max_window_layers=0), "DynamicSlidingWindowLayer"),
        (Gemma3TextConfig(), "DynamicSlidingWindowLayer"),
        (Qwen3NextConfig(), "LinearAttention"),
        (Qwen2_5_VLConfig(), "see more than text"),
    ],
)
def test_models_whose_responses_cannot_follow_a_cache_are_refused(config, reason):
    with pytest.raises(ValueError, match=rf"share_prompts=true: .*{reason}.*share_prompts=false"):
        empty_cache(config)


def test_the_papers_models_are_accepted():
    for config in (Qwen2Config(), Qwen3Config()):
        assert len(empty_cache(config).layers) == config.num_hidden_layers


@pytest.mark.parametrize("role", ["actor", "ref"])
@pytest.mark.parametrize("place", ["", "fsdp_config."])
def test_ranks_that_hold_parts_of_a_trajectory_are_refused(role, place):
    config = composing.compose(["algorithm.adv_estimator=actfocus_grpo", "+actfocus=uniform", "+actfocus/env=sokoban"])
    config.algorithm.actfocus.share_prompts = True
    config.actor_rollout_ref.rollout.n = 8
    check_compatible(config, ActFocusSettings.from_config(config))
    OmegaConf.update(config, f"actor_rollout_ref.{role}.{place}ulysses_sequence_parallel_size", 2)
    with pytest.raises(
        ValueError, match=rf"share_prompts=true does not go with actor_rollout_ref\.{role}\.fsdp_config\.uly"
    ):
        check_compatible(config, ActFocusSettings.from_config(config))
