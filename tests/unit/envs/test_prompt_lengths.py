"""`actfocus prompt-lengths`: the tokens that a model would be shown, counted by hand on the side."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from verl_actfocus import envs, models
from verl_actfocus.cli.main import main
from verl_actfocus.cli.prompt_lengths import measure
from verl_actfocus.envs import EpisodeLimits, TextEnv
from verl_actfocus.envs.base import step_info
from verl_actfocus.episodes import Episode
from verl_actfocus.episodes.prompts import user_message

LIMITS = EpisodeLimits(turns=4, actions_per_turn=1, actions=4, words=10)
END = -1


class Growing(TextEnv):
    """A page that grows by one character with every step; the episode is over at four."""

    rules = "Grow."

    def legal_actions(self) -> list[str]:
        return ["grow"]

    def render(self) -> str:
        return "x" * self.size

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        assert seed is not None
        self.size = seed
        return self.render(), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.size += 1
        return self.render(), 0.0, self.size == 4, False, step_info(valid=True, effective=True, success=False)


class Characters:
    """One token a character, and two around a later message."""

    def first(self, messages):
        return [0] * sum(len(message["content"]) for message in messages)

    def following(self, ids, messages, message):
        assert ids[-1] == END and [one["role"] for one in messages] == ["system", "user"]
        return [0] * (len(message["content"]) + 2)


def test_first_prompts_later_messages_and_their_sum_are_counted_episode_by_episode():
    found = measure("growing", Growing(), LIMITS, Characters(), END, 3, "random")

    def page(turn: int, size: int) -> int:
        return len(user_message(turn, "x" * size, None if turn == 1 else 0.0, 5 - turn, LIMITS))

    assert found.first == [len("Grow.") + page(1, seed) for seed in range(3)]
    # Seed s starts with s characters, and the step that reaches four has no message behind it.
    later = [[page(turn, seed + turn - 1) + 2 for turn in range(2, 5 - seed)] for seed in range(3)]
    assert found.later == [tokens for episode in later for tokens in episode]
    assert found.together == [sum(episode) for episode in later]


def test_what_the_pages_leave_is_shared_by_the_responses():
    found = measure("growing", Growing(), LIMITS, Characters(), END, 3, "random")
    # Seed s takes 4 - s responses to grow to four.
    assert found.turns == [4, 3, 2]
    assert found.left(1000) == [
        (1000 - sum(found.together[:1])) // 4,
        *((1000 - found.together[s]) // (4 - s) for s in (1, 2)),
    ]
    assert max(found.left(10)) < 0


def test_the_room_of_an_environment_is_that_of_its_recipes_or_what_was_asked_for(capsys):
    folder = models.folder("sudoku") / "tokenizer"
    words = ["prompt-lengths", "--tokenizer", str(folder), "--env", "sudoku", "--episodes", "2"]
    assert main([*words, "--response-length", "100"]) == 0
    printed = capsys.readouterr().out
    assert "left for a response, of 100" in printed and "2 of 2 episodes would end" in printed


def test_a_row_is_what_the_models_tokenizer_makes_of_the_messages(capsys):
    folder = models.folder("sokoban") / "tokenizer"
    assert main(["prompt-lengths", "--tokenizer", str(folder), "--env", "sokoban", "--episodes", "3"]) == 0
    *lines, room = capsys.readouterr().out.splitlines()[1:]
    rows = [line.rsplit(maxsplit=3) for line in lines]
    assert [row[0].split(maxsplit=1) for row in rows] == [
        ["sokoban", "the first prompt"],
        ["sokoban", "a later message"],
        ["sokoban", "an episode's later messages"],
        ["sokoban", "left for a response, of 3200"],
    ]
    said = "would end for want of room (response_cut or context_full) if every response had all of its 400 tokens"
    assert f"of 3 episodes {said}" in room
    tokenizer, episode = (
        AutoTokenizer.from_pretrained(folder),
        Episode(envs.make("sokoban"), envs.spec("sokoban").limits),
    )
    lengths = []
    for seed in range(3):
        text = tokenizer.apply_chat_template(episode.reset(seed), tokenize=False, add_generation_prompt=True)
        lengths.append(len(tokenizer.encode(f"{text}<think>", add_special_tokens=False)))
    assert [int(value) for value in rows[0][1:]] == sorted(lengths)


def test_a_worked_turn_is_counted_in_the_first_prompt_alone(capsys):
    folder = models.folder("sokoban") / "tokenizer"
    rows = {}
    for style in ("brief", "worked_turn"):
        words = ["--tokenizer", str(folder), "--env", "sokoban", "--episodes", "3", "--prompt-style", style]
        assert main(["prompt-lengths", *words]) == 0
        rows[style] = [line.rsplit(maxsplit=3)[1:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert all(int(more) > int(less) + 20 for more, less in zip(rows["worked_turn"][0], rows["brief"][0], strict=True))
    assert rows["worked_turn"][1:] == rows["brief"][1:]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tokenizer", "no/such/folder"], "no/such/folder: there is no such folder"),
        (["--tokenizer", "outputs/nowhere"], "outputs/nowhere: there is no such folder"),
        (["--tokenizer", "x", "--turns", "3"], "name it with --env"),
        (["--tokenizer", "x", "--env", "chess"], "unknown environment 'chess'"),
    ],
)
def test_what_can_be_corrected_is_one_sentence(words, message, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read from the environment on import
    assert main(["prompt-lengths", *words]) == 2
    assert message in capsys.readouterr().err
