"""How one token is drawn from logits: temperature, top-k, nucleus, the log-probability that goes with it, and seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

#: Smallest temperature that is not greedy.
LEAST_TEMPERATURE = 1e-5


class NonFiniteLogitsError(ValueError):
    """A model's output is no distribution over tokens.

    Attributes:
        row: first row of the logits that is none.
        found: what it holds, in words.
    """

    def __init__(self, row: int, found: str) -> None:
        super().__init__(f"row {row} of the logits holds {found}")
        self.row, self.found = row, found


@dataclass(frozen=True)
class SamplingParams:
    """How one response is sampled; names and defaults as in veRL's `sampling_params`.

    Raises:
        ValueError: a field is outside its range.
    """

    #: Most tokens to generate.
    max_tokens: int
    #: 0 means greedy.
    temperature: float = 1.0
    #: Nucleus: the smallest set of tokens whose probability reaches this.
    top_p: float = 1.0
    #: Number of most probable tokens kept; -1 keeps all.
    top_k: int = -1
    #: Seed of this response alone, or None for the engine's own stream.
    seed: int | None = None
    #: Tokens that end this response beside those that end every one.
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        # Below that, logits divided by the temperature leave the range of float32.
        if self.temperature != 0 and not LEAST_TEMPERATURE <= self.temperature < math.inf:
            raise ValueError(
                f"temperature must be 0 (greedy) or a number of at least {LEAST_TEMPERATURE}, got {self.temperature}"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.top_k < -1 or self.top_k == 0:
            raise ValueError(f"top_k must be -1 (all) or positive, got {self.top_k}")


def response_seed(run: int, step: int | None, task: int, sample: int | None, turn: int) -> int:
    """Return the seed of one response, which does not depend on the order in which responses are asked for.

    Args:
        run: seed of the run.
        step: training step.
        task: seed of the environment.
        sample: number of the episode among those of its task, from 0.
        turn: number of the turn, from 0.

    Returns:
        A number of 64 bits; any change of an argument gives another one.
    """
    return seed_of(run, step, task, sample, turn)


def seed_of(*words: object) -> int:
    """Return a seed that depends on all the words and on nothing else: 64 bits."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big")


def rows_without_text(rows: int, token_ids: Collection[int]) -> torch.Tensor | None:
    """Mark the rows of an embedding that belong to no token, as in Qwen2.5, whose embedding is padded.

    veRL forbids vLLM what lies beyond `len(tokenizer)` (`vllm_rollout/utils.py`); here a gap is found too.

    Args:
        rows: rows of the embedding, `V`.
        token_ids: all ids of the tokenizer.

    Returns:
        Bool, `(V,)`; None if every row has its token.
    """
    marked = torch.ones(rows, dtype=torch.bool)
    marked[[token for token in token_ids if token < rows]] = False
    return marked if marked.any() else None


def sample_tokens(
    logits: torch.Tensor,
    params: Sequence[SamplingParams],
    uniforms: Sequence[float],
    without_text: torch.Tensor | None = None,
) -> tuple[list[int], list[float]]:
    """Sample one token per row by inverting its cumulative distribution.

    Args:
        logits: raw next-token logits, float32, `(B, V)`. `-inf` forbids a token.
        params: sampling parameters of each row.
        uniforms: one draw from [0, 1) per row; ignored by greedy rows.
        without_text: entries that are never sampled, see `rows_without_text`.

    Returns:
        Token ids and their log-probabilities under the temperature-scaled distribution over all `V` entries, *before*
        `without_text`, top-k and top-p: that is the distribution that the trainer evaluates (veRL scales logits by
        `rollout.temperature`). Greedy rows report the log-probability at temperature 1.

    Raises:
        NonFiniteLogitsError: a row holds NaN or `inf`, or forbids every token.
    """
    device = logits.device
    _check_finite(logits)
    temperatures = torch.tensor([p.temperature if p.temperature > 0 else 1.0 for p in params], device=device)
    scaled = logits / temperatures.unsqueeze(1)
    log_probs = torch.log_softmax(scaled, dim=-1)
    if without_text is None:
        probs = log_probs.exp()
    else:
        logits = logits.masked_fill(without_text, -torch.inf)
        _check_finite(logits)
        probs = torch.softmax(scaled.masked_fill(without_text, -torch.inf), dim=-1)
    for row, p in enumerate(params):
        if p.top_k != -1 or p.top_p < 1:
            probs[row] = _truncate(probs[row], p)
    # float64: the last cumulative value must not fall short of a draw close to 1.
    cumulative = probs.double().cumsum(dim=-1)
    targets = torch.tensor(uniforms, dtype=torch.float64, device=device).unsqueeze(1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, targets, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)
    greedy = torch.tensor([p.temperature == 0 for p in params], device=device)
    tokens = torch.where(greedy, logits.argmax(dim=-1), tokens)
    return tokens.tolist(), log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1).tolist()


def _check_finite(logits: torch.Tensor) -> None:
    """Refuse rows whose largest entry is no number: `max` passes NaN on."""
    largest = logits.amax(dim=-1)
    wrong = (~largest.isfinite()).nonzero()
    if len(wrong):
        row = int(wrong[0])
        value = float(largest[row])
        found = "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf for every token"
        raise NonFiniteLogitsError(row, found)


def _truncate(probs: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Zero the probabilities `(V,)` outside top-k and the nucleus; at least one token always stays."""
    ordered, order = probs.sort(descending=True)
    keep = ordered.cumsum(0) - ordered < params.top_p
    if params.top_k != -1:
        keep[params.top_k :] = False
    return torch.zeros_like(probs).scatter(0, order, ordered * keep)


def damage(found: str, place: str, model: torch.nn.Module) -> str:
    """Say for which token a model's logits are no distribution, and by which weight if one is no number.

    Args:
        found: what they hold, `NonFiniteLogitsError.found`.
        place: the token, in words.
        model: the model.
    """
    damaged = next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)
    cause = (
        f"its weights are all finite, so that {next(model.parameters()).dtype} overflowed on the way: take a wider "
        "number format"
        if damaged is None
        else f"the weight {damaged} is not finite: the model is damaged, or its training diverged"
    )
    return f"the model's logits hold {found} for {place}; {cause}"
