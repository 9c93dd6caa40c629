"""How a prompt asks for the response format: the styles that there are.

A model that was taught a format needs one line. A pretrained model has to see it: as an example in the system message,
as placeholders to fill in, or as a worked turn that stands before the first one as if it had been played. A worked turn
is prompt: its tokens belong to no span and are never trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class PromptStyle:
    """What one style shows beside the rules and the states."""

    #: What a list of the styles says about it.
    summary: str
    #: Whether the line of the format marks what is to be filled in.
    placeholders: bool = False
    #: Whether the line of the format is there at all.
    format_line: bool = True
    #: Whether the system message ends with a whole response.
    example: bool = False
    #: Whether a turn of another task stands before the first one.
    worked_turn: bool = False

    @property
    def shows_expert(self) -> bool:
        """Whether the environment's expert has to write a response."""
        return self.example or self.worked_turn


#: Value of `data.environment.prompt_style` and of `--prompt-style` → the style.
PROMPT_STYLES: dict[str, PromptStyle] = {
    "brief": PromptStyle(summary="the format in one line; what the tiny models were taught"),
    "placeholders": PromptStyle(
        summary="the format in one line, what is to be filled in stands in brackets", placeholders=True
    ),
    "example": PromptStyle(summary="the line, and an example of a whole response in the system message", example=True),
    "worked_turn": PromptStyle(
        summary="the line, and a worked turn of another task before the first one", worked_turn=True
    ),
    "worked_turn_only": PromptStyle(
        summary="a worked turn of another task before the first one, and no line", worked_turn=True, format_line=False
    ),
}
BRIEF = "brief"


def prompt_style(name: str) -> PromptStyle:
    """Look a style up.

    Raises:
        ValueError: There is no style of that name; the message lists those there are.
    """
    if name not in PROMPT_STYLES:
        raise ValueError(f"unknown prompt style {name!r}: known are {', '.join(PROMPT_STYLES)}")
    return PROMPT_STYLES[name]


@dataclass(frozen=True, kw_only=True)
class WorkedTurn:
    """A state of another task and what the environment's expert does in it, in no particular tags."""

    #: Text of the state.
    observation: str
    #: What the response thinks.
    reasoning: str
    #: What the response does, in order.
    actions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Phrasing:
    """A style with all that it shows of an environment.

    Raises:
        ValueError: The style is unknown, or lacks the worked turn that it shows.

    Example:
        >>> Phrasing().style.summary
        'the format in one line; what the tiny models were taught'
    """

    #: Name of the style.
    name: str = BRIEF
    #: The turn that the style shows; None for a style that shows none.
    worked_turn: WorkedTurn | None = None

    def __post_init__(self) -> None:
        if self.style.shows_expert != (self.worked_turn is not None):
            needed = "needs a worked turn" if self.style.shows_expert else "shows no worked turn"
            raise ValueError(
                f"prompt style {self.name!r} {needed}: make it with verl_actfocus.episodes.worked_turns.phrasing_of"
            )

    @property
    def style(self) -> PromptStyle:
        """The style."""
        return prompt_style(self.name)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Phrasing:
        """Read what `dataclasses.asdict` made of a phrasing."""
        turn = values["worked_turn"]
        worked = None if turn is None else WorkedTurn(**{**turn, "actions": tuple(turn["actions"])})
        return cls(name=values["name"], worked_turn=worked)


STANDARD_PHRASING: Final = Phrasing()
"""The brief style, of which nothing has to be made."""
