"""One episode as a conversation: the turn protocol shared by rollout, evaluation, play and demonstrations.

`Episode` stands between a text environment and whatever writes the responses. It knows nothing of tokens or
models: it hands out messages, takes decoded responses, keeps the budgets, and says why an episode ended. The
rules it keeps (He et al. 2026, App. C; what the paper leaves open is decided here):

* A response outside the grammar executes nothing and earns the format penalty.
* Of more actions than a turn allows, the first ones are executed and the rest ignored, as in the RAGEN code
  that the paper builds on. The turn stays valid.
* Execution stops at the first action the environment refuses, since later actions were chosen for a state
  that never came about. Such a turn is invalid, so half an answer is never paid as a whole one: the accepted
  actions keep the rewards they earned (they happened, and later rewards build on them) and the format penalty
  takes the place of whatever reward the environment attached to the refusal. A refused action does not count
  as executed.
* Every action that the environment offers can be written in a response; an environment that offers another one has
  failed.
* A response cut off by the length limit is invalid whatever it holds, and ends the episode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from verl_actfocus.envs.base import ACTION_SEPARATOR, EpisodeLimits, TextEnv
from verl_actfocus.episodes.answers import EnvironmentStep, checked_reset, checked_step, checked_sum
from verl_actfocus.episodes.deadline import STEP_TIMEOUT, EnvironmentTimeoutError, call_within, within
from verl_actfocus.episodes.grammar import ParsedResponse, can_be_written, parse_response
from verl_actfocus.episodes.outcomes import EnvironmentFailure, StopReason, TurnResult
from verl_actfocus.episodes.phrasing import STANDARD_PHRASING, Phrasing
from verl_actfocus.episodes.prompts import TASK_BEGINS, Message, opening_messages, user_message
from verl_actfocus.episodes.tags import STANDARD_TAGS, TagSettings


class Episode:
    """A conversation between a policy and a text environment.

    Args:
        env: Environment. The episode calls it, one call at a time, in a thread of its own.
        limits: Budgets of the episode.
        format_penalty: Reward added on an invalid turn (He et al. 2026, App. C: -0.1).
        tags: What a response looks like; the caller puts their prefill before every response.
        phrasing: How the prompts ask for that.
        step_timeout: Most seconds that the environment may take to reset, to execute an action, or to close.

    Raises:
        ValueError: The penalty is positive, or no valid response can continue the prefill.

    Attributes:
        observation: Text of the current state.
        info: What the environment reported with the last accepted action (of `reset` before the first).
        turn_rewards: Reward of every turn so far.
        stop_reason: Why the episode ended; `None` while it runs or before `reset`.
        error: The environment's failure, if `stop_reason` is `ENVIRONMENT_ERROR`.

    Example:
        >>> from verl_actfocus.envs import registry
        >>> episode = Episode(registry.make("frozenlake"), registry.spec("frozenlake").limits)
        >>> system, user = episode.reset(seed=7)
        >>> result = episode.respond("The goal is to the right.</think><answer>Right</answer>")
    """

    def __init__(
        self,
        env: TextEnv,
        limits: EpisodeLimits,
        *,
        format_penalty: float = -0.1,
        tags: TagSettings = STANDARD_TAGS,
        phrasing: Phrasing = STANDARD_PHRASING,
        step_timeout: float = STEP_TIMEOUT,
    ) -> None:
        if not format_penalty <= 0:
            raise ValueError(f"format_penalty is {format_penalty}: a penalty is zero or negative, e.g. -0.1")
        tags.left_to_write()  # refuses a prefill that no valid response can continue
        self.env = env
        self.limits = limits
        self.format_penalty = format_penalty
        self.tags = tags
        self.phrasing = phrasing
        self.step_timeout = step_timeout
        self._ready = False
        self._start(None)

    def _start(self, seed: int | None) -> None:
        self._seed = seed
        self.observation = ""
        self.info: Mapping[str, Any] = {}
        self.turn_rewards: list[float] = []
        self.actions_used = 0
        self.stop_reason: StopReason | None = None
        self.error: EnvironmentFailure | None = None

    @property
    def turn(self) -> int:
        """Number of responses taken so far."""
        return len(self.turn_rewards)

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self.stop_reason is not None

    @property
    def total_reward(self) -> float:
        """Sum of the turn rewards."""
        return math.fsum(self.turn_rewards)

    @property
    def success(self) -> bool:
        """Whether the environment reported the task solved."""
        return self.stop_reason is StopReason.SUCCESS

    @property
    def outcomes(self) -> dict[str, bool]:
        """What the environment declares beyond success (`TextEnv.outcomes`), as of the last accepted action."""
        return {name: bool(self.info.get(name, False)) for name in self.env.outcomes}

    def reset(self, seed: int | None) -> list[Message]:
        """Begin a new episode.

        Args:
            seed: Seed handed to the environment's `reset`; the same seed gives the same task.

        Returns:
            The system message and the first user message, between them a worked turn where the phrasing has one
            (its response without the prefill); an empty list if the environment failed (`done` is then true and
            `error` says how).
        """
        self._start(seed)
        self._ready = True
        try:
            self.observation, self.info = call_within(self.step_timeout, lambda: self._reset(seed))
        except Exception as exception:  # any: recorded, counted, not trained on
            self._fail(exception, action=None)
            return []
        opening = opening_messages(self.env, self.limits, self.tags, self.phrasing)
        return [*opening, self._user_message()]

    def respond(self, text: str, *, cut_off_at: int | None = None) -> TurnResult:
        """Take one response and run its actions.

        Args:
            text: Decoded response without the prefill and without end-of-turn special tokens.
            cut_off_at: Tokens of the response if a length limit stopped it, its own or that of the episode; None if
                the turn ended by itself.

        Returns:
            The outcome of the turn.

        Raises:
            RuntimeError: If the episode has ended or was never reset.
        """
        if not self._ready or self.stop_reason is not None:
            state = f"has ended ({self.stop_reason.value})" if self.stop_reason else "has not begun"
            raise RuntimeError(f"Episode.respond: the episode {state}; call reset(seed) first")
        if cut_off_at is not None:
            parsed = ParsedResponse(False, text, [], f"cut off at {cut_off_at} tokens")
            self.stop_reason = StopReason.RESPONSE_CUT
        else:
            parsed = parse_response(text, self.tags)
        executed, reward, effective, refused = self._execute(parsed.actions)
        problem = parsed.problem or refused
        if problem is not None:
            reward += self.format_penalty
        self.turn_rewards.append(reward)
        self._check_budgets()
        return TurnResult(
            reward=reward,
            valid=problem is None and self.error is None,
            problem=problem,
            parsed=parsed.actions,
            actions=executed,
            effective_actions=effective,
            stop_reason=self.stop_reason,
            next_message=None if self.done else self._user_message(),
        )

    def stop(self, reason: StopReason) -> None:
        """End a running episode from outside, e.g. with `CONTEXT_FULL` when its next prompt does not fit.

        Args:
            reason: Recorded as `stop_reason`.

        Raises:
            RuntimeError: If the episode has ended or was never reset.
        """
        if not self._ready or self.stop_reason is not None:
            raise RuntimeError(f"Episode.stop({reason.value}): no episode is running")
        self.stop_reason = reason

    def close(self) -> None:
        """Close the environment; a failure counts as the environment's, in whatever way the episode had ended.

        An environment that did not return in time is left alone: its thread may still be in it.
        """
        if self.error is not None and self.error.type == EnvironmentTimeoutError.__name__:
            return
        try:
            call_within(self.step_timeout, self.env.close)
        except Exception as exception:  # any: recorded, counted, not trained on
            self._fail(exception, action=None, doing="close")

    def _execute(self, actions: list[str]) -> tuple[list[str], float, int, str | None]:
        """Run actions up to the budgets, the end of the task or the first refusal.

        Returns:
            The executed actions, the sum of their rewards, how many changed the state, and what was refused.
        """
        budget = self.limits.actions - self.actions_used
        if self.limits.actions_per_turn is not None:
            budget = min(budget, self.limits.actions_per_turn)
        executed: list[str] = []
        rewards: list[float] = []
        effective = 0
        try:
            for step in within(self.step_timeout, self._steps(actions[:budget])):
                self.observation = step.observation
                if not step.valid:
                    refused = f"the environment refuses the action {actions[len(executed)]!r}"
                    return executed, math.fsum(rewards), effective, refused
                checked_sum(self.env, [*self.turn_rewards, *rewards, step.reward])
                self.info = step.info
                self.actions_used += 1
                executed.append(actions[len(executed)])
                rewards.append(step.reward)
                effective += step.effective
                if step.ends:
                    self.stop_reason = StopReason.SUCCESS if step.success else StopReason.TERMINATED
        except Exception as exception:  # any: recorded, counted, not trained on
            self._fail(exception, action=actions[len(executed)])
        return executed, math.fsum(rewards), effective, None

    def _reset(self, seed: int | None) -> tuple[str, Mapping[str, Any]]:
        answer = checked_reset(self.env, seed)
        self._check_offers()
        return answer

    def _steps(self, actions: list[str]) -> Iterator[EnvironmentStep]:
        """Step the environment up to the end of the task or the first refusal; changes nothing of the episode."""
        for action in actions:
            step = checked_step(self.env, action)
            if step.valid and not step.ends:
                self._check_offers()
            yield step
            if step.ends or not step.valid:
                return

    def _check_offers(self) -> None:
        """Raise ValueError if the environment offers an action that no response can name."""
        for action in self.env.legal_actions():
            if not can_be_written(action, self.tags):
                raise ValueError(
                    f"{type(self.env).__name__} offers the action {action!r}, which no response can name: an action is "
                    f"not empty and holds neither {ACTION_SEPARATOR!r}, which separates actions, nor a tag "
                    f"({', '.join(self.tags.tags)}); let the environment write it in another way"
                )

    def _check_budgets(self) -> None:
        if self.stop_reason is not None:
            return
        if self.actions_used >= self.limits.actions:
            self.stop_reason = StopReason.ACTION_LIMIT
        elif self.turn >= self.limits.turns:
            self.stop_reason = StopReason.TURN_LIMIT

    def _fail(self, exception: Exception, *, action: str | None, doing: str = "reset") -> None:
        self.error = EnvironmentFailure(
            environment=type(self.env).__name__,
            type=type(exception).__name__,
            message=str(exception),
            seed=self._seed,
            action=action,
            call=doing,
        )
        self.stop_reason = StopReason.ENVIRONMENT_ERROR

    def _user_message(self) -> Message:
        previous_reward = self.turn_rewards[-1] if self.turn_rewards else None
        actions_left = self.limits.actions - self.actions_used
        content = user_message(
            self.turn + 1,
            self.observation,
            previous_reward,
            actions_left,
            self.limits,
            self.tags,
            self.phrasing.style,
        )
        if self.turn == 0 and self.phrasing.style.worked_turn:
            content = f"{TASK_BEGINS}\n{content}"
        return {"role": "user", "content": content}
