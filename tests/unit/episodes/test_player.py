"""The player: append-only tokens, one reading of a response, budgets, and ends, driven by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from verl_actfocus.envs.base import EpisodeLimits
from verl_actfocus.episodes import Episode, Message, TagSettings
from verl_actfocus.episodes.player import Player
from verl_actfocus.episodes.tokens import EpisodeTokens, Lengths
from verl_actfocus.weighting import Span

from .conftest import ScriptedEnv, answer

N, R, A = Span.NONE, Span.REASONING, Span.ACTION
LIMITS = EpisodeLimits(turns=3, actions_per_turn=2, actions=4, words=50, response_tokens=60)
END = 0


class Characters:
    """One token a character, a generation prompt of one token."""

    def first(self, messages: Sequence[Message]) -> list[int]:
        return [ord(letter) for message in messages for letter in message["content"]] + [1]

    def following(self, ids: Sequence[int], messages: Sequence[Message], message: Message) -> list[int]:
        return [ord(letter) for letter in message["content"]] + [1]


class Reader:
    """Action is what stands in capitals."""

    def __init__(self) -> None:
        self.read_texts: list[str] = []

    def read(self, token_ids: Sequence[int]) -> tuple[str, list[Span]]:
        text = "".join(chr(token) for token in token_ids if token != END)
        self.read_texts.append(text)
        return text, [N if token == END else A if chr(token).isupper() else R for token in token_ids]


def player(lengths: Lengths | None = None, env: ScriptedEnv | None = None) -> Player:
    episode = Episode(env or ScriptedEnv(), LIMITS, tags=TagSettings())
    return Player(episode, Characters(), Reader(), lengths or Lengths(prompt=500, response=2000))


def ids(text: str) -> list[int]:
    return [*map(ord, text), END]


def test_what_was_sampled_stands_unchanged_in_every_later_prompt() -> None:
    playing = player()
    playing.begin(1)
    before: list[int] = []
    for text in (answer("go 1"), "prose", answer("go 2")):
        assert playing.prompt[: len(before)] == before
        before = playing.prompt + ids(text)
        playing.answer(ids(text), cut_off=False, log_probs=[-0.5] * len(ids(text)))
    assert playing.done and playing.tokens.ids == before
    tokens = playing.tokens
    sampled = [token for token, mask in zip(tokens.ids[tokens.prompt_length :], tokens.mask, strict=True) if mask]
    assert sampled == [token for text in (answer("go 1"), "prose", answer("go 2")) for token in ids(text)]
    assert len(tokens.spans) == len(tokens.log_probs) == len(tokens.mask)
    assert all(span == N for span, mask in zip(tokens.spans, tokens.mask, strict=True) if not mask)
    ends = [tokens.ids[tokens.prompt_length :][end] for end in tokens.turn_ends]
    assert ends == [END] * 3 and playing.has_log_probs


def test_a_response_is_read_once_and_the_record_holds_what_was_read() -> None:
    playing = player()
    playing.begin(1, sample=7)
    turn = playing.answer(ids(answer("go 1", "WAIT")), cut_off=False)
    assert playing._reader.read_texts == [turn.text] == [answer("go 1", "WAIT")]
    assert (turn.parsed, turn.executed, turn.valid) == (["go 1", "WAIT"], ["go 1"], False)
    assert (turn.tokens, turn.action_tokens) == (len(turn.text) + 1, 4)
    assert turn.reasoning_tokens == len(turn.text) - 4
    assert not playing.has_log_probs
    playing.answer(ids(answer("win 10")), cut_off=False)
    record = playing.record()
    assert (record.task, record.sample, record.success, record.stop_reason) == (1, 7, True, "success")
    assert record.reward == pytest.approx(1 - 0.1 + 10) and record.failure is None
    assert [message["role"] for message in record.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert record.messages[-1]["content"] == "<think>" + answer("win 10")


def test_a_response_that_was_cut_off_executes_nothing_and_ends_the_episode() -> None:
    playing = player()
    playing.begin(1)
    cut = ids(answer("win 10"))[:-1]
    turn = playing.answer(cut, cut_off=True)
    assert (turn.parsed, turn.executed, turn.valid) == ([], [], False)
    # However many the limit of a turn is: what is left of the episode may be less.
    assert turn.problem == f"cut off at {len(cut)} tokens"
    assert playing.done and playing.record().stop_reason == "response_cut"


@pytest.mark.parametrize("total", [None, 330])
def test_the_budget_of_a_turn_is_the_smaller_of_its_own_and_what_is_left(total: int | None) -> None:
    tokens = EpisodeTokens(Characters(), Lengths(prompt=300, response=100, total=total), turn_tokens=60)
    assert tokens.open([{"role": "user", "content": "x" * 249}]) is None
    assert tokens.max_tokens == 60
    tokens.add_response([5] * 55, [N] * 55, [0.0] * 55)
    assert tokens.add_message({"role": "user", "content": "y"})
    left = 100 - 57 if total is None else 330 - 250 - 57
    assert tokens.max_tokens == left
    before = list(tokens.ids)
    assert not tokens.add_message({"role": "user", "content": "z" * left})
    assert tokens.ids == before


@pytest.mark.parametrize(
    ("lengths", "problem"),
    [
        (Lengths(prompt=5, response=100), "at most 5 are allowed; raise data.max_prompt_length"),
        (Lengths(prompt=500, response=100, total=20), "which fill the 20 of the model's context"),
    ],
)
def test_a_first_prompt_that_does_not_fit_is_not_the_models_doing(lengths: Lengths, problem: str) -> None:
    playing = player(lengths)
    playing.begin(1)
    record = playing.record()
    assert record.stop_reason == "prompt_too_long" and record.turns == []
    assert record.failure is not None and problem in record.failure


def test_a_later_prompt_that_does_not_fit_ends_the_episode_as_the_models_doing() -> None:
    playing = player(Lengths(prompt=500, response=70))
    playing.begin(1)
    playing.answer(ids(answer("go 1")), cut_off=False)
    record = playing.record()
    assert (record.stop_reason, record.failure) == ("context_full", None)
    assert record.messages[-1]["role"] == "assistant"
    assert playing.tokens.mask[-1] == 1


def test_what_fails_for_others_reasons_is_said() -> None:
    playing = player()
    playing.begin(1)
    playing.abort("the server is gone")
    assert (playing.record().stop_reason, playing.failure) == ("rollout_aborted", "the server is gone")
    playing = player(env=ScriptedEnv(broken_reset=True))
    playing.begin(1)
    assert (
        playing.done and playing.failure == "the environment ScriptedEnv failed on reset with OSError: no map on disk"
    )
    playing = player()
    playing.begin(1)
    playing.answer(ids(answer("raise")), cut_off=False)
    assert playing.record().failure == "the environment ScriptedEnv failed on action 'raise' with KeyError: 'lost tile'"


def test_tokens_spans_and_log_probabilities_come_in_step() -> None:
    tokens = EpisodeTokens(Characters(), Lengths(prompt=9, response=9), turn_tokens=9)
    with pytest.raises(ValueError, match="2 tokens came with 1 spans and 2 log-probabilities"):
        tokens.add_response([1, 2], [N], [0.0, 0.0])


def test_an_unfinished_episode_has_no_record() -> None:
    playing = player()
    playing.begin(1)
    with pytest.raises(RuntimeError, match="seed 1 has not ended"):
        playing.record()
