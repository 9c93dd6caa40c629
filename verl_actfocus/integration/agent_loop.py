"""Episodes as a veRL agent loop: token-in, token-out, append-only.

One `EpisodeLoop` plays one episode: it carries the prompts of a `verl_actfocus.episodes.player.Player` to veRL's
rollout server and the responses back. Prompts are those of evaluation (`verl_actfocus.integration.prompts`). Every
response is tagged when it arrives, before the next prompt is made; every token of the environment is `Span.NONE`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar, cast

import torch
from transformers import PreTrainedTokenizerBase
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register
from verl.utils.profiler import simple_timer
from verl.utils.rollout_trace import rollout_trace_op
from verl.workers.rollout.replica import TokenOutput

from verl_actfocus.config.engines import CPU_SERVER
from verl_actfocus.config.settings import ActFocusSettings
from verl_actfocus.envs import EpisodeLimits, TextEnv
from verl_actfocus.episodes import Episode, StopReason
from verl_actfocus.episodes.deadline import make_within, off_loop
from verl_actfocus.episodes.phrasing import Phrasing
from verl_actfocus.episodes.player import Player
from verl_actfocus.episodes.tokens import Lengths
from verl_actfocus.generation.sampling import response_seed
from verl_actfocus.generation.turn_ends import turn_ended
from verl_actfocus.integration import exclusions, fields
from verl_actfocus.integration.dataset import AGENT_NAME
from verl_actfocus.integration.prompts import ends_of_turn, episode_prompts
from verl_actfocus.integration.turn_trace import trace_turn
from verl_actfocus.tagging import SpanTagger

logger = logging.getLogger(__name__)


class EpisodeOutput(AgentLoopOutput):
    """An episode with its per-token fields."""

    spans: list[int]
    """`Span` of each response token."""
    turn_rewards: list[float]
    """Reward of each turn on the turn's last token, 0 elsewhere."""
    anchor_states: list[int] | None = None
    """State that each turn began in, on the turn's last token, 0 elsewhere; None where nobody asks for it."""
    episode: str | None = None
    """The episode's record as JSON where its trajectory may be written to disk."""

    def as_dict(self) -> dict[str, Any]:
        """Return what veRL stores per trajectory, the per-token fields as tensors."""
        output = super().as_dict()
        output[fields.SPANS] = torch.tensor(output.pop("spans"), dtype=torch.int64)
        output[fields.TURN_REWARDS] = torch.tensor(output.pop("turn_rewards"), dtype=torch.float32)
        if (states := output.pop("anchor_states", None)) is not None:
            output[fields.ANCHOR_STATES] = torch.tensor(states, dtype=torch.int64)
        if (episode := output.pop("episode", None)) is not None:
            output[fields.EPISODE] = episode
        return output


class EpisodeLoop(AgentLoopBase):
    """Plays episodes of a text environment with the policy behind veRL's rollout server; arguments are veRL's.

    It holds what the episodes of a run have in common and nothing of one, so that any number are played at once.
    """

    _latest: ClassVar[EpisodeLoop | None] = None

    @classmethod
    def shared(cls, **parts: Any) -> EpisodeLoop:
        """Return the loop of this process: veRL asks for one for every trajectory, as dear as a turn.

        Args:
            parts: what veRL builds a loop from; a worker has the same server for all of its trajectories.
        """
        if cls._latest is None or cls._latest.server_manager is not parts["server_manager"]:
            cls._latest = cls(**parts)
        return cls._latest

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._tags = ActFocusSettings.tags_from_config(self.config)
        self._trajectories = ActFocusSettings.trajectories_from_config(self.config)
        self._with_states = "anchor_states" in ActFocusSettings.needs_from_config(self.config)
        # Not AgentLoopBase.ct_build_initial_tokens, which would silently cut a long prompt on the left.
        self._prompts = episode_prompts(self.config, self._tokenizer, self.processor)
        self._ends = ends_of_turn(self.config, self._tokenizer)
        self._tagger = SpanTagger(self._tokenizer, **asdict(self._tags))

    @rollout_trace_op
    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> Any:
        """Play the episode that the dataset row describes.

        Args:
            sampling_params: veRL's sampling parameters.
            kwargs: the row of `verl_actfocus.integration.dataset.EnvironmentDataset` and veRL's `session_id` and
                `global_steps`.

        Returns:
            The trajectory, or an empty list if it ended in an infrastructure failure. veRL leaves an empty list
            out of the batch and the trainer counts it (`rollout/excluded_trajectories`).
        """
        row = kwargs["environment"]
        try:
            env = await off_loop(partial(make_within, row["step_timeout"], row["name"], **row["kwargs"]))
        except Exception as error:  # any: counted, like every other failure of the environment
            return await _excluded(kwargs, StopReason.ENVIRONMENT_ERROR, f"{type(error).__name__}: {error}")
        player = self._player(env, row)
        metrics: dict[str, Any] = {}
        steps: list[int] = []
        try:
            await player.begin_off_loop(row["seed"], kwargs["session_id"])
            while not player.done:
                max_tokens = player.max_tokens
                with simple_timer("generate_sequences", metrics):
                    params = {**sampling_params, "max_tokens": max_tokens, "stop_token_ids": sorted(self._ends)}
                    output = await self._generate(player, params, kwargs)
                if output.stop_reason in ("aborted", "abort") or not output.token_ids:
                    player.abort(f"the rollout server returned {len(output.token_ids)} tokens ({output.stop_reason})")
                    continue
                step = output.extra_fields.get("global_steps")
                steps += [] if step is None else [step]
                ended = turn_ended(output.token_ids, self._ends, max_tokens, output.stop_reason)
                turn = await player.answer_off_loop(output.token_ids, cut_off=not ended, log_probs=output.log_probs)
                await trace_turn(len(player.turns), turn)
        finally:
            await off_loop(player.episode.close)
        reason = player.episode.stop_reason
        if reason is None:
            raise RuntimeError(f"{row['name']} seed {row['seed']}: the episode ended without a stop reason")
        if reason.excluded_from_training:
            return await _excluded(kwargs, reason, player.failure)
        # The trainer chooses which of a step's trajectories are written to disk.
        written = not row["validate"] and self._trajectories.wants(kwargs["global_steps"])
        seconds = metrics.get("generate_sequences", 0.0)
        return _output(player, seconds, steps, with_record=written, with_states=self._with_states)

    @property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        # veRL annotates the factory class (AutoTokenizer) where it passes what the factory makes.
        return cast(PreTrainedTokenizerBase, self.tokenizer)

    def _player(self, env: TextEnv, row: dict[str, Any]) -> Player:
        """Return the player of a row's episode in an environment, with the tags and lengths of the configuration."""
        limits = EpisodeLimits(**row["limits"])
        episode = Episode(
            env,
            limits,
            format_penalty=row["format_penalty"],
            tags=self._tags,
            phrasing=Phrasing.from_dict(row["phrasing"]),
            step_timeout=row["step_timeout"],
        )
        rollout = self.rollout_config
        lengths = Lengths(prompt=rollout.prompt_length, response=rollout.response_length, total=rollout.max_model_len)
        return Player(episode, self._prompts, self._tagger, lengths)

    async def _generate(self, player: Player, params: dict[str, Any], row: dict[str, Any]) -> TokenOutput:
        # vLLM samples with one seed for all requests, which decides nothing once they arrive in another order; in
        # full determinism veRL would give every request of a server the same seed, and a group the same responses.
        if self.rollout_config.name == CPU_SERVER or self.rollout_config.full_determinism:
            params["seed"] = response_seed(
                self.rollout_config.seed,
                row.get("global_steps"),
                row["environment"]["seed"],
                row.get("session_id"),
                player.episode.turn,
            )
        request = f"{row.get('uid')}-{row.get('session_id')}"
        return await self.server_manager.generate(request_id=request, prompt_ids=player.prompt, sampling_params=params)


register(AGENT_NAME)(EpisodeLoop.shared)


async def _excluded(row: dict[str, Any], reason: StopReason, failure: str | None) -> list[EpisodeOutput]:
    """Log and count an episode that ended in an infrastructure failure; return what veRL gets of it."""
    environment = row["environment"]
    logger.error("excluded trajectory: %s seed %s: %s", environment["name"], environment["seed"], failure)
    await exclusions.report(f"{row['uid']}_{row['session_id']}", reason, validate=environment["validate"])
    return []


def _output(player: Player, seconds: float, steps: list[int], *, with_record: bool, with_states: bool) -> EpisodeOutput:
    """Return a trajectory in veRL's terms.

    Args:
        player: its episode has ended.
        seconds: time that its responses took.
        steps: training steps of the weights that wrote them, as far as the server said so.
        with_record: whether the whole record of the episode goes along.
        with_states: whether the states go along that turns began in.
    """
    tokens, record = player.tokens, player.record()
    turn_rewards, states = player.at_turn_ends()
    return EpisodeOutput(
        prompt_ids=tokens.ids[: tokens.prompt_length],
        response_ids=tokens.ids[tokens.prompt_length :],
        response_mask=tokens.mask,
        # Absent where the server sent none (rollout.calculate_log_probs=False): zeros would be probabilities of 1.
        response_logprobs=tokens.log_probs if player.has_log_probs else None,
        reward_score=player.episode.total_reward,
        num_turns=2 * player.episode.turn,
        metrics=AgentLoopMetrics(generate_sequences=seconds),
        extra_fields={
            "reward_extra_info": record.counts(),
            "min_global_steps": min(steps, default=None),
            "max_global_steps": max(steps, default=None),
        },
        spans=tokens.spans,
        turn_rewards=turn_rewards,
        anchor_states=states if with_states else None,
        episode=json.dumps(asdict(record)) if with_record else None,
    )
