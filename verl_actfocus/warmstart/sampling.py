"""Play many episodes at once with a local model: plain batched sampling, no server.

Good for evaluation and for a look at what a model does. Prompts are built by ``TurnEncoder``, so a model sees here
what it sees in a veRL rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from verl_actfocus.envs.base import EpisodeLimits, TextEnv
from verl_actfocus.interaction import Episode, StopReason, parse_response
from verl_actfocus.warmstart.encoding import TurnEncoder


@dataclass(frozen=True)
class Sample:
    """One sampled response.

    Attributes:
        ids: Sampled token ids, the end of turn included if it was reached.
        cut_off: Whether the length limit came first.
    """

    ids: list[int]
    cut_off: bool


@dataclass
class PlayedEpisode:
    """One episode as the model played it.

    Attributes:
        seed: Seed of the environment.
        responses: Decoded responses, turn by turn, without the prefill.
        response_tokens: Sampled tokens of all responses.
        well_formed_turns: Number of turns whose response kept to the format.
        valid_turns: Number of turns that were well-formed and whose actions the environment accepted.
        success: Whether the task was solved.
        total_reward: Sum of the turn rewards.
        stop_reason: Why the episode ended.
    """

    seed: int
    responses: list[str] = field(default_factory=list)
    response_tokens: int = 0
    well_formed_turns: int = 0
    valid_turns: int = 0
    success: bool = False
    total_reward: float = 0.0
    stop_reason: StopReason | None = None


def choose_tokens(logits_BV: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """Choose the next tokens.

    Args:
        logits_BV: Next-token logits, shape (batch, vocabulary), float.
        temperature: Divides the logits; 0 chooses the most likely token.
        generator: Source of randomness; unused at temperature 0.

    Returns:
        Token ids, shape (batch,), int64.

    Raises:
        ValueError: If the temperature is negative.
    """
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}: it must be 0 (greedy) or positive")
    if temperature == 0:
        return logits_BV.argmax(dim=-1)
    probabilities_BV = torch.softmax(logits_BV.float() / temperature, dim=-1)
    return torch.multinomial(probabilities_BV, 1, generator=generator).squeeze(-1)


@torch.inference_mode()
def sample_responses(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    temperature: float,
    max_new_tokens: int,
    end_id: int,
    generator: torch.Generator,
) -> list[Sample]:
    """Continue a batch of prompts until each has ended its turn.

    Args:
        model: Causal language model in evaluation mode.
        prompts: Token ids of each prompt; lengths may differ.
        temperature: See ``choose_tokens``.
        max_new_tokens: Most tokens of a response.
        end_id: Token that ends a turn; also fills up the shorter prompts on the left, where it is masked.
        generator: Source of randomness.

    Returns:
        One sample per prompt, in order.
    """
    width = max(len(prompt) for prompt in prompts)
    ids_BT = torch.tensor([[end_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask_BT = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    positions_BT = (mask_BT.cumsum(dim=-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    sampled: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # the prompt that each row of the shrinking batch belongs to
    for _ in range(max_new_tokens):
        logits_BV = model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        next_B = choose_tokens(logits_BV, temperature, generator)
        for row, token in zip(rows, next_B.tolist(), strict=True):
            sampled[row].append(token)
        running_B = next_B != end_id
        if not running_B.any():
            break
        if not running_B.all():
            kept = running_B.nonzero().squeeze(-1)
            cache.batch_select_indices(kept)
            rows = [rows[index] for index in kept.tolist()]
            next_B, mask_BT, positions_BT = next_B[kept], mask_BT[kept], positions_BT[kept]
        ids_BT = next_B[:, None]
        mask_BT = torch.cat([mask_BT, torch.ones_like(ids_BT)], dim=-1)
        positions_BT = positions_BT[:, -1:] + 1
    return [Sample(ids, cut_off=ids[-1] != end_id) for ids in sampled]


def play_episodes(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    make_env: Callable[[], TextEnv],
    limits: EpisodeLimits,
    seeds: Sequence[int],
    *,
    temperature: float,
    sampling_seed: int = 0,
    batch_size: int = 128,
) -> list[PlayedEpisode]:
    """Play one episode per seed.

    Args:
        model: Causal language model; evaluated in evaluation mode and left in the mode it was in.
        tokenizer: Its ChatML tokenizer.
        make_env: Constructs one environment; called ``batch_size`` times at most.
        limits: Budgets of an episode.
        seeds: Seeds of the environments.
        temperature: See ``choose_tokens``.
        sampling_seed: Seed of the sampling.
        batch_size: Episodes played side by side.

    Returns:
        One record per seed, in order.

    Raises:
        RuntimeError: If an environment failed: its episode says nothing about the model.
    """
    encoder = TurnEncoder(tokenizer)
    generator = torch.Generator().manual_seed(sampling_seed)
    was_training = model.training
    model.eval()
    played: list[PlayedEpisode] = []
    envs = [make_env() for _ in range(min(batch_size, len(seeds)))]
    for start in range(0, len(seeds), batch_size):
        batch = seeds[start : start + batch_size]
        played += _play_batch(model, encoder, envs[: len(batch)], limits, batch, temperature, generator)
    for env in envs:
        env.close()
    model.train(was_training)
    return played


def _play_batch(
    model: PreTrainedModel,
    encoder: TurnEncoder,
    envs: Sequence[TextEnv],
    limits: EpisodeLimits,
    seeds: Sequence[int],
    temperature: float,
    generator: torch.Generator,
) -> list[PlayedEpisode]:
    episodes = [Episode(env, limits) for env in envs]
    records = [PlayedEpisode(seed) for seed in seeds]
    openings = [episode.reset(seed) for episode, seed in zip(episodes, seeds, strict=True)]
    prompts = [encoder.initial(messages) if messages else [] for messages in openings]
    while running := [index for index, episode in enumerate(episodes) if not episode.done]:
        samples = sample_responses(
            model,
            [prompts[index] for index in running],
            temperature=temperature,
            max_new_tokens=limits.response_tokens,
            end_id=encoder.turn_end_id,
            generator=generator,
        )
        for index, sample in zip(running, samples, strict=True):
            text = str(encoder.tokenizer.decode(sample.ids, skip_special_tokens=True))
            result = episodes[index].respond(text, cut_off=sample.cut_off)
            records[index].responses.append(text)
            records[index].response_tokens += len(sample.ids)
            records[index].well_formed_turns += not sample.cut_off and parse_response(text).valid
            records[index].valid_turns += result.valid
            if result.next_message is not None:
                prompts[index] += sample.ids + encoder.next_turn(result.next_message)
    for record, episode in zip(records, episodes, strict=True):
        if episode.error is not None:
            raise RuntimeError(f"the environment failed on seed {record.seed}: {episode.error}")
        record.success, record.total_reward = episode.success, episode.total_reward
        record.stop_reason = episode.stop_reason
    return records
