"""Episodes as a veRL agent loop: token-in, token-out, append-only.

One `EpisodeLoop` plays one episode. Tokens are never re-encoded: what the model sampled in turn *n* stands unchanged
in the prompt of turn *n + 1* and in the training data. Between turns veRL's continuous-token builder renders only
what is new. Every response is tagged with spans while its tokens are read, and every token of the environment is
`Span.NONE`.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, cast

from transformers import PreTrainedTokenizerBase
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, register
from verl.utils.profiler import simple_timer
from verl.workers.rollout.replica import TokenOutput

from verl_actfocus.envs import EpisodeLimits, make
from verl_actfocus.episodes import Episode, StopReason
from verl_actfocus.generation.sampling import response_seed
from verl_actfocus.integration import exclusions
from verl_actfocus.integration.cpu import BACKEND_NAME
from verl_actfocus.integration.dataset import AGENT_NAME
from verl_actfocus.integration.episode_tokens import EpisodeOutput, EpisodeTokens
from verl_actfocus.integration.metrics import EpisodeRecord
from verl_actfocus.integration.settings import ActFocusSettings, TagSettings
from verl_actfocus.tagging import SpanTagger
from verl_actfocus.weighting import Span

logger = logging.getLogger(__name__)


@register(AGENT_NAME)
class EpisodeLoop(AgentLoopBase):
    """Plays one episode of a text environment with the policy behind veRL's rollout server."""

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> Any:
        """Play the episode that the dataset row describes.

        Args:
            sampling_params: veRL's sampling parameters.
            kwargs: the row of `verl_actfocus.integration.dataset.EnvironmentDataset` and veRL's ``session_id`` and
                ``global_steps``.

        Returns:
            The trajectory, or an empty list if it ended for a reason that is not the model's. veRL leaves an empty list
            out of the batch and the trainer counts it (``rollout/excluded_trajectories``).
        """
        row = kwargs["environment"]
        tags = ActFocusSettings.tags_from_config(self.config)
        limits = EpisodeLimits(**row["limits"])
        episode = Episode(
            make(row["name"], **row["kwargs"]), limits, format_penalty=row["format_penalty"], prefill=tags.prefill
        )
        play = _Play(self, episode, limits, tags, sampling_params, kwargs)
        try:
            tokens = await play.run(row["seed"])
        finally:
            episode.env.close()
        reason = episode.stop_reason
        if reason is None:
            raise RuntimeError(f"{row['name']} seed {row['seed']}: the episode ended without a stop reason")
        if tokens is None or reason.excluded_from_training:
            logger.error("excluded trajectory: %s seed %s: %s", row["name"], row["seed"], play.failure or episode.error)
            key = f"{kwargs['uid']}_{kwargs['session_id']}"
            await exclusions.report(key, reason, validate=row["validate"])
            return []
        return play.output(tokens, row["seed"])


class _Play:
    """One run of an episode: the turns, and the record of them."""

    def __init__(
        self,
        loop: EpisodeLoop,
        episode: Episode,
        limits: EpisodeLimits,
        tags: TagSettings,
        sampling_params: dict[str, Any],
        row: dict[str, Any],
    ) -> None:
        self._loop = loop
        self._episode = episode
        self._limits = limits
        # veRL annotates the factory class (AutoTokenizer) where it passes what the factory makes.
        self._tokenizer = cast(PreTrainedTokenizerBase, loop.tokenizer)
        self._tagger = _tagger(self._tokenizer, tags)
        #: Tokens that stand at the end of every prompt.
        self._prefill = self._tokenizer.encode(tags.prefill, add_special_tokens=False) if tags.prefill else []
        self._sampling_params = sampling_params
        self._row = row
        self._metrics: dict[str, Any] = {}
        self._steps: list[int | None] = []
        self._valid_turns = self._actions = self._effective = 0
        self._has_log_probs = True
        #: Why the trajectory cannot be used although the environment is fine.
        self.failure: str | None = None

    async def run(self, seed: int) -> EpisodeTokens | None:
        """Play until the episode ends; None if there is nothing that the model did."""
        messages = self._episode.reset(seed)
        if not messages:
            return None
        tokens = self._first_prompt(messages)
        if tokens is None:
            return None
        while not self._episode.done:
            message = await self._turn(tokens)
            if self.failure is not None:
                return None
            if message is None:
                break
            await self._next_prompt(tokens, messages, message)
        return tokens

    def _first_prompt(self, messages: list[dict[str, str]]) -> EpisodeTokens | None:
        """Begin with the first prompt, or end the episode if it does not fit."""
        # The builder itself: AgentLoopBase.ct_build_initial_tokens would silently cut a long prompt on the left.
        ids = self._loop.continuous_token_builder.build_initial_tokens(messages) + self._prefill
        rollout = self._loop.rollout_config
        tokens = EpisodeTokens(ids)
        if len(ids) > rollout.prompt_length:
            problem = f"but data.max_prompt_length is {rollout.prompt_length}; raise it"
        elif self._room(tokens) < 1:
            problem = f"which fill actor_rollout_ref.rollout.max_model_len={rollout.max_model_len}; raise it"
        else:
            return tokens
        self._episode.stop(StopReason.PROMPT_TOO_LONG)
        self.failure = f"the first prompt has {len(ids)} tokens, {problem}"
        return None

    async def _turn(self, tokens: EpisodeTokens) -> dict[str, str] | None:
        """Generate one response and let the environment answer; returns the next user message."""
        max_tokens = min(self._limits.response_tokens, self._room(tokens))
        with simple_timer("generate_sequences", self._metrics):
            output = await self._generate(tokens.ids, max_tokens)
        if output.stop_reason in ("aborted", "abort") or not output.token_ids:
            self._episode.stop(StopReason.ROLLOUT_ABORTED)
            self.failure = f"the rollout server returned {len(output.token_ids)} tokens ({output.stop_reason})"
            return None
        self._steps.append(output.extra_fields.get("global_steps"))
        spans = self._tag(output.token_ids)
        self._has_log_probs = self._has_log_probs and output.log_probs is not None
        tokens.add_response(output.token_ids, output.log_probs or [0.0] * len(spans), spans)
        cut_off = output.stop_reason == "length" or (
            len(output.token_ids) >= max_tokens and output.token_ids[-1] != self._tokenizer.eos_token_id
        )
        text = str(self._tokenizer.decode(output.token_ids, skip_special_tokens=True))
        result = self._episode.respond(text, cut_off=cut_off)
        tokens.reward_turn(result.reward)
        self._valid_turns += result.valid
        self._actions += result.valid_actions
        self._effective += result.effective_actions
        return result.next_message

    async def _generate(self, prompt_ids: list[int], max_tokens: int) -> TokenOutput:
        params = {**self._sampling_params, "max_tokens": max_tokens}
        if self._loop.rollout_config.name == BACKEND_NAME:
            params["seed"] = self._sampling_seed()
        request = f"{self._row.get('uid')}-{self._row.get('session_id')}"
        return await self._loop.server_manager.generate(
            request_id=request, prompt_ids=list(prompt_ids), sampling_params=params
        )

    def _sampling_seed(self) -> int:
        """Seed of this response: the same run samples the same tokens whatever the order of requests."""
        return response_seed(
            self._loop.rollout_config.seed,
            self._row.get("global_steps"),
            self._row["environment"]["seed"],
            self._row.get("session_id"),
            self._episode.turn,
        )

    def _tag(self, token_ids: list[int]) -> list[Span]:
        stream = self._tagger.stream()
        for token in token_ids:
            stream.feed(token)
        return stream.finish()

    def _room(self, tokens: EpisodeTokens) -> int:
        """Tokens that the trajectory may still grow by."""
        rollout = self._loop.rollout_config
        room = rollout.response_length - tokens.response_length
        if rollout.max_model_len is not None:
            room = min(room, rollout.max_model_len - len(tokens.ids))
        return room

    async def _next_prompt(
        self, tokens: EpisodeTokens, messages: list[dict[str, str]], message: dict[str, str]
    ) -> None:
        """Append the user message and the prefill, or end the episode if they do not fit."""
        # The assistant's text is irrelevant: the builder appends to the runtime tokens and renders only the new
        # message.
        previous = [*messages, {"role": "assistant", "content": ""}]
        updated = [*previous, message]
        merged = self._loop.continuous_token_builder.merge_context_tokens(previous, updated, tokens.ids)
        if merged.removed_prefix_token_count:
            raise RuntimeError(
                "the chat template asks to drop sampled tokens, which would train on tokens never sampled"
            )
        added = merged.token_ids[len(tokens.ids) :] + self._prefill
        if len(added) >= self._room(tokens):
            self._episode.stop(StopReason.CONTEXT_FULL)
            return
        tokens.add_context(added)
        messages[:] = updated

    def output(self, tokens: EpisodeTokens, seed: int) -> EpisodeOutput:
        """Return the trajectory in veRL's terms."""
        episode = self._episode
        record = EpisodeRecord(
            success=float(episode.success),
            stop_reason=episode.stop_reason.value if episode.stop_reason else "",
            turns=episode.turn,
            valid_turns=self._valid_turns,
            actions=self._actions,
            effective_actions=self._effective,
            response_tokens=sum(tokens.mask),
            seed=seed,
            outcomes=episode.outcomes,
        )
        steps = [step for step in self._steps if step is not None]
        return EpisodeOutput(
            prompt_ids=tokens.ids[: tokens.prompt_length],
            response_ids=tokens.ids[tokens.prompt_length :],
            response_mask=tokens.mask,
            # Absent where the server sent none (rollout.calculate_log_probs=False): zeros would be probabilities of 1.
            response_logprobs=tokens.log_probs if self._has_log_probs else None,
            reward_score=episode.total_reward,
            num_turns=2 * episode.turn,
            metrics=AgentLoopMetrics(generate_sequences=self._metrics.get("generate_sequences", 0.0)),
            extra_fields={
                "reward_extra_info": record.as_dict(),
                "min_global_steps": min(steps) if steps else None,
                "max_global_steps": max(steps) if steps else None,
            },
            spans=tokens.spans,
            turn_rewards=tokens.turn_rewards,
        )


@lru_cache(maxsize=4)
def _tagger(tokenizer: PreTrainedTokenizerBase, tags: TagSettings) -> SpanTagger:
    """One tagger per tokenizer and tag style: veRL builds an agent loop for every trajectory."""
    return SpanTagger(tokenizer, action=tags.action, reasoning=tags.reasoning, prefill=tags.prefill)
