"""Everything about playing an episode, free of veRL and of files.

- `tags`: what a response's tags are; `prompts`: what a policy is shown; `grammar`: what counts as a response.
- `episode`: how these make an episode, in text; `outcomes`: what comes of a turn.
- `tokens`: an episode's tokens: prompts that are only ever appended to, lengths, masks.
- `player`: an episode in tokens: prompt → somebody answers → text, spans, turn → next prompt.
- `record`: what is kept of an episode, and what many of them come to; `clusters`: how often a set of tasks is solved.

Training, `actfocus eval`, `actfocus play` with a model and the warm start drive the same `Player`; who writes text
(a person, an expert, a demonstration) drives the `Episode` in it. What this module exports needs neither torch nor
transformers; `tokens`, `player`, `record` and `clusters` are imported by their names.
"""

from verl_actfocus.episodes.episode import Episode
from verl_actfocus.episodes.grammar import ParsedResponse, parse_response, write_response
from verl_actfocus.episodes.outcomes import EnvironmentFailure, StopReason, TurnResult
from verl_actfocus.episodes.prompts import Message, format_instruction, system_message, user_message
from verl_actfocus.episodes.tags import STANDARD_TAGS, TagSettings

__all__ = [
    "STANDARD_TAGS",
    "EnvironmentFailure",
    "Episode",
    "Message",
    "ParsedResponse",
    "StopReason",
    "TagSettings",
    "TurnResult",
    "format_instruction",
    "parse_response",
    "system_message",
    "user_message",
    "write_response",
]
