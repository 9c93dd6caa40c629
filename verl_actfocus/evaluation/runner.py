"""Plays the episodes of an evaluation, many at once, and writes each down as it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from verl_actfocus import envs
from verl_actfocus.envs import TextEnv
from verl_actfocus.episodes import Episode, StopReason, parse_response
from verl_actfocus.evaluation.policy import Answer, Policy
from verl_actfocus.evaluation.prompts import Transcript
from verl_actfocus.evaluation.records import EpisodeRecord, EvaluationFolder, TurnRecord
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.generation.sampling import SamplingParams, response_seed

#: Step of the sampling seeds. An evaluation before training has this one, so its responses are sampled alike here.
STEP = 0


@dataclass
class Attempt:
    """What one call of `run` has to show.

    Attributes:
        finished: Finished episodes, those of earlier attempts included.
        failures: Episodes that failed for a reason that is not the model's.
        lost: Why no further episode could be begun; None if all were.
    """

    finished: list[EpisodeRecord]
    failures: list[EpisodeRecord]
    lost: str | None = None


def run(
    policy: Policy,
    settings: EvaluationSettings,
    folder: EvaluationFolder,
    *,
    at_once: int,
    watch: Callable[[Attempt], None] = lambda attempt: None,
) -> Attempt:
    """Play the episodes that the folder does not hold yet.

    Args:
        policy: answers the prompts; closed by the caller.
        settings: what is played.
        folder: where episodes are written as they end; claimed by the caller.
        at_once: most episodes under way at a time.
        watch: called after every episode.

    Returns:
        All finished episodes and what failed in this attempt.

    Raises:
        ValueError: the environment's options are wrong.
    """
    attempt = Attempt(folder.episodes(), [])
    done = {(record.task, record.sample) for record in attempt.finished}
    waiting = deque(key for key in settings.schedule() if key not in done)
    folder.forget_failures()
    watch(attempt)
    if waiting:
        _Run(policy, settings, folder, min(at_once, len(waiting)), watch, attempt).play(waiting)
    return attempt


class _Run:
    """The episodes under way."""

    def __init__(
        self,
        policy: Policy,
        settings: EvaluationSettings,
        folder: EvaluationFolder,
        at_once: int,
        watch: Callable[[Attempt], None],
        attempt: Attempt,
    ) -> None:
        self._policy, self._settings, self._folder = policy, settings, folder
        self._at_once, self._watch, self._attempt = at_once, watch, attempt
        self._builder = policy.prompts(settings.prefill)
        self._lengths = settings.lengths.within(policy.context)
        self._running: dict[str, _Play] = {}
        #: Environments between two episodes: building one can take longer than an episode.
        self._idle: list[TextEnv] = []

    def play(self, waiting: deque[tuple[int, int]]) -> None:
        """Play until nothing is left, or until the policy is lost."""
        self._policy.begin(self._lengths, self._at_once)
        while self._running or (waiting and self._attempt.lost is None):
            while waiting and self._attempt.lost is None and len(self._running) < self._at_once:
                self._begin(*waiting.popleft())
            if self._running:
                for key, answer in self._policy.answers().items():
                    self._take(key, answer)
        for env in self._idle:
            env.close()

    def _begin(self, task: int, sample: int) -> None:
        env = self._idle.pop() if self._idle else envs.make(self._settings.environment, **self._settings.options)
        transcript = Transcript(self._builder, self._lengths, self._settings.limits.response_tokens)
        play = _Play(env, self._settings, transcript, self._policy, task, sample)
        key = f"{task}-{sample}"
        self._running[key] = play
        self._ask_or_end(key, play.open())

    def _take(self, key: str, answer: Answer) -> None:
        if answer.lost:
            self._attempt.lost = answer.error
        self._ask_or_end(key, self._running[key].answer(answer))

    def _ask_or_end(self, key: str, more: bool) -> None:
        play = self._running[key]
        if more:
            self._policy.ask(key, play.prompt, play.sampling)
            return
        del self._running[key]
        record = play.record
        if record.failure is None:
            self._folder.add(record)
            self._attempt.finished.append(record)
            self._idle.append(play.env)
        else:
            self._folder.add_failure(record)
            self._attempt.failures.append(record)
            play.env.close()
        self._watch(self._attempt)


class _Play:
    """One episode: what the model is asked, what it answered, and what came of it."""

    def __init__(
        self,
        env: TextEnv,
        settings: EvaluationSettings,
        transcript: Transcript,
        policy: Policy,
        task: int,
        sample: int,
    ) -> None:
        self.env = env
        self._settings, self._policy = settings, policy
        self._episode = Episode(env, settings.limits, format_penalty=settings.format_penalty, prefill=settings.prefill)
        self._transcript = transcript
        self.record = EpisodeRecord(task=task, sample=sample)

    @property
    def prompt(self) -> Sequence[int]:
        """Tokens that the next response continues."""
        return self._transcript.ids

    @property
    def sampling(self) -> SamplingParams:
        """How the next response is sampled."""
        settings, record = self._settings, self.record
        return SamplingParams(
            max_tokens=self._transcript.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            seed=response_seed(settings.seed, STEP, record.task, record.sample, self._episode.turn),
        )

    def open(self) -> bool:
        """Reset the environment; return whether there is something to ask."""
        messages = self._episode.reset(self.record.task)
        self.record.messages = list(messages)
        if not messages:
            return self._end()
        problem = self._transcript.open(messages)
        if problem is not None:
            self._episode.stop(StopReason.PROMPT_TOO_LONG)
            return self._end(problem)
        return True

    def answer(self, answer: Answer) -> bool:
        """Take a response; return whether there is something more to ask."""
        if answer.error is not None:
            self._episode.stop(StopReason.ROLLOUT_ABORTED)
            return self._end(answer.error)
        text = str(self._policy.tokenizer.decode(list(answer.ids), skip_special_tokens=True))
        self._transcript.add_response(answer.ids)
        result = self._episode.respond(text, cut_off=answer.cut_off)
        prefill = self._settings.prefill
        self.record.messages.append({"role": "assistant", "content": prefill + text})
        self.record.turns.append(
            TurnRecord(
                text=text,
                parsed=[] if answer.cut_off else parse_response(text, prefill=prefill).actions,
                executed=result.actions,
                valid=result.valid,
                problem=result.problem,
                reward=result.reward,
                tokens=len(answer.ids),
                effective_actions=result.effective_actions,
            )
        )
        if result.next_message is None:
            return self._end()
        if not self._transcript.add_message(result.next_message):
            self._episode.stop(StopReason.CONTEXT_FULL)
            return self._end()
        self.record.messages.append(result.next_message)
        return True

    def _end(self, failure: str | None = None) -> bool:
        """Complete the record."""
        episode, record = self._episode, self.record
        reason = episode.stop_reason
        if reason is None:
            raise RuntimeError(f"task {record.task}: the episode ended without a stop reason")
        if episode.error is not None:
            error = episode.error
            doing = "reset" if error.action is None else f"action {error.action!r}"
            failure = f"the environment failed on {doing} with {error.type}: {error.message}"
        record.success, record.reward, record.stop_reason = episode.success, episode.total_reward, reason.value
        record.outcomes = episode.outcomes
        record.failure = failure if reason.excluded_from_training else None
        return False
