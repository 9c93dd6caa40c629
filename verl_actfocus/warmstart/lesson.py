"""What a pretrained model is taught: the miniature of an environment, in the model's own tokens and template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.episodes import STANDARD_TAGS
from verl_actfocus.episodes.phrasing import Phrasing
from verl_actfocus.episodes.tokens import Lengths, PromptBuilder, conversation
from verl_actfocus.episodes.worked_turns import phrasing_of
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.warmstart.demonstrations import FIRST_TRAINING_SEED, demonstrate

#: What demonstrations are written in.
TAGS = STANDARD_TAGS
#: Demonstrations whose responses and whole lengths are looked at before anything is trained.
_LOOKED_AT = 64
#: A budget of response tokens is a multiple of this, and leaves at least so many beyond the longest response.
_STEP, _ROOM = 16, 8


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A task and how it is put to a model.

    Attributes:
        task: The miniature; its budget of response tokens is for the model's tokenizer.
        prompt_style: How the prompts ask for the response format.
        template: Arguments of the chat template.
        most_tokens: Most tokens of an episode in an evaluation.
    """

    task: Miniature
    prompt_style: str
    template: Mapping[str, Any] = field(default_factory=dict)
    most_tokens: int

    def phrasing(self) -> Phrasing:
        """Return the style with what it shows of the task."""
        return phrasing_of(self.prompt_style, self.task.environment, self.task.options, self.task.limits)

    def evaluation(self, temperature: float, episodes: int) -> EvaluationSettings:
        """Return how the model is measured: the first seeds, once each.

        Args:
            temperature: Of the sampling; 0 takes the most likely token.
            episodes: Number of episodes, below the first seed of the demonstrations.
        """
        return EvaluationSettings(
            environment=self.task.environment,
            options=self.task.options_in_evaluation,
            training_options=self.task.options,
            limits=self.task.limits,
            lengths=Lengths(prompt=self.most_tokens, response=self.most_tokens, total=self.most_tokens),
            tasks=min(episodes, FIRST_TRAINING_SEED),
            samples=1,
            temperature=temperature,
            prompt_style=self.prompt_style,
            template=self.template,
        )


def prepare(
    task: Miniature,
    prompts: PromptBuilder,
    *,
    prompt_style: str,
    template: Mapping[str, Any],
    response_tokens: int | None,
    seed: int,
) -> Lesson:
    """Look at some demonstrations in a model's tokens and set the budgets by them.

    Args:
        task: The miniature of an environment, its budgets made for its tiny model's tokenizer.
        prompts: Makes the prompts of the model.
        prompt_style: How the prompts ask for the response format.
        template: Arguments of the chat template.
        response_tokens: Most tokens of a response; None leaves a little room beyond the longest.
        seed: Seed of the demonstrations.

    Raises:
        ValueError: A demonstrated response is longer than it may be, or the style does not suit the environment.
    """
    phrasing = phrasing_of(prompt_style, task.environment, task.options, task.limits)
    env = task.make_env()
    played = [demonstrate(task, env, seed=seed, index=index, phrasing=phrasing) for index in range(_LOOKED_AT)]
    responses = [message["content"] for one in played for message in one.messages[one.opening :: 2]]
    longest = max(len(prompts.response(text)) for text in responses)
    if response_tokens is None:
        response_tokens = -(-(longest + _ROOM) // _STEP) * _STEP
    elif response_tokens < longest:
        raise ValueError(
            f"a demonstrated response has {longest} of this model's tokens, and --response-tokens allows "
            f"{response_tokens}; allow at least {longest}, or leave it out"
        )
    whole = max(len(conversation(prompts, one.messages)[0]) for one in played)
    limits = replace(task.limits, response_tokens=response_tokens)
    return Lesson(
        task=replace(task, limits=limits),
        prompt_style=prompt_style,
        template=dict(template),
        most_tokens=whole + limits.turns * response_tokens,
    )
