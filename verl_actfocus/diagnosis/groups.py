"""Plays groups of episodes and writes every trajectory down with its signals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

import torch
from transformers import PreTrainedModel

from verl_actfocus.episodes.player import Player
from verl_actfocus.evaluation.driver import Driver, Players, response_sampling
from verl_actfocus.evaluation.policy import Policy
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.trajectories import Trajectory, played
from verl_actfocus.trajectories.format import shortest
from verl_actfocus.weighting import token_energy, token_entropy
from verl_actfocus.weighting.signals import nll, shift

#: Name → (T) values of a trajectory, None on tokens that were not sampled.
Signals = Mapping[str, list[float | None]]
#: Positions whose logits are widened at a time.
_CHUNK = 512


def play(
    policy: Policy,
    settings: EvaluationSettings,
    schedule: Collection[tuple[int, int]],
    *,
    at_once: int,
    ended: Callable[[Player, Trajectory], None],
    signals: Callable[[Player], Signals] = lambda player: {},
) -> list[str]:
    """Play episodes.

    Args:
        policy: answers the prompts; closed by the caller.
        settings: what is played.
        schedule: (task, sample) of every episode.
        at_once: most episodes under way at a time.
        ended: called with every episode that ended otherwise than in an infrastructure failure.
        signals: computes the signals of an episode's tokens.

    Returns:
        What failed, in words, for every episode that ended in an infrastructure failure.

    Raises:
        ValueError: the environment's options are wrong, or the model cannot be sampled from.
    """
    if not schedule:
        return []
    players = Players(policy, settings)
    policy.begin(players.lengths, min(at_once, len(schedule)))
    driver = Driver(policy, lambda _, player: response_sampling(settings, player), at_once)
    seats = ((f"{task}-{sample}", partial(_begun, players, task, sample)) for task, sample in schedule)
    failures = []
    for _, player in driver.play(seats):
        record = player.record()
        if record.failure is None:
            trajectory = played(player, players.tagger, environment=settings.environment)
            ended(player, replace(trajectory, signals={**trajectory.signals, **signals(player)}))
        else:
            failures.append(f"task {record.task}, session {record.sample}: {record.failure}")
        players.release(player)
    players.close()
    return failures


def _begun(players: Players, task: int, sample: int) -> Player:
    player = players.new()
    player.begin(task, sample)
    return player


@torch.inference_mode()
def token_signals(policy: PreTrainedModel, reference: PreTrainedModel, player: Player) -> Signals:
    """Compute the four signals of He et al. 2026 (Eq. 4, 20-22) for every sampled token, at temperature 1.

    Args:
        policy: wrote the episode.
        reference: the frozen reference model. Where it is the policy itself, there is no shift.
        player: who played the episode.
    """
    tokens = player.tokens
    ids = torch.tensor([tokens.ids], device=policy.device)
    targets = ids[0, tokens.prompt_length :]
    reference_logits = _logits(reference, ids, len(targets))
    reference_log_probs = _log_probs(reference_logits, targets)
    same = reference is policy
    log_probs = reference_log_probs if same else _log_probs(_logits(policy, ids, len(targets)), targets)
    found = {
        "ref_energy": token_energy(reference_logits, _CHUNK),
        "ref_entropy": token_entropy(reference_logits, _CHUNK),
        "nll": nll(log_probs),
        **({} if same else {"shift": shift(log_probs, reference_log_probs)}),
    }
    return {name: _sampled(values.tolist(), tokens.mask) for name, values in found.items()}


def _logits(model: PreTrainedModel, ids: torch.Tensor, count: int) -> torch.Tensor:
    """Logits `(T, V)` that predict the last `count` tokens."""
    logits: torch.Tensor = model(input_ids=ids.to(model.device), logits_to_keep=count + 1).logits
    return logits[0, :-1].to(ids.device)


def _log_probs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    parts = zip(logits.split(_CHUNK), targets.split(_CHUNK), strict=True)
    return torch.cat([torch.log_softmax(rows.float(), -1).gather(1, ids[:, None])[:, 0] for rows, ids in parts])


def _sampled(values: list[float], mask: list[int]) -> list[float | None]:
    return [value if sampled else None for value, sampled in zip(shortest(values), mask, strict=True)]
