"""One episode in tokens: a prompt goes out, an answer comes in, until the episode has ended.

The player asks nobody and waits for nothing: whoever drives it sends `Player.prompt` to a model and hands the answer
back, one episode at a time or many at once, waiting or in an event loop. veRL's agent loop, `actfocus eval` and
`actfocus play` drive the same object.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from verl_actfocus.episodes.deadline import off_loop
from verl_actfocus.episodes.episode import Episode
from verl_actfocus.episodes.outcomes import StopReason, TurnResult
from verl_actfocus.episodes.prompts import Message, shown
from verl_actfocus.episodes.record import EpisodeRecord, TurnRecord
from verl_actfocus.episodes.states import state_id
from verl_actfocus.episodes.tokens import EpisodeTokens, Lengths, PromptBuilder
from verl_actfocus.weighting import Span


class ResponseReader(Protocol):
    """Reads sampled tokens: `verl_actfocus.tagging.SpanTagger`."""

    def read(self, token_ids: Sequence[int]) -> tuple[str, Sequence[Span]]:
        """Return a response's text and the span of every token."""


class Player:
    """Plays one episode.

    A response's tokens are decoded once, and its text is what the grammar judges, what the spans are found in and what
    is recorded. A response is tagged when it arrives, before the next prompt is made.

    Args:
        episode: The episode; the caller closes its environment.
        prompts: Makes the prompts, with the prefill of the episode's tags.
        reader: Decodes and tags the responses, by the same tags.
        lengths: Most tokens of the episode.

    Attributes:
        tokens: Tokens, mask, spans and log-probabilities so far.
        turns: What came of every response so far.
        messages: The conversation so far, the prefill at the beginning of every response.
        has_log_probs: Whether every response came with log-probabilities.
        task: Seed of the environment.
        sample: Number of the episode among those of its task, from 0.

    Example:
        >>> player.begin(task=7)  # doctest: +SKIP
        >>> while not player.done:  # doctest: +SKIP
        ...     ids, cut_off = model(player.prompt, player.max_tokens)
        ...     player.answer(ids, cut_off=cut_off)
    """

    def __init__(self, episode: Episode, prompts: PromptBuilder, reader: ResponseReader, lengths: Lengths) -> None:
        self.episode = episode
        self._reader = reader
        self.tokens = EpisodeTokens(prompts, lengths, episode.limits.response_tokens)
        self.turns: list[TurnRecord] = []
        self.messages: list[Message] = []
        self.has_log_probs = True
        self.task = self.sample = 0
        self._failure: str | None = None

    @property
    def done(self) -> bool:
        """Whether the episode has ended; before `begin` it has not."""
        return self.episode.done

    @property
    def prompt(self) -> list[int]:
        """Tokens that the next response continues."""
        return list(self.tokens.ids)

    @property
    def max_tokens(self) -> int:
        """Most tokens of the next response."""
        return self.tokens.max_tokens

    @property
    def failure(self) -> str | None:
        """What failed, in words, if the episode ended in an infrastructure failure; None otherwise."""
        return self._failure if self.episode.error is None else str(self.episode.error)

    def begin(self, task: int, sample: int = 0) -> None:
        """Reset the environment and make the first prompt; the episode is over at once if either cannot be done.

        Args:
            task: Seed of the environment.
            sample: Number of the episode among those of its task, from 0.
        """
        self.task, self.sample = task, sample
        self._open(self.episode.reset(task))

    async def begin_off_loop(self, task: int, sample: int) -> None:
        """Begin as `begin` does while the event loop goes on; tokens are made in the loop, the environment is not."""
        self.task, self.sample = task, sample
        self._open(await off_loop(partial(self.episode.reset, task)))

    def answer(self, ids: Sequence[int], *, cut_off: bool, log_probs: Sequence[float] | None = None) -> TurnRecord:
        """Take the response to the prompt, and make the next prompt if there is one.

        Args:
            ids: Sampled tokens, the end of turn included if it was reached; at least one.
            cut_off: Whether the length limit came first.
            log_probs: Log-probability of every token, None if they are not known.

        Returns:
            What came of the turn.

        Raises:
            RuntimeError: The episode has ended or was never begun.
        """
        text, spans = self._read(ids, log_probs)
        observation = self.episode.observation
        return self._judge(
            text, spans, observation, self.episode.respond(text, cut_off_at=len(ids) if cut_off else None)
        )

    async def answer_off_loop(
        self, ids: Sequence[int], *, cut_off: bool, log_probs: Sequence[float] | None = None
    ) -> TurnRecord:
        """Take the response as `answer` does while the event loop goes on."""
        text, spans = self._read(ids, log_probs)
        observation = self.episode.observation
        result = await off_loop(partial(self.episode.respond, text, cut_off_at=len(ids) if cut_off else None))
        return self._judge(text, spans, observation, result)

    def at_turn_ends(self) -> tuple[list[float], list[int]]:
        """Return the reward of every turn, and the state that it began in, at its last token; 0 on all other tokens.

        Returns:
            Rewards and states (`state_id`), each as long as the tokens' mask.
        """
        rewards, states = [0.0] * len(self.tokens.mask), [0] * len(self.tokens.mask)
        for end, turn in zip(self.tokens.turn_ends, self.turns, strict=True):
            rewards[end], states[end] = turn.reward, state_id(turn.observation)
        return rewards, states

    def _open(self, messages: list[Message]) -> None:
        """Make the first prompt of an environment that was reset."""
        prefill = self.episode.tags.prefill
        self.messages = [shown(message, prefill) for message in messages]
        problem = self.tokens.open(messages) if messages else None
        if problem is not None:
            self._stop(StopReason.PROMPT_TOO_LONG, problem)

    def _read(self, ids: Sequence[int], log_probs: Sequence[float] | None) -> tuple[str, Sequence[Span]]:
        """Keep a response's tokens; return its text and spans."""
        text, spans = self._reader.read(ids)
        self.has_log_probs = self.has_log_probs and log_probs is not None
        self.tokens.add_response(ids, spans, [0.0] * len(ids) if log_probs is None else log_probs)
        return text, spans

    def _judge(self, text: str, spans: Sequence[Span], observation: str, result: TurnResult) -> TurnRecord:
        """Keep what came of a response, and make the next prompt if there is one."""
        self.messages.append(shown({"role": "assistant", "content": text}, self.episode.tags.prefill))
        turn = TurnRecord(
            text=text,
            parsed=result.parsed,
            executed=result.actions,
            valid=result.valid,
            problem=result.problem,
            reward=result.reward,
            effective_actions=result.effective_actions,
            tokens=len(spans),
            reasoning_tokens=list(spans).count(Span.REASONING),
            action_tokens=list(spans).count(Span.ACTION),
            observation=observation,
        )
        self.turns.append(turn)
        if result.next_message is not None:
            if self.tokens.add_message(result.next_message):
                self.messages.append(result.next_message)
            else:
                self.episode.stop(StopReason.CONTEXT_FULL)
        return turn

    def abort(self, problem: str) -> None:
        """End the episode because nobody answered the prompt.

        Args:
            problem: What went wrong, in words.
        """
        self._stop(StopReason.ROLLOUT_ABORTED, problem)

    def record(self) -> EpisodeRecord:
        """Return what is kept of the episode.

        Raises:
            RuntimeError: The episode has not ended.
        """
        reason = self.episode.stop_reason
        if reason is None:
            raise RuntimeError(f"Player.record: the episode of seed {self.task} has not ended")
        return EpisodeRecord(
            task=self.task,
            sample=self.sample,
            success=self.episode.success,
            reward=self.episode.total_reward,
            stop_reason=reason.value,
            outcomes=self.episode.outcomes,
            failure=self.failure if reason.excluded_from_training else None,
            turns=self.turns,
            messages=self.messages,
            final_observation=self.episode.observation,
        )

    def _stop(self, reason: StopReason, problem: str) -> None:
        self.episode.stop(reason)
        self._failure = problem
