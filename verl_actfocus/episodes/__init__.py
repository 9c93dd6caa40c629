"""The turn protocol between a text environment and a policy, free of veRL, torch and tokens.

``prompts`` says what a policy is shown, ``parsing`` what counts as a response, ``episode`` how the two make
an episode, ``outcomes`` what comes of it, ``clusters`` how often a set of tasks is solved. Rollout, evaluation, play
and demonstrations all go through ``Episode``, so they cannot drift apart.
"""

from verl_actfocus.episodes.episode import Episode
from verl_actfocus.episodes.outcomes import EnvironmentFailure, StopReason, TurnResult
from verl_actfocus.episodes.parsing import ParsedResponse, parse_response
from verl_actfocus.episodes.prompts import Message, format_instruction, system_message, user_message

__all__ = [
    "EnvironmentFailure",
    "Episode",
    "Message",
    "ParsedResponse",
    "StopReason",
    "TurnResult",
    "format_instruction",
    "parse_response",
    "system_message",
    "user_message",
]
