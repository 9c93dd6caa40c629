"""Token weights: He et al. 2026, Eq. 5 and 16-18, and everything that can be wrong with a batch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_actfocus import Span, token_weights
from verl_actfocus.weighting import ActFocus, TokenBatch, signal_statistics, turn_indices

N, R, A = Span.NONE, Span.REASONING, Span.ACTION
NAN, INF = float("nan"), float("inf")


def spans_of(*rows):
    return torch.tensor([[int(span) for span in row] for row in rows])


def weights_by_loop(spans, signal, mask, alpha, beta, eps, other):
    """The equations, token by token, in plain Python floats."""
    positions = [(b, t) for b in range(len(spans)) for t in range(len(spans[b])) if mask[b][t]]
    values = [signal[b][t] for b, t in positions if spans[b][t] == A]
    weights = [[0.0] * len(row) for row in spans]
    for b, t in positions:
        if spans[b][t] == R:
            weights[b][t] = alpha
        elif spans[b][t] == N:
            weights[b][t] = other
        else:
            mean = math.fsum(values) / len(values)
            std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values) + eps)
            weights[b][t] = 1.0 + beta * (0.5 + 0.5 * math.tanh((signal[b][t] - mean) / std / 2))
    return weights


@st.composite
def batches(draw):
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 6))

    def grid(values):
        row = st.lists(values, min_size=columns, max_size=columns)
        return draw(st.lists(row, min_size=rows, max_size=rows))

    energies = st.floats(-50, 10, width=32)
    return grid(st.sampled_from([0, 1, 2])), grid(energies), grid(st.sampled_from([0, 1]))


@settings(deadline=None)
@given(
    batch=batches(),
    alpha=st.floats(0, 1),
    beta=st.floats(0.01, 4),
    eps=st.floats(1e-8, 1),
    other=st.floats(0, 2),
)
def test_weights_are_the_equations_applied_token_by_token(batch, alpha, beta, eps, other):
    spans, signal, mask = batch
    weights = token_weights(
        torch.tensor(spans),
        torch.tensor(signal),
        alpha=alpha,
        beta=beta,
        eps=eps,
        other=other,
        response_mask=torch.tensor(mask),
    )
    expected = weights_by_loop(spans, signal, mask, alpha, beta, eps, other)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, torch.tensor(expected), rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(batch=batches(), beta=st.floats(0, 4))
def test_action_weights_lie_between_one_and_one_plus_beta_and_grow_with_the_signal(batch, beta):
    spans, signal, _ = (torch.tensor(part) for part in batch)
    weights = token_weights(spans, signal, beta=beta)[spans == A]
    assert bool(((weights >= 1) & (weights <= np.float32(1 + beta))).all())
    by_signal = weights[signal[spans == A].argsort(stable=True)]
    assert bool((by_signal.diff() >= 0).all())


def test_uniform_weights_are_exactly_one_on_every_response_token():
    mask = torch.tensor([[1, 1, 1, 0]])
    weights = token_weights(spans_of([R, A, N, A]), None, alpha=1.0, beta=0.0, response_mask=mask)
    assert weights.tolist() == [[1.0, 1.0, 1.0, 0.0]]


def test_tokens_in_neither_span_weigh_as_much_as_reasoning_unless_told():
    spans = spans_of([N, R, A])
    assert token_weights(spans, None, alpha=0.25, beta=0.0).tolist() == [[0.25, 0.25, 1.0]]
    assert token_weights(spans, None, alpha=0.25, beta=0.0, other=1.5).tolist() == [[1.5, 0.25, 1.0]]
    assert token_weights(spans, None, alpha=0.25, beta=0.0, other=0.0).tolist() == [[0.0, 0.25, 1.0]]


def test_masked_positions_weigh_nothing_and_enter_no_statistic_even_with_a_span_and_no_finite_signal():
    spans = spans_of([A, A, A], [A, R, A])
    signal = torch.tensor([[-2.0, -1.0, NAN], [-4.0, 0.0, 1e9]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    weights = token_weights(spans, signal, response_mask=mask)
    alone = token_weights(spans[:, :2], signal[:, :2])
    assert weights[:, 2].tolist() == [0.0, 0.0]
    assert weights[:, :2].equal(alone)


def test_statistics_run_over_the_action_tokens_of_the_whole_batch():
    spans = spans_of([A, R, A], [N, A, R])
    signal = torch.tensor([[-3.0, 100.0, -1.0], [50.0, -8.0, 7.0]])
    statistics = signal_statistics(spans, signal, eps=0.5)
    values = np.array([-3.0, -1.0, -8.0])
    assert statistics.count == 3
    assert statistics.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert statistics.std == pytest.approx(np.sqrt(np.var(values) + 0.5), rel=1e-12)


def test_a_batch_without_action_tokens_has_finite_weights_and_undefined_statistics():
    spans, signal = spans_of([R, N, R]), torch.tensor([[NAN, INF, -1.0]])
    assert token_weights(spans, signal, alpha=0.5).tolist() == [[0.5, 0.5, 0.5]]
    statistics = signal_statistics(spans, signal)
    assert statistics.count == 0
    assert math.isnan(statistics.mean)
    assert math.isnan(statistics.std)


def test_alpha_zero_without_action_tokens_gives_all_zero_weights():
    assert token_weights(spans_of([R, N, R]), torch.zeros(1, 3), alpha=0.0).tolist() == [[0.0, 0.0, 0.0]]


def test_an_empty_batch_has_no_weights():
    empty = torch.zeros(0, 5, dtype=torch.long)
    assert token_weights(empty, torch.zeros(0, 5)).shape == (0, 5)


@settings(deadline=None)
@given(value=st.floats(-(2.0**100), 2.0**100, width=32), count=st.integers(1, 200))
def test_one_action_token_or_a_constant_signal_gives_half_of_beta(value, count):
    spans = torch.full((1, count), int(A))
    weights = token_weights(spans, torch.full((1, count), value), beta=0.5, eps=1e-12)
    assert weights.eq(1.25).all()


def test_a_small_spread_on_a_large_offset_is_not_lost_to_rounding():
    signal = torch.tensor([[30000.0, 30000.00390625]])  # neighbouring float32 numbers are 0.00195 apart here
    weights = token_weights(spans_of([A, A]), signal, beta=1.0, eps=1e-12)
    expected = [1 + 1 / (1 + math.e), 1 + math.e / (1 + math.e)]  # z = -1 and +1
    torch.testing.assert_close(weights, torch.tensor([expected]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_dtypes_are_standardised_as_precisely_as_float32(dtype):
    spans = spans_of([A, A, A, R])
    signal = torch.tensor([[-3.0, -1.5, 2.0, 0.0]])
    assert token_weights(spans, signal.to(dtype)).equal(token_weights(spans, signal))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_spans_may_have_any_integer_dtype_and_the_mask_any(dtype):
    spans, signal = spans_of([A, R, N, A]), torch.tensor([[-3.0, 0.0, 0.0, 1.0]])
    mask = torch.tensor([[1, 1, 1, 0]])
    expected = token_weights(spans, signal, response_mask=mask)
    for mask_dtype in (torch.bool, torch.float32, torch.uint8):
        weights = token_weights(spans.to(dtype), signal, response_mask=mask.to(mask_dtype))
        assert weights.equal(expected)


def test_weights_carry_no_gradient():
    signal = torch.zeros(1, 2, requires_grad=True)
    assert not token_weights(spans_of([A, R]), signal).requires_grad


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_non_finite_signal_on_an_action_token_names_sequence_and_position(value):
    signal = torch.zeros(2, 3)
    signal[1, 2] = value
    spans = spans_of([A, R, N], [R, A, A])
    for call in (token_weights, signal_statistics):
        with pytest.raises(ValueError, match="sequence 1, position 2 is not finite"):
            call(spans, signal)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": -0.1}, r"alpha.*at least 0 and at most 1, got -0\.1"),
        ({"alpha": 1.5}, r"alpha.*got 1\.5"),
        ({"alpha": NAN}, "alpha.*got nan"),
        ({"alpha": None}, "alpha.*got None"),
        ({"alpha": True}, "alpha.*got True"),
        ({"beta": -0.5}, r"beta.*at least 0, got -0\.5"),
        ({"beta": NAN}, "beta.*got nan"),
        ({"beta": INF}, "beta.*got inf"),
        ({"beta": "0.5"}, r"beta.*got '0\.5'"),
        ({"eps": 0.0}, r"eps.*greater than 0, got 0\.0"),
        ({"eps": -1e-6}, "eps.*got -1e-06"),
        ({"eps": NAN}, "eps.*got nan"),
        ({"other": -1.0}, r"other.*at least 0, got -1\.0"),
        ({"other": NAN}, "other.*got nan"),
        ({"signal": None}, "signal is None; beta = 0.5"),
        ({"signal": torch.zeros(1, 3)}, r"signal.*\(1, 2\), got \(1, 3\)"),
        ({"signal": torch.zeros(1, 2, dtype=torch.long)}, "signal.*floating-point.*int64"),
        ({"spans": torch.zeros(2, dtype=torch.long)}, r"\(sequences, positions\), got \(2,\)"),
        ({"spans": torch.zeros(1, 2)}, "spans.*integer.*float32"),
        ({"spans": torch.zeros(1, 2, dtype=torch.bool)}, "spans.*integer.*bool"),
        ({"spans": torch.tensor([[2, 3]])}, r"2 \(ACTION\).*sequence 0, position 1"),
        ({"spans": torch.tensor([[-1, 2]])}, "sequence 0, position 0"),
        ({"response_mask": torch.ones(2, 1)}, r"response_mask.*\(1, 2\), got \(2, 1\)"),
        ({"response_mask": torch.tensor([[1, 2]])}, "response_mask.*0 and 1.*position 1"),
        ({"response_mask": torch.tensor([[NAN, 1]])}, "response_mask.*position 0"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected_and_what_came(parameters, message):
    arguments = {"spans": spans_of([A, R]), "signal": torch.zeros(1, 2), **parameters}
    with pytest.raises(ValueError, match=message):
        token_weights(arguments.pop("spans"), arguments.pop("signal"), **arguments)


def test_numpy_scalars_are_numbers():
    weights = token_weights(spans_of([R, A]), None, alpha=np.float32(0.5), beta=np.int64(0))
    assert weights.tolist() == [[0.5, 1.0]]


def batch_of(spans, **inputs):
    mask = torch.ones_like(spans)
    turns = turn_indices(mask)
    return TokenBatch(spans=spans, response_mask=mask, turns=turns, advantages=mask.float(), inputs=inputs)


def test_the_scheme_is_the_equations_with_its_settings_and_logs_its_signal():
    energy = torch.tensor([[1000.0, -1.0, -3.0]])
    batch, scheme = batch_of(spans_of([R, A, A]), ref_energy=energy), ActFocus(alpha=0.2, beta=0.5, eps=1e-12)
    weights = scheme.weights(batch)
    # mean -2, standard deviation 1
    expected = [0.2, 1 + 0.5 / (1 + math.exp(-1)), 1 + 0.5 / (1 + math.e)]
    torch.testing.assert_close(weights, torch.tensor([expected]))
    assert scheme.metrics(batch, weights) == pytest.approx({"signal_mean": -2, "signal_std": 1})
    assert torch.equal(scheme.token_signal(batch), energy)


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({}, {"spans", "ref_energy"}),
        ({"signal": "entropy"}, {"spans", "ref_entropy"}),
        ({"signal": "nll"}, {"spans", "old_log_prob"}),
        ({"signal": "shift"}, {"spans", "old_log_prob", "ref_log_prob"}),
        ({"signal_source": "old"}, {"spans", "old_energy"}),
        ({"signal": "entropy", "signal_source": "old"}, {"spans", "old_entropy"}),
        ({"beta": 0}, {"spans"}),
        ({"beta": 0, "signal_source": "old"}, {"spans"}),
    ],
)
def test_the_scheme_needs_the_spans_and_the_inputs_of_its_signal(settings, needs):
    assert set(ActFocus(**settings).needs) == needs


def test_the_signal_of_the_policy_before_the_update_takes_the_way_of_the_references():
    values = torch.tensor([[1000.0, -1.0, -3.0]])
    old = ActFocus(signal_source="old").weights(batch_of(spans_of([R, A, A]), old_energy=values))
    assert torch.equal(old, ActFocus().weights(batch_of(spans_of([R, A, A]), ref_energy=values)))


def test_without_beta_there_is_no_signal_to_read_or_to_log():
    batch, scheme = batch_of(spans_of([R, A, N])), ActFocus(alpha=0.5, beta=0.0, other=0.0)
    weights = scheme.weights(batch)
    assert weights.tolist() == [[0.5, 1.0, 0.0]]
    assert scheme.metrics(batch, weights) == {} and scheme.token_signal(batch) is None


def test_a_batch_without_action_tokens_has_no_statistics_to_log():
    batch = batch_of(spans_of([R, N]), ref_energy=torch.zeros(1, 2))
    assert ActFocus().metrics(batch, ActFocus().weights(batch)) == {}
