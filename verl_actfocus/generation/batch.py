"""Continuous batching over a KV cache for a Hugging Face causal language model.

The scheduler that stands where vLLM stands on a GPU. Every running sequence owns one *slot* of a preallocated
key/value cache. Each call of `ContinuousBatch.step` admits waiting requests (padded prefills) or decodes one token
for every running sequence, so sequences of different turns and lengths share the forward passes.

A finished sequence leaves its keys and values in its slot. The next turn of an episode begins with exactly those
tokens (the rollout is append-only), so the request takes the slot over and prefills only what is new. A group's
identical first prompts are prefilled once and copied.

A response does not depend on its company, to the last bit, see `verl_actfocus.generation.passes`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from verl_actfocus.generation.attention import require_full_attention, share_keys
from verl_actfocus.generation.cache import SlotCache, SlotPool
from verl_actfocus.generation.passes import DECODE_LENGTH, PREFILL_LENGTH, ROWS, WIDTH, forward, whole
from verl_actfocus.generation.sampling import (
    NonFiniteLogitsError,
    SamplingParams,
    damage,
    rows_without_text,
    sample_tokens,
)

#: Requests wait for company as long as they are fewer than this share of those that run …
COMPANY = 1 / 8
#: … and for so many decoding passes at most: a prefill of one row costs nearly as much as one of many.
PATIENCE = 4
#: Rows of a decoding pass for each running sequence beyond which sequences move together.
SPARSE = 1.25


@dataclass
class Generated:
    """One finished response."""

    #: Sampled token ids, the end-of-turn token included when it was sampled.
    token_ids: list[int]
    #: Log-probability of each sampled token under the temperature-scaled distribution.
    log_probs: list[float]
    #: `completed` (the end-of-turn token was sampled), `length` or `aborted`.
    stop_reason: str


@dataclass
class _Sequence:
    """A request while it waits or runs."""

    request_id: str
    prompt_ids: list[int]
    params: SamplingParams
    rng: random.Random
    #: How many tokens, of prompt and response together, have their keys and values in the slot.
    cached: int = 0
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


class ContinuousBatch:
    """Runs many generation requests against one model, token by token.

    Args:
        model: a causal language model of transformers with `sdpa` or `eager` attention, in evaluation mode.
        slots: most sequences that run at the same time.
        max_model_len: most tokens, prompt and response together, of one sequence.
        turn_ends: tokens that end every response, see `verl_actfocus.generation.turn_ends`.
        token_ids: the tokenizer's ids. No other one is sampled: an embedding is often padded to more rows.
        seed: seed of the sampling of requests that bring none of their own.
        parked: most tokens, all sequences together, whose keys and values are kept for a later turn though others
            needed the slot. A prompt whose beginning was dropped is prefilled again, which rounds differently.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        slots: int,
        max_model_len: int,
        turn_ends: Collection[int],
        token_ids: Collection[int],
        seed: int = 0,
        parked: int = 0,
    ) -> None:
        require_full_attention(model.config, max_model_len)
        share_keys(model)
        self.model = model
        self.max_model_len = max_model_len
        self._turn_ends = frozenset(turn_ends)
        without_text = rows_without_text(model.config.vocab_size, token_ids)
        self._without_text = None if without_text is None else without_text.to(model.device)
        #: The cache's spare position: padding is written there.
        self._spare = whole(max_model_len, PREFILL_LENGTH)
        self._cache = SlotCache(model, whole(slots, ROWS), self._spare)
        self._pool = SlotPool(self._cache, slots, parked)
        self._seed = seed
        self._count = 0
        self._waiting: deque[_Sequence] = deque()
        self._running: dict[int, _Sequence] = {}
        #: Decoding passes since a request began to wait.
        self._waited = 0

    def add(self, request_id: str, prompt_ids: Sequence[int], params: SamplingParams) -> None:
        """Queue a request.

        Raises:
            ValueError: the prompt is empty, leaves no room for a single token, or holds a token that the model lacks.
        """
        if not prompt_ids:
            raise ValueError(f"request {request_id}: the prompt is empty")
        if len(prompt_ids) >= self.max_model_len:
            raise ValueError(
                f"request {request_id}: the prompt has {len(prompt_ids)} tokens, which leaves no room in the model "
                f"length of {self.max_model_len}; raise rollout.max_model_len or shorten the episode"
            )
        rows = self.model.config.vocab_size
        if not 0 <= min(prompt_ids) <= max(prompt_ids) < rows:
            unknown = next(token for token in prompt_ids if not 0 <= token < rows)
            raise ValueError(
                f"request {request_id}: the prompt holds token {unknown}, and the model's embedding has {rows} rows; "
                "the tokenizer is not this model's"
            )
        self._count += 1
        seed = params.seed if params.seed is not None else hash((self._seed, self._count))
        self._waiting.append(_Sequence(request_id, list(prompt_ids), params, random.Random(seed)))

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._waiting or self._running)

    def abort(self) -> dict[str, Generated]:
        """Stop every request where it is and return what it has so far."""
        sequences = [*self._running.values(), *self._waiting]
        for slot in list(self._running):
            self._release(slot)
        self._waiting.clear()
        return {s.request_id: Generated(s.token_ids, s.log_probs, "aborted") for s in sequences}

    def forget_cache(self) -> None:
        """Drop all kept keys and values: they belong to weights that are about to be replaced.

        Raises:
            RuntimeError: requests are still running.
        """
        if self.busy:
            raise RuntimeError("the weights cannot change while requests are running")
        self._pool.forget()

    @torch.inference_mode()
    def step(self) -> dict[str, Generated]:
        """Prefill what waits, or else decode one token of every running sequence; return what finished.

        Raises:
            ValueError: the model's output for a sequence is no distribution over tokens.
        """
        admitted = self._admit()
        if admitted:
            return self._sample(admitted, self._prefill(admitted))
        if self._running:
            self._move_together()
            slots = sorted(self._running)
            return self._sample(slots, self._decode(slots))
        return {}

    # ---- scheduling -------------------------------------------------------------------------------------------

    def _admit(self) -> list[int]:
        """Give waiting requests a slot; returns the slots to prefill."""
        admitted: list[int] = []
        self._waited += bool(self._waiting)
        if len(self._waiting) < COMPANY * len(self._running) and self._waited <= PATIENCE:
            return admitted
        self._waited = 0
        while self._waiting and self._pool:
            sequence = self._waiting.popleft()
            slot, sequence.cached = self._pool.take(sequence.prompt_ids)
            self._running[slot] = sequence
            admitted.append(slot)
        return admitted

    def _release(self, slot: int) -> None:
        sequence = self._running.pop(slot)
        self._pool.release(slot, tuple((sequence.prompt_ids + sequence.token_ids)[: sequence.cached]))

    def _move_together(self) -> None:
        """Move running sequences to low slots, if the idle ones between them cost more than moving does."""
        while max(self._running) >= whole(int(SPARSE * len(self._running)), ROWS):
            idle, taken = self._pool.lowest(), max(self._running)
            sequence = self._running.pop(taken)
            self._pool.move_into(idle, taken, sequence.cached)
            self._running[idle] = sequence

    # ---- the model --------------------------------------------------------------------------------------------

    def _prefill(self, slots: list[int]) -> torch.Tensor:
        """Feed all that each slot has not seen; return the logits `(len(slots), V)` after its last token."""
        leaders: dict[tuple[int, ...], int] = {}
        passes: dict[int, list[int]] = {}
        for slot in slots:
            sequence = self._running[slot]
            prompt = tuple(sequence.prompt_ids)
            if not sequence.cached and leaders.setdefault(prompt, slot) != slot:
                continue
            passes.setdefault(whole(len(prompt), PREFILL_LENGTH), []).append(slot)
        logits: dict[int, torch.Tensor] = {}
        for length, members in passes.items():
            logits.update(zip(members, self._forward_new(members, length), strict=True))
        for slot in slots:
            if slot not in logits:
                sequence = self._running[slot]
                leader = leaders[tuple(sequence.prompt_ids)]
                sequence.cached = len(sequence.prompt_ids)
                self._cache.write(slot, self._cache.read(leader, sequence.cached))
                logits[slot] = logits[leader]
        return torch.stack([logits[slot] for slot in slots])

    def _forward_new(self, slots: list[int], length: int) -> torch.Tensor:
        """Feed what these slots have not seen; attention sees `length` positions."""
        sequences = [self._running[slot] for slot in slots]
        inputs = [sequence.prompt_ids[sequence.cached :] for sequence in sequences]
        lengths = torch.tensor([len(ids) for ids in inputs])
        width = whole(max(map(len, inputs)), WIDTH)
        offsets = torch.arange(width)
        starts = torch.tensor([sequence.cached for sequence in sequences])
        # Padded columns stand anywhere that the model knows.
        positions = (starts.unsqueeze(1) + offsets).clamp(max=self.max_model_len - 1)
        targets = positions.masked_fill(offsets >= lengths.unsqueeze(1), self._spare)
        ids = torch.tensor([row + [0] * (width - len(row)) for row in inputs])
        kept = (lengths - 1).unique()
        logits = forward(self.model, self._cache, torch.tensor(slots), ids, positions, targets, length, kept)
        for sequence in sequences:
            sequence.cached = len(sequence.prompt_ids)
        return logits[torch.arange(len(slots)), torch.searchsorted(kept, lengths - 1)]

    def _decode(self, slots: list[int]) -> torch.Tensor:
        """Feed the last token of every running sequence; return the logits `(len(slots), V)` after it.

        All slots up to the highest one take part, so that keys and values are read in place. An idle one feeds token 0
        into the spare position.
        """
        rows = whole(slots[-1] + 1, ROWS)
        ids, positions, targets = [0] * rows, [0] * rows, [self._spare] * rows
        for slot in slots:
            sequence = self._running[slot]
            ids[slot], positions[slot], targets[slot] = sequence.token_ids[-1], sequence.cached, sequence.cached
            sequence.cached += 1
        length = whole(max(positions) + 1, DECODE_LENGTH)
        fed, at, to = torch.tensor([ids, positions, targets]).unsqueeze(-1)
        logits = forward(self.model, self._cache, slice(rows), fed, at, to, length, torch.tensor([0]))
        return logits[slots, 0]

    def _sample(self, slots: list[int], logits: torch.Tensor) -> dict[str, Generated]:
        """Draw one token per slot and return the sequences that end with it."""
        sequences = [self._running[slot] for slot in slots]
        params, uniforms = [s.params for s in sequences], [s.rng.random() for s in sequences]
        try:
            tokens, log_probs = sample_tokens(logits, params, uniforms, self._without_text)
        except NonFiniteLogitsError as error:
            sequence = sequences[error.row]
            place = f"request {sequence.request_id} (position {len(sequence.prompt_ids) + len(sequence.token_ids)})"
            message = damage(error.found, f"token {len(sequence.token_ids)} of the response to {place}", self.model)
            raise ValueError(message) from error
        finished = {}
        for slot, sequence, token, log_prob in zip(slots, sequences, tokens, log_probs, strict=True):
            sequence.token_ids.append(token)
            sequence.log_probs.append(log_prob)
            reason = self._stop_reason(sequence)
            if reason is not None:
                self._release(slot)
                finished[sequence.request_id] = Generated(sequence.token_ids, sequence.log_probs, reason)
        return finished

    def _stop_reason(self, sequence: _Sequence) -> str | None:
        last = sequence.token_ids[-1]
        if last in self._turn_ends or last in sequence.params.stop_token_ids:
            return "completed"
        total = len(sequence.prompt_ids) + len(sequence.token_ids)
        if len(sequence.token_ids) >= sequence.params.max_tokens or total >= self.max_model_len:
            return "length"
        return None
