"""Signals: token energy, token entropy and the alternatives the method is compared with."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical
from torch.utils._python_dispatch import TorchDispatchMode

from verl_actfocus import SIGNALS, compute_signal, token_energy, token_entropy
from verl_actfocus.weighting import token_sum_pi_squared

INF = float("inf")
FUNCTIONS = [token_energy, token_entropy, token_sum_pi_squared]


class LargestCopy(TorchDispatchMode):
    """Records the size of the largest tensor that any operation allocates, views of `source` apart."""

    def __init__(self, source):
        super().__init__()
        self.source = source.untyped_storage().data_ptr()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() != self.source:
                self.elements = max(self.elements, tensor.numel())
        return out


def random_logits(*shape, dtype=torch.float32, seed=0):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 8).to(dtype)


def energy_by_sum(row):
    return -math.log(math.fsum(math.exp(x) for x in row))


def test_energy_is_minus_the_log_of_the_sum_of_exponentials():
    logits = random_logits(2, 3, 7)
    expected = [[energy_by_sum(row) for row in sequence] for sequence in logits.tolist()]
    torch.testing.assert_close(token_energy(logits), torch.tensor(expected))


def test_entropy_agrees_with_torch_distributions():
    logits = random_logits(2, 3, 7)
    torch.testing.assert_close(token_entropy(logits), Categorical(logits=logits).entropy())


def test_the_sum_of_squared_probabilities_is_the_chance_that_two_draws_agree():
    logits = random_logits(2, 3, 7)
    probabilities = Categorical(logits=logits).probs
    agreeing = torch.einsum("abv,abw->abvw", probabilities, probabilities).diagonal(dim1=2, dim2=3).sum(-1)
    torch.testing.assert_close(token_sum_pi_squared(logits), agreeing)
    torch.testing.assert_close(token_sum_pi_squared(logits + 3.0), token_sum_pi_squared(logits))
    assert token_sum_pi_squared(torch.tensor([0.0, -INF])) == 1


def test_energy_moves_with_a_constant_added_to_all_logits_and_entropy_does_not():
    logits = random_logits(4, 9)
    torch.testing.assert_close(token_energy(logits + 3.0), token_energy(logits) - 3.0)
    torch.testing.assert_close(token_entropy(logits + 3.0), token_entropy(logits))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_float_dtype_gives_float32_as_precise_as_its_own_logits(function, dtype):
    logits = random_logits(3, 5, 64, dtype=dtype)
    result = function(logits, chunk_size=4)
    assert result.dtype == torch.float32
    assert result.shape == (3, 5)
    torch.testing.assert_close(result, function(logits.double()), rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=3),
    chunk_size=st.integers(1, 20),
    transpose=st.booleans(),
)
def test_chunks_do_not_change_the_result_whatever_the_shape_and_the_strides(shape, chunk_size, transpose):
    logits = random_logits(*shape, 6)
    if transpose and len(shape) > 1:
        logits = logits.transpose(0, 1)
    for function in FUNCTIONS:
        chunked = function(logits, chunk_size=chunk_size)
        assert chunked.shape == logits.shape[:-1]
        torch.testing.assert_close(chunked, function(logits))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("sliced", [False, True])
def test_chunks_bound_the_working_memory(function, sliced, dtype):
    logits = random_logits(2, 65, 128, dtype=dtype)
    logits = logits[:, :-1] if sliced else logits
    with LargestCopy(logits) as recorder:
        function(logits, chunk_size=8)
    assert 0 < recorder.elements <= 8 * 128


@pytest.mark.parametrize("function", FUNCTIONS)
def test_signals_of_logits_carry_no_gradient(function):
    assert not function(torch.randn(2, 4, requires_grad=True)).requires_grad


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_logit_of_minus_infinity_is_a_token_that_is_not_there(function):
    logits = torch.tensor([1.0, -INF, 0.5, -INF])
    torch.testing.assert_close(function(logits), function(torch.tensor([1.0, 0.5])))


def test_energy_of_all_minus_infinity_is_plus_infinity():
    assert token_energy(torch.full((3,), -INF)).item() == INF
    assert math.isnan(token_entropy(torch.full((3,), -INF)).item())


def test_huge_logits_do_not_overflow():
    assert token_energy(torch.tensor([1e4, 1e4])).item() == pytest.approx(-1e4 - math.log(2))


@pytest.mark.parametrize(
    ("logits", "chunk_size", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.long), None, r"floating-point.*int64"),
        (torch.tensor(1.0), None, r"\(\.\.\., V\).*\(\)"),
        (torch.zeros(2, 0), None, r"V at least 1.*\(2, 0\)"),
        (torch.zeros(2, 3), 0, r"chunk_size.*got 0"),
    ],
)
def test_impossible_logits_are_named_in_the_error(logits, chunk_size, message):
    for function in FUNCTIONS:
        with pytest.raises(ValueError, match=message):
            function(logits, chunk_size=chunk_size)


TENSORS = {
    "ref_energy": torch.tensor([[-3.0, -1.0]]),
    "ref_entropy": torch.tensor([[0.25, 2.0]]),
    "old_log_prob": torch.tensor([[-0.5, -4.0]]),
    "ref_log_prob": torch.tensor([[-1.5, -1.0]]),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("energy", [[-3.0, -1.0]]),
        ("entropy", [[0.25, 2.0]]),
        ("nll", [[0.5, 4.0]]),
        ("shift", [[1.0, -3.0]]),
    ],
)
def test_each_signal_is_its_equation(name, expected):
    assert compute_signal(name, tensors=TENSORS).tolist() == expected


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("energy", ("ref_energy",)),
        ("entropy", ("ref_entropy",)),
        ("nll", ("old_log_prob",)),
        ("shift", ("old_log_prob", "ref_log_prob")),
    ],
)
def test_a_signal_needs_exactly_the_inputs_it_declares(name, inputs):
    assert SIGNALS[name].inputs == inputs
    needed = {key: TENSORS[key] for key in inputs}
    compute_signal(name, tensors=needed)
    for missing in inputs:
        rest = {key: value for key, value in needed.items() if key != missing}
        with pytest.raises(ValueError, match=f"missing: {missing}"):
            compute_signal(name, tensors=rest)


def test_an_unknown_signal_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'surprise'.*energy, entropy, nll, shift"):
        compute_signal("surprise", tensors=TENSORS)


def test_signal_inputs_of_different_shape_or_kind_are_refused():
    with pytest.raises(ValueError, match=r"ref_log_prob.*\(1, 2\).*\(1, 3\)"):
        compute_signal("shift", tensors={**TENSORS, "ref_log_prob": torch.zeros(1, 3)})
    with pytest.raises(ValueError, match=r"old_log_prob.*int64"):
        compute_signal("nll", tensors={"old_log_prob": torch.zeros(1, 3, dtype=torch.long)})


def test_the_shift_of_half_precision_inputs_is_taken_in_float32_without_gradient():
    policy = torch.tensor([[-1.0]], dtype=torch.bfloat16, requires_grad=True)
    reference = torch.tensor([[-256.0]], dtype=torch.bfloat16)
    shift = compute_signal("shift", tensors={"old_log_prob": policy, "ref_log_prob": reference})
    assert shift.dtype == torch.float32
    assert shift.item() == 255.0
    assert not shift.requires_grad
