"""The words around a state: what a policy is shown at the start and before each turn.

The system message holds an environment's rules; a user message holds what changes from turn to turn (the
contents of both after He et al. 2026, App. C; the wording is this project's). Every sentence that does not
change within an environment stands on a line, or between two tags, of its own, so that a small tokenizer can
hold each as one token.
"""

from __future__ import annotations

from verl_actfocus.envs.base import ACTION_SEPARATOR, EpisodeLimits, TextEnv
from verl_actfocus.episodes.grammar import write_response
from verl_actfocus.episodes.phrasing import BRIEF, Phrasing, PromptStyle, WorkedTurn, prompt_style
from verl_actfocus.episodes.tags import STANDARD_TAGS, TagSettings

Message = dict[str, str]
"""One chat message, `{"role": …, "content": …}`, as `apply_chat_template` takes it."""
#: Stands before the first state where a worked turn came before it.
TASK_BEGINS = "That was an example. Your task begins here."
_BRIEF = prompt_style(BRIEF)


def opening_messages(env: TextEnv, limits: EpisodeLimits, tags: TagSettings, phrasing: Phrasing) -> list[Message]:
    """Return what stands before the first state: the system message, and a worked turn where the style has one.

    Args:
        env: Environment whose rules are shown.
        limits: Budgets of the episode.
        tags: What a response looks like.
        phrasing: The style, and its worked turn.

    Returns:
        The messages; the response of a worked turn has no prefill.
    """
    style, turn = phrasing.style, phrasing.worked_turn
    system = system_message(env)
    if turn is not None and style.example:
        system += f"\nExample of a response: {tags.prefill}{_response(turn, tags)}"
    messages = [{"role": "system", "content": system}]
    if turn is not None and style.worked_turn:
        asked = user_message(1, turn.observation, None, limits.actions, limits, tags, style)
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": _response(turn, tags)}]
    return messages


def _response(turn: WorkedTurn, tags: TagSettings) -> str:
    return write_response(f" {ACTION_SEPARATOR} ".join(turn.actions), turn.reasoning, tags=tags)


def system_message(env: TextEnv) -> str:
    """Return the system message of `env`: its rules, symbols and actions.

    Args:
        env: Environment whose `rules` are shown.

    Returns:
        The text of the system message.

    Raises:
        ValueError: If the environment's rules are empty.
    """
    if not env.rules.strip():
        raise ValueError(
            f"{type(env).__name__}.rules is empty: a policy would not know the task; write the rules there"
        )
    return env.rules


def format_instruction(limits: EpisodeLimits, tags: TagSettings = STANDARD_TAGS, style: PromptStyle = _BRIEF) -> str:
    """Return the lines that ask for the response format; constant within an environment.

    Args:
        limits: Budgets of the episode; `actions_per_turn` and `words` are stated.
        tags: The tags that are asked for.
        style: How they are asked for.

    Returns:
        The line of the format where the style has it, and one of the limits, without a line break at the end.
    """
    reasoning, action = ("[your reasoning]", "[action]") if style.placeholders else ("reasoning", "action")
    answer = action if limits.actions_per_turn == 1 else f"{action} {ACTION_SEPARATOR} {action}"
    if limits.actions_per_turn == 1:
        count = "One action"
    elif limits.actions_per_turn is None:
        count = "Any number of actions"
    else:
        count = f"At most {limits.actions_per_turn} actions"
    (opening, closing), (before, after) = tags.reasoning, tags.around_action
    line = f"Format: {opening}{reasoning}{closing}{before}{answer}{after} and nothing else.\n"
    return f"{line if style.format_line else ''}{count}, at most {limits.words} words."


def user_message(
    turn: int,
    observation: str,
    previous_reward: float | None,
    actions_left: int,
    limits: EpisodeLimits,
    tags: TagSettings = STANDARD_TAGS,
    style: PromptStyle = _BRIEF,
) -> str:
    """Return the user message that opens a turn.

    Args:
        turn: Number of the turn, from 1.
        observation: Text of the state, as the environment returned it.
        previous_reward: Reward of the turn before; `None` exactly on turn 1.
        actions_left: Environment actions that the episode may still execute.
        limits: Budgets of the episode.
        tags: The tags that are asked for.
        style: How they are asked for.

    Returns:
        The text of the user message, without a line break at its end.

    Raises:
        ValueError: If `turn` is below 1, or a reward is given on turn 1 or missing after it.

    Example:
        >>> limits = EpisodeLimits(turns=5, actions_per_turn=2, actions=10, words=120)
        >>> print(user_message(2, "P_G", 0.0, 8, limits))
        Reward of the last turn: 0
        Turn 2
        P_G
        Actions left: 8
        Format: <think>reasoning</think><answer>action || action</answer> and nothing else.
        At most 2 actions, at most 120 words.
    """
    if turn < 1:
        raise ValueError(f"turn is {turn}: turns are counted from 1")
    if (previous_reward is None) != (turn == 1):
        raise ValueError(f"previous_reward is {previous_reward} on turn {turn}: None on turn 1, a number after")
    lines = [f"Turn {turn}", observation, f"Actions left: {actions_left}", format_instruction(limits, tags, style)]
    if previous_reward is not None:
        # Adding 0.0 turns a negative zero into the plain one; "g" hides the rounding residue of sums.
        lines.insert(0, f"Reward of the last turn: {previous_reward + 0.0:g}")
    return "\n".join(lines)


def shown(message: Message, prefill: str) -> Message:
    """Return a message as a model sees it: with the prefill if it is a response."""
    return {**message, "content": prefill + message["content"]} if message["role"] == "assistant" else message
