"""Continuous batching over a KV cache for a Hugging Face causal language model.

The scheduler that stands where vLLM stands on a GPU. Every running sequence owns one *slot* of a preallocated
key/value cache. Each call of `ContinuousBatch.step` admits waiting requests (one padded prefill) or decodes one token
for every running sequence, so sequences of different turns and lengths share the forward passes.

A finished sequence leaves its keys and values in its slot. The next turn of an episode begins with exactly those
tokens (the rollout is append-only), so the request takes the slot over and prefills only what is new. A group's
identical first prompts are prefilled once and copied.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from verl_actfocus.generation.cache import SlotCache
from verl_actfocus.generation.sampling import NonFiniteLogitsError, SamplingParams, rows_without_text, sample_tokens


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
    #: Token ids whose keys and values stand in the slot, in order.
    cached: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    @property
    def next_input(self) -> list[int]:
        """Tokens not yet fed to the model."""
        return (self.prompt_ids + self.token_ids)[len(self.cached) :]


class ContinuousBatch:
    """Runs many generation requests against one model, token by token.

    Args:
        model: a causal language model of transformers with `sdpa` or `eager` attention, in evaluation mode.
        slots: most sequences that run at the same time.
        max_model_len: most tokens, prompt and response together, of one sequence.
        turn_ends: tokens that end every response, see `verl_actfocus.generation.turn_ends`.
        token_ids: the tokenizer's ids. No other one is sampled: an embedding is often padded to more rows.
        seed: seed of the sampling of requests that bring none of their own.
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
    ) -> None:
        self.model = model
        self.max_model_len = max_model_len
        self._turn_ends = frozenset(turn_ends)
        without_text = rows_without_text(model.config.vocab_size, token_ids)
        self._without_text = None if without_text is None else without_text.to(model.device)
        self._slots = slots
        # One position more than the model length: padded prefill columns write there and nothing reads it.
        self._cache = SlotCache(model, slots, max_model_len + 1)
        self._seed = seed
        self._count = 0
        self._waiting: deque[_Sequence] = deque()
        self._running: dict[int, _Sequence] = {}
        #: Idle slots, least recently used first, with the tokens that they still hold.
        self._idle: dict[int, tuple[int, ...]] = {slot: () for slot in range(slots)}
        self._by_tokens: dict[tuple[int, ...], int] = {}

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
        self._by_tokens.clear()
        self._idle = {slot: () for slot in range(self._slots)}

    @torch.inference_mode()
    def step(self) -> dict[str, Generated]:
        """Prefill what waits, or else decode one token of every running sequence; return what finished.

        Raises:
            ValueError: the model's output for a sequence is no distribution over tokens.
        """
        admitted = self._admit()
        slots = admitted if admitted else sorted(self._running)
        if not slots:
            return {}
        logits = self._forward(slots)
        return self._sample(slots, logits)

    # ---- scheduling -------------------------------------------------------------------------------------------

    def _admit(self) -> list[int]:
        """Give waiting requests a slot; returns the slots to prefill."""
        admitted = []
        copies: dict[tuple[int, ...], int] = {}
        followers: list[tuple[int, int]] = []
        while self._waiting and self._idle:
            sequence = self._waiting.popleft()
            slot = self._take_slot(sequence)
            self._running[slot] = sequence
            prompt = tuple(sequence.prompt_ids)
            if not sequence.cached and prompt in copies:
                followers.append((copies[prompt], slot))
                continue
            if not sequence.cached:
                copies[prompt] = slot
            admitted.append(slot)
        if followers:
            self._prefill_followers(admitted, followers)
        return admitted + [slot for _, slot in followers]

    def _prefill_followers(self, leaders: list[int], followers: list[tuple[int, int]]) -> None:
        """Prefill all but the last token of shared prompts once and copy it to the slots that share them."""
        shared = sorted({leader for leader, _ in followers})
        for leader in shared:
            sequence = self._running[leader]
            if len(sequence.prompt_ids) > 1:
                last = sequence.prompt_ids.pop()
                self._forward([leader])
                sequence.prompt_ids.append(last)
        for leader, slot in followers:
            cached = self._running[leader].cached
            self._cache.copy(leader, slot, len(cached))
            self._running[slot].cached = list(cached)

    def _take_slot(self, sequence: _Sequence) -> int:
        """Take the idle slot that holds the longest prefix of the prompt, else the least recently used one."""
        prompt = sequence.prompt_ids
        lengths = sorted({len(tokens) for tokens in self._by_tokens if len(tokens) < len(prompt)}, reverse=True)
        for length in lengths:
            slot = self._by_tokens.get(tuple(prompt[:length]))
            if slot is not None:
                sequence.cached = list(prompt[:length])
                self._forget(slot)
                return slot
        slot = next(iter(self._idle))
        self._forget(slot)
        return slot

    def _forget(self, slot: int) -> None:
        tokens = self._idle.pop(slot)
        if self._by_tokens.get(tokens) == slot:
            del self._by_tokens[tokens]

    def _release(self, slot: int) -> None:
        tokens = tuple(self._running.pop(slot).cached)
        self._idle[slot] = tokens
        if tokens:
            self._by_tokens[tokens] = slot

    # ---- the model --------------------------------------------------------------------------------------------

    def _forward(self, slots: list[int]) -> torch.Tensor:
        """Feed what each slot has not seen; return the logits `(len(slots), V)` after its last token."""
        rows = self._rows_to_run(slots)
        idle = _Sequence("", [0], SamplingParams(max_tokens=1), random.Random(0))
        sequences = [self._running.get(row, idle) for row in rows]
        inputs = [sequence.next_input for sequence in sequences]
        device = self.model.device
        starts = torch.tensor([len(sequence.cached) for sequence in sequences], device=device)
        lengths = torch.tensor([len(ids) for ids in inputs], device=device)
        width, length = int(lengths.max()), int((starts + lengths).max())
        ids = torch.tensor([row + [0] * (width - len(row)) for row in inputs], device=device)
        offsets = torch.arange(width, device=device)
        positions = starts.unsqueeze(1) + offsets
        left_out = torch.tensor([sequence is idle for sequence in sequences], device=device)
        unused = (offsets >= lengths.unsqueeze(1)) | left_out.unsqueeze(1)
        # Causal over absolute positions; everything a slot holds beyond its own length lies in the future.
        mask = torch.arange(length, device=device) <= positions.clamp(max=length - 1).unsqueeze(-1)
        self._cache.select(torch.tensor(rows, device=device), positions.masked_fill(unused, self.max_model_len), length)
        kept = (lengths - 1).unique()
        output = self.model(
            input_ids=ids,
            attention_mask=mask.unsqueeze(1),
            position_ids=positions.clamp(max=self.max_model_len - 1),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=kept,
        )
        for sequence, row in zip(sequences, inputs, strict=True):
            if sequence is not idle:
                sequence.cached.extend(row)
        ends = torch.searchsorted(kept, lengths - 1)
        last = output.logits[torch.arange(len(rows), device=device), ends].float()
        # `rows` may hold more slots than were asked for, and the same ones in another order.
        return last[torch.tensor([rows.index(slot) for slot in slots], device=device)]

    def _rows_to_run(self, slots: list[int]) -> list[int]:
        """Slots of a forward pass: those asked for, or the whole range between them when few of it are idle.

        While decoding, an idle row costs one token of computation; leaving it out costs copying the keys and values of
        every other row. The rows in between only ever compute into the spare position.
        """
        first, last = min(slots), max(slots)
        decoding = all(len(self._running[slot].next_input) == 1 for slot in slots)
        others = [row for row in range(first, last + 1) if row not in set(slots)]
        if not decoding or len(others) > len(slots) or any(row in self._running for row in others):
            return slots
        return list(range(first, last + 1))

    def _sample(self, slots: list[int], logits: torch.Tensor) -> dict[str, Generated]:
        """Draw one token per slot and return the sequences that end with it."""
        sequences = [self._running[slot] for slot in slots]
        params, uniforms = [s.params for s in sequences], [s.rng.random() for s in sequences]
        try:
            tokens, log_probs = sample_tokens(logits, params, uniforms, self._without_text)
        except NonFiniteLogitsError as error:
            raise ValueError(_where(error.found, sequences[error.row], self.model)) from error
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


def _where(found: str, sequence: _Sequence, model: PreTrainedModel) -> str:
    """Say for which token the logits are no distribution, and by which weight if one is no number."""
    response = len(sequence.token_ids)
    damaged = next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)
    cause = (
        f"its weights are all finite, so that {model.dtype} overflowed on the way: take a wider number format"
        if damaged is None
        else f"the weight {damaged} is not finite: the model is damaged, or its training diverged"
    )
    return (
        f"the model's logits hold {found} for token {response} of the response to request {sequence.request_id} "
        f"(position {len(sequence.prompt_ids) + response}); {cause}"
    )
