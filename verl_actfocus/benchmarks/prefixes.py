"""What it gains to compute the shared prompt of a group once, in passes without a gradient (old, reference).

Plain: every trajectory of the group by itself, prompt and response, as those passes do it. Shared: the prompt once
with transformers' key-value cache, then all responses on that cache. Both return log-probability and energy of every
response token, which are compared. What the trainer does with it is `verl_actfocus.integration.shared_prompts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from verl_actfocus.benchmarks.statistics import Ratio, Spread, ratio_of_medians

#: Tokens of the vocabulary: the output layer has the share of the parameters that it has in a model of 7 billion.
VOCABULARY = 4096


@dataclass(frozen=True)
class Result:
    """What was measured."""

    prompt: int
    response: int
    group: int
    parameters: int
    threads: int
    #: Largest difference of a log-probability and of an energy between both ways.
    log_prob_difference: float
    energy_difference: float
    #: Seconds for the group.
    plain: Spread
    shared: Spread
    #: Plain over shared: how many times faster.
    gain: Ratio
    #: The same of CPU time, which other programs disturb less.
    gain_cpu: Ratio

    @property
    def tokens_gain(self) -> float:
        """Tokens that go through the layers, plain over shared: the gain if all of them cost the same."""
        return self.group * (self.prompt + self.response) / (self.prompt + self.group * self.response)

    def __str__(self) -> str:
        return (
            f"Group of {self.group}, prompt of {self.prompt} tokens, responses of {self.response}; "
            f"{self.parameters / 1e6:.0f} million parameters, float32, {self.threads} thread(s). Seconds for the "
            f"group, median (least) [quartiles]: plain {_seconds(self.plain)}, shared {_seconds(self.shared)}. "
            f"**{self.gain} times faster** ({self.gain_cpu} by CPU time; {self.tokens_gain:.2f} times fewer tokens). "
            f"Largest difference: log-probability {self.log_prob_difference:.1e}, energy {self.energy_difference:.1e}."
        )


def measure(*, prompt: int, response: int, group: int, rounds: int, seed: int = 0) -> Result:
    """Measure both ways in alternation.

    Args:
        prompt: tokens of the prompt that the group shares.
        response: tokens of each response.
        group: trajectories of the group.
        rounds: how often each way is measured, after one that does not count.
        seed: of weights and tokens.
    """
    torch.manual_seed(seed)
    model = _model(prompt + response)
    prompt_ids = torch.randint(VOCABULARY, (1, prompt))
    response_ids = torch.randint(VOCABULARY, (group, response))
    ways = [lambda: plain(model, prompt_ids, response_ids), lambda: shared(model, prompt_ids, response_ids)]
    first, second = (way() for way in ways)
    seconds: list[list[list[float]]] = [[], []]
    cpu_seconds: list[list[list[float]]] = [[], []]
    for _ in range(rounds):
        for way, wall, cpu in zip(ways, seconds, cpu_seconds, strict=True):
            elapsed = _timed(way)
            wall.append([elapsed[0]])
            cpu.append([elapsed[1]])
    return Result(
        prompt=prompt,
        response=response,
        group=group,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        threads=torch.get_num_threads(),
        log_prob_difference=float((first[0] - second[0]).abs().max()),
        energy_difference=float((first[1] - second[1]).abs().max()),
        plain=Spread.of([one[0] for one in seconds[0]]),
        shared=Spread.of([one[0] for one in seconds[1]]),
        gain=ratio_of_medians(seconds[0], seconds[1]),
        gain_cpu=ratio_of_medians(cpu_seconds[0], cpu_seconds[1]),
    )


def _model(positions: int) -> Qwen2ForCausalLM:
    """Return a randomly initialised model of 28 million parameters."""
    config = Qwen2Config(
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=positions,
    )
    return Qwen2ForCausalLM(config).eval()


@torch.no_grad()
def plain(model: Qwen2ForCausalLM, prompt_1P: Tensor, responses_GR: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probability and energy of every response token, `(G, R)` each: every trajectory from its start."""
    ids = torch.cat([prompt_1P.expand(len(responses_GR), -1), responses_GR], dim=1)
    logits = model(ids, use_cache=False).logits
    return _outputs(logits[:, prompt_1P.shape[1] - 1 : -1], responses_GR)


@torch.no_grad()
def shared(model: Qwen2ForCausalLM, prompt_1P: Tensor, responses_GR: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same, the prompt computed once for the whole group."""
    cache = DynamicCache(config=model.config)
    last = model(prompt_1P, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    cache.batch_repeat_interleave(len(responses_GR))
    # Nothing is predicted from the last token.
    logits = model(responses_GR[:, :-1], past_key_values=cache, use_cache=True).logits
    return _outputs(torch.cat([last.expand(len(responses_GR), -1, -1), logits], dim=1), responses_GR)


def _outputs(logits_GRV: Tensor, labels_GR: Tensor) -> tuple[Tensor, Tensor]:
    energy = -logits_GRV.logsumexp(-1)
    return logits_GRV.gather(2, labels_GR.unsqueeze(2)).squeeze(2) + energy, energy


def _timed(way: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - wall, time.process_time() - cpu


def _seconds(spread: Spread) -> str:
    low, high = spread.quartiles
    return f"{spread.median:.2f} ({spread.least:.2f}) [{low:.2f}, {high:.2f}]"
