"""Prompt styles: what each shows, that an expert wrote it, and that a worked turn is prompt like any other."""

from __future__ import annotations

import dataclasses

import pytest

from verl_actfocus import envs, models
from verl_actfocus.envs import EpisodeLimits
from verl_actfocus.episodes import STANDARD_TAGS, Episode, TagSettings, parse_response
from verl_actfocus.episodes.phrasing import BRIEF, PROMPT_STYLES, Phrasing, WorkedTurn, prompt_style
from verl_actfocus.episodes.player import Player
from verl_actfocus.episodes.tokens import ChatML, Lengths, conversation
from verl_actfocus.episodes.worked_turns import SEED, phrasing_of
from verl_actfocus.evaluation.tokenizers import load_tokenizer
from verl_actfocus.tagging import SpanTagger

from .conftest import LIMITS, ScriptedEnv

TURN = WorkedTurn(observation="state 7", reasoning="Both are good.", actions=("go 1", "go 2"))
LINE = "Format: <think>reasoning</think><answer>action || action</answer> and nothing else."
EXAMPLE = "Both are good.</think><answer>go 1 || go 2</answer>"


def opened(name: str, tags: TagSettings = STANDARD_TAGS) -> list[dict[str, str]]:
    """The messages before the first response of an episode that is phrased so."""
    turn = TURN if prompt_style(name).shows_expert else None
    return Episode(ScriptedEnv(), LIMITS, tags=tags, phrasing=Phrasing(name=name, worked_turn=turn)).reset(0)


def test_the_brief_style_is_what_an_episode_shows_unless_another_is_asked_for() -> None:
    assert opened(BRIEF) == Episode(ScriptedEnv(), LIMITS).reset(0)
    assert [message["role"] for message in opened(BRIEF)] == ["system", "user"]


def test_placeholders_stand_in_brackets_in_the_line_of_the_format_and_nothing_else_differs() -> None:
    brief, bracketed = opened(BRIEF), opened("placeholders")
    line = "Format: <think>[your reasoning]</think><answer>[action] || [action]</answer> and nothing else."
    assert bracketed[0] == brief[0]
    assert bracketed[1]["content"] == brief[1]["content"].replace(LINE, line) != brief[1]["content"]


def test_an_example_is_a_whole_response_at_the_end_of_the_system_message() -> None:
    system, user = opened("example")
    assert system["content"] == f"{ScriptedEnv.rules}\nExample of a response: <think>{EXAMPLE}"
    assert user == opened(BRIEF)[1]


@pytest.mark.parametrize(("name", "lines"), [("worked_turn", 1), ("worked_turn_only", 0)])
def test_a_worked_turn_is_another_state_and_a_response_before_the_first_state(name: str, lines: int) -> None:
    system, asked, answered, user = opened(name)
    assert system == opened(BRIEF)[0]
    assert asked["content"].startswith("Turn 1\nstate 7\nActions left: 4\n")
    assert answered == {"role": "assistant", "content": EXAMPLE}, "without the prefill, like every response"
    assert user["content"].startswith("That was an example. Your task begins here.\nTurn 1\nstate 0\n")
    assert [message["content"].count(LINE) for message in (asked, user)] == [lines, lines]
    assert "At most 2 actions, at most 50 words." in user["content"]


@pytest.mark.parametrize("name", [name for name, style in PROMPT_STYLES.items() if style.worked_turn])
def test_later_turns_do_not_begin_the_task_again(name: str) -> None:
    episode = Episode(ScriptedEnv(), LIMITS, phrasing=Phrasing(name=name, worked_turn=TURN))
    episode.reset(0)
    later = episode.respond(EXAMPLE).next_message
    assert later is not None and later["content"].startswith("Reward of the last turn: 3\nTurn 2\n")


def test_a_worked_turn_is_written_in_the_tags_that_are_asked_for() -> None:
    tags = TagSettings(action=("<act>", "</act>"), reasoning=("<why>", "</why>"), prefill="")
    response = opened("worked_turn", tags)[2]["content"]
    assert response == "<why>Both are good.</why><act>go 1 || go 2</act>"
    assert parse_response(response, tags).actions == list(TURN.actions)


def test_the_tokens_of_a_worked_turn_are_prompt_and_read_like_a_turn_that_was_played() -> None:
    tokenizer = load_tokenizer(str(models.folder("frozenlake") / "tokenizer"))
    prompts, tagger = ChatML(tokenizer, "<think>"), SpanTagger(tokenizer, **dataclasses.asdict(STANDARD_TAGS))
    episode = Episode(ScriptedEnv(), LIMITS, phrasing=Phrasing(name="worked_turn", worked_turn=TURN))
    player = Player(episode, prompts, tagger, Lengths(prompt=900, response=900))
    player.begin(0)
    text = tokenizer.decode(player.prompt)
    assert text.count(f"<|im_start|>assistant\n<think>{EXAMPLE}<|im_end|>\n") == 1
    assert text.endswith("<|im_start|>assistant\n<think>")
    assert player.tokens.prompt_length == len(player.prompt)
    assert (player.tokens.mask, player.tokens.spans, player.tokens.log_probs) == ([], [], [])
    assert [message["role"] for message in player.messages] == ["system", "user", "assistant", "user"]
    assert player.messages[2]["content"] == f"<think>{EXAMPLE}"

    # The same response once more, this time sampled: the same tokens, and only these are of a span.
    before = player.prompt
    player.answer(prompts.response(EXAMPLE), cut_off=False)
    worked = conversation(prompts, opened("worked_turn"))
    sampled = [token for token, mask in zip(worked[0], worked[1], strict=True) if mask]
    assert player.tokens.ids[len(before) :][: len(sampled)] == sampled == prompts.response(EXAMPLE)
    assert sum(player.tokens.mask) == len(sampled)


@pytest.mark.parametrize("name", ["frozenlake", "sokoban", "sudoku", "webshop"])
def test_a_worked_turn_is_what_the_expert_does_in_a_task_that_is_nobody_elses(name: str) -> None:
    limits = envs.spec(name).limits
    turn = phrasing_of("worked_turn", name, {}, limits).worked_turn
    env = envs.make(name)
    observation, _ = env.reset(seed=SEED)
    assert turn is not None and turn.observation == observation
    assert turn.actions[0] == envs.expert(name)(env)
    assert all(action in turn.reasoning for action in turn.actions)
    assert phrasing_of("worked_turn", name, {}, limits).worked_turn == turn, "the same words every time"
    assert SEED > 1_000_000 + 2**31, "beyond the seeds of training and of demonstrations"


def test_a_style_that_shows_nothing_makes_no_environment() -> None:
    assert phrasing_of(BRIEF, "no such environment", {}, LIMITS) == Phrasing()


def test_an_unknown_style_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(
        ValueError, match="unknown prompt style 'chatty': known are brief, placeholders, example, worked"
    ):
        phrasing_of("chatty", "frozenlake", {}, LIMITS)


def test_a_style_and_its_worked_turn_belong_together() -> None:
    with pytest.raises(ValueError, match="'worked_turn' needs a worked turn"):
        Phrasing(name="worked_turn")
    with pytest.raises(ValueError, match="'brief' shows no worked turn"):
        Phrasing(worked_turn=TURN)


def test_an_environment_without_an_expert_is_refused_where_a_style_shows_one(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = dataclasses.replace(envs.spec("frozenlake"), expert=None)
    monkeypatch.setitem(envs.ENVIRONMENTS, "frozenlake", entry)
    with pytest.raises(ValueError, match="'example' shows what an expert does, and environment 'frozenlake' has no"):
        phrasing_of("example", "frozenlake", {}, EpisodeLimits(turns=1, actions_per_turn=1, actions=1, words=9))


def test_a_phrasing_survives_the_way_through_plain_values() -> None:
    for phrasing in (Phrasing(), Phrasing(name="example", worked_turn=TURN)):
        assert Phrasing.from_dict(dataclasses.asdict(phrasing)) == phrasing
