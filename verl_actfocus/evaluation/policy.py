"""Who answers prompts in an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from verl_actfocus.episodes import TagSettings
from verl_actfocus.episodes.tokens import Lengths, PromptBuilder
from verl_actfocus.generation.sampling import SamplingParams


@dataclass(frozen=True)
class Answer:
    """A response, or why there is none.

    Attributes:
        ids: Sampled tokens, the end of turn included if it was reached.
        cut_off: Whether the length limit came first.
        error: What went wrong, in words; None if the response is one. It says nothing about the model.
        lost: Whether no further prompt will be answered either.
        log_probs: Log-probability that each token was sampled with; None if it is not known.
    """

    ids: Sequence[int] = ()
    cut_off: bool = False
    error: str | None = None
    lost: bool = False
    log_probs: Sequence[float] | None = None


@contextmanager
def closing(policy: Policy) -> Iterator[None]:
    """Close a policy after the block; what goes wrong with that does not hide what went wrong in the block."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            policy.close()
        raise
    policy.close()


class Policy(Protocol):
    """Answers many prompts at a time.

    Attributes:
        tokenizer: Encodes prompts and decodes responses.
        context: Most tokens of prompt and response together; None if it is not known.
    """

    tokenizer: PreTrainedTokenizerBase
    context: int | None

    def prompts(self, tags: TagSettings, template: Mapping[str, Any]) -> PromptBuilder:
        """Return the builder of this model's prompts.

        Args:
            tags: what a response looks like.
            template: arguments of the chat template.

        Raises:
            ValueError: the model's chat template cannot be played with.
        """

    def identity(self) -> dict[str, Any]:
        """Return what tells this model from another, as plain values."""

    def notes(self) -> dict[str, Any]:
        """Return what else the summary should say of this model; it may differ when an evaluation is continued."""

    def begin(self, lengths: Lengths, at_once: int) -> None:
        """Get ready to answer up to `at_once` prompts at a time, of episodes of these lengths."""

    def ask(self, key: str, prompt: Sequence[int], sampling: SamplingParams) -> None:
        """Put a prompt to the model; the answer comes under its key."""

    def answers(self) -> dict[str, Answer]:
        """Wait until at least one prompt is answered; return all answers that are there. Something must be asked."""

    def close(self) -> None:
        """Let go of what was taken; prompts that are not answered yet are dropped."""
