"""The report on the gradient equals brute force, and the update does not notice it.

Every case runs veRL's FSDP engine in separate gloo processes; the expected numbers come from the plain Hugging Face
model, one token after the other.
"""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from verl_actfocus.integration import fields
from verl_actfocus.integration.gradient_report import _unweighted, variance_of_sum
from verl_actfocus.integration.policy_loss import _weights_of

from ...documented_metrics import documented, pattern, undocumented
from . import gradients

SIZE = 8
SPANS = ("none", "reasoning", "action")
ASKED = {fields.GRADIENT_REPORT: 10}
#: Name → the update of one mini-batch. All of a case run one after the other in the same processes.
VARIANTS = {
    "reported": {"entries": ASKED},
    "not reported": {"entries": {}},
    "reported, with entropy and KL": {"entries": ASKED},
    "not reported, with entropy and KL": {"entries": {}},
    "a single round": {"entries": ASKED, "batching": {"micro_batch_size_per_gpu": SIZE}},
}
TERMS = {
    "batching": {"calculate_entropy": True},
    "overrides": [
        "actor_rollout_ref.actor.entropy_coeff=0.5",
        "actor_rollout_ref.actor.use_kl_loss=True",
        "actor_rollout_ref.actor.kl_loss_coef=0.5",
    ],
}
#: Case → how the trajectories are split; `rounds` are the rows that all ranks compute at the same time.
CASES = {
    "one rank": {"world": 1, "variants": list(VARIANTS), "rounds": [[0, 1], [2, 3], [4, 5], [6, 7]]},
    "two ranks, FSDP1": {"world": 2, "variants": list(VARIANTS)[:2], "rounds": [[0, 2, 1, 3], [4, 6, 5, 7]]},
    "two ranks, FSDP2": {
        "world": 2,
        "strategy": "fsdp2",
        "variants": list(VARIANTS)[:2],
        "rounds": [[0, 2, 1, 3], [4, 6, 5, 7]],
    },
    "padding removed": {
        "world": 1,
        "remove_padding": True,
        "batching": {"use_remove_padding": True},
        "variants": list(VARIANTS)[:1],
        "rounds": [[0, 1], [2, 3], [4, 5], [6, 7]],
    },
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    gradients.make_model(folder)
    return folder


@pytest.fixture(scope="module")
def left(model, tmp_path_factory):
    """Case → variant → what every rank has left after two updates on the same mini-batch in one training step."""

    @cache
    def run(name: str) -> dict[str, list[dict]]:
        case, out = CASES[name], tmp_path_factory.mktemp("left") / "left"
        batching = {"micro_batch_size_per_gpu": 2, "use_dynamic_bsz": False, **case.get("batching", {})}
        variants = [VARIANTS[one] | (TERMS if "entropy" in one else {}) for one in case["variants"]]
        gradients.run_ranks(model, out, {**case, "size": SIZE, "batching": batching, "variants": variants}, "updates")
        ranks = [torch.load(f"{out}.{rank}", weights_only=False) for rank in range(case["world"])]
        return dict(zip(case["variants"], zip(*ranks, strict=True), strict=True))

    return run


def reported(metrics: dict) -> dict[str, float]:
    return {
        name.removeprefix("actfocus/"): values[0]
        for name, values in metrics.items()
        if name.startswith("actfocus/grad")
    }


def brute_force(model: Path, weights: list[torch.Tensor], normalizer: float) -> dict[tuple[int, str], np.ndarray]:
    """Row and span → the gradient of this part of the loss."""
    from transformers import Qwen2ForCausalLM

    policy = Qwen2ForCausalLM.from_pretrained(model, dtype=torch.float32)
    rows = {**gradients.make_batch(SIZE), "actfocus_weights": weights}
    terms = gradients.token_losses(policy, rows, low=0.2, high=0.28)
    size = sum(parameter.numel() for parameter in policy.parameters())
    found = {}
    for row, span in itertools.product(range(SIZE), range(3)):
        losses = [loss for n, s, loss in terms if (n, s) == (row, span)]
        found[row, SPANS[span]] = np.zeros(size)
        if losses:
            parts = torch.autograd.grad(sum(losses) / normalizer, list(policy.parameters()), retain_graph=True)
            found[row, SPANS[span]] = torch.cat([part.flatten() for part in parts]).double().numpy()
    return found


def scatter(parts: dict[tuple[int, str], np.ndarray], rounds: list[list[int]]) -> tuple[float, float]:
    """Variance of the mini-batch's gradient by numpy's covariance of equally large rounds, and over `|G|²`."""
    sums = np.stack([sum(part for (row, _), part in parts.items() if row in rows) for rows in rounds])
    variance = len(rounds) * np.square(sums - sums.mean(axis=0)).sum() / (len(rounds) - 1)
    assert variance == pytest.approx(len(rounds) * np.var(sums, axis=0, ddof=1).sum())
    return variance, variance / np.square(sums.sum(axis=0)).sum()


@pytest.mark.parametrize("entry", [fields.FIXED_NORMALIZER, fields.MICRO_BATCHES, fields.NORMALIZE_BY_TOKENS])
def test_without_weights_the_loss_is_divided_by_the_tokens_whatever_the_weights_are_normalised_over(entry):
    mask = torch.nested.as_nested_tensor([torch.ones(3), torch.ones(5)], layout=torch.jagged)
    micro_batch = TensorDict({"loss_mask": mask, fields.WEIGHTS: mask * 0.1}, batch_size=[2])
    tu.assign_non_tensor(micro_batch, **{"batch_num_tokens": 100.0, fields.WEIGHT_SUM: 0.8, entry: 4})
    with _weights_of(_unweighted(micro_batch)) as weights:
        assert weights.normalizer == 100.0
        assert weights.weights.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("name", CASES)
def test_norms_cosine_and_variance_are_those_of_brute_force_and_the_same_on_every_rank(name, model, left):
    rows = gradients.make_batch(SIZE)
    weighted = brute_force(model, rows["actfocus_weights"], float(sum(map(torch.sum, rows["actfocus_weights"]))))
    ones = [mask.float() for mask in rows["response_mask"]]
    unweighted = brute_force(model, ones, float(sum(map(torch.sum, ones))))

    by_span = {span: sum(part for (_, s), part in weighted.items() if s == span) for span in SPANS}
    expected = {f"gradient_norm/{span}": np.linalg.norm(gradient) for span, gradient in by_span.items()}
    product = by_span["reasoning"] @ by_span["action"]
    expected["gradient_cosine"] = product / (expected["gradient_norm/reasoning"] * expected["gradient_norm/action"])
    for kind, parts in (("weighted", weighted), ("unweighted", unweighted)):
        variance, share = scatter(parts, CASES[name]["rounds"])
        expected |= {f"gradient_variance/{kind}": variance, f"gradient_noise_share/{kind}": share}
    assert min(abs(value) for value in expected.values()) > 1e-3
    for rank in left(name)["reported"]:
        first, second = rank["metrics"]
        assert reported(first) == pytest.approx(expected, rel=1e-4)
        # The second mini-batch of the same training step is not reported on.
        assert reported(second) == {}


@pytest.mark.parametrize(
    ("name", "terms"),
    [("one rank", ""), ("one rank", ", with entropy and KL"), ("two ranks, FSDP1", ""), ("two ranks, FSDP2", "")],
)
def test_an_update_leaves_the_same_bits_with_and_without_the_report(name, terms, left):
    ranks = zip(left(name)[f"reported{terms}"], left(name)[f"not reported{terms}"], strict=True)
    for one, other in ranks:
        assert reported(one["metrics"][0])
        metrics = [
            {name: value for name, value in step.items() if not name.startswith("actfocus/gradient_")}
            for step in one["metrics"]
        ]
        assert metrics == other["metrics"]
        for kept in ("parameters", "optimizer", "random", "gradients"):
            torch.testing.assert_close(one[kept], other[kept], rtol=0, atol=0)


def test_entropy_and_kl_terms_are_no_part_of_the_reported_gradient(left):
    (plain,), (terms,) = left("one rank")["reported"], left("one rank")["reported, with entropy and KL"]
    assert reported(terms["metrics"][0]) == reported(plain["metrics"][0])
    assert terms["metrics"][0]["grad_norm"] != pytest.approx(plain["metrics"][0]["grad_norm"], rel=1e-3)


def test_every_metric_of_the_report_is_documented_and_no_other_is(left):
    (rank,) = left("one rank")["reported"]
    names = {f"actfocus/{name}" for name in reported(rank["metrics"][0])}
    assert undocumented(names) == set()
    listed = [name for name in documented() if name.startswith("actfocus/gradient_") and "_share/<" not in name]
    assert all(any(pattern(name).fullmatch(one) for one in names) for name in listed)


def test_a_single_round_tells_no_variance_and_none_is_reported(left):
    (rank,) = left("one rank")["a single round"]
    assert set(reported(rank["metrics"][0])) == {*(f"gradient_norm/{span}" for span in SPANS), "gradient_cosine"}


def test_the_variance_is_unbiased_for_rounds_of_unequal_size():
    """All equally likely samples of three trajectories in rounds of 1 and 2: their mean is the true variance."""
    values, sizes = (-1.0, 0.5, 3.0), (1, 2)
    estimates = []
    for sample in itertools.product(values, repeat=3):
        parts = (sample[0], sample[1] + sample[2])
        by_size = sum(part**2 / size for part, size in zip(parts, sizes, strict=True))
        estimates.append(variance_of_sum(sum(parts) ** 2, by_size, 3, 2))
    assert np.mean(estimates) == pytest.approx(3 * np.var(values))
