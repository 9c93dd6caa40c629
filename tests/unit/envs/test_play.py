"""`actfocus play`: what is shown is what a model sees, whoever plays."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from transformers import Qwen2Config, Qwen2ForCausalLM

from verl_actfocus import envs, models
from verl_actfocus.cli import play
from verl_actfocus.cli._policies import Human, PlayingModel
from verl_actfocus.episodes import Episode, StopReason, TagSettings
from verl_actfocus.episodes.action_policy import ActionPolicy
from verl_actfocus.episodes.tokens import ChatML
from verl_actfocus.warmstart.tokenizer import build_tokenizer


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    return parser.parse_args(words)


class Script:
    """Plays prepared responses."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def respond(self, episode: Episode) -> str | None:
        return self.texts.pop(0) if self.texts else None


def test_every_message_of_the_episode_is_printed_word_for_word(capsys: pytest.CaptureFixture[str]) -> None:
    episode = Episode(envs.make("sokoban"), envs.spec("sokoban").limits)
    play.play_text(episode, Script("</think><answer>Up</answer>", "no tags at all"), seed=3)
    printed = capsys.readouterr().out
    direct = Episode(envs.make("sokoban"), envs.spec("sokoban").limits)
    expected = [f"-- {message['role']} --\n{message['content']}\n" for message in direct.reset(3)]
    for text in ("</think><answer>Up</answer>", "no tags at all"):
        message = direct.respond(text).next_message
        assert message is not None
        expected += [f"-- response --\n<think>{text}\n", f"-- user --\n{message['content']}\n"]
    places = [printed.index(part) for part in expected]
    assert places == sorted(places)
    assert "invalid: " in printed


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("Right || Down", "</think> <answer>Right || Down</answer>"),
        ("<think>why</think><answer>Up</answer>", "why</think><answer>Up</answer>"),
        ("why</think><answer>Up</answer>", "why</think><answer>Up</answer>"),
    ],
)
def test_typed_actions_are_wrapped_and_typed_responses_are_sent_as_they_are(typed: str, sent: str) -> None:
    episode = Episode(envs.make("sokoban"), envs.spec("sokoban").limits)
    episode.reset(0)
    assert Human(read=lambda prompt: typed).respond(episode) == sent
    assert episode.respond(sent).problem is None


@pytest.mark.parametrize("name", ["sokoban", "frozenlake", "sudoku", "webshop"])
def test_a_human_is_told_once_how_to_type_and_the_example_is_an_action(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    episode = Episode(envs.make(name), envs.spec(name).limits)
    episode.reset(0)
    example = episode.env.legal_actions()[0]
    human = Human(read=lambda prompt: example)
    response = human.respond(episode)
    told = capsys.readouterr().out
    assert f"type an action such as '{example}'" in told
    assert ("||" in told) == (name != "webshop")  # one action a turn there
    assert response is not None and episode.respond(response).valid
    human.respond(episode)
    assert capsys.readouterr().out == ""


def test_a_human_leaves_with_quit_or_at_the_end_of_the_input() -> None:
    def end(prompt: str) -> str:
        raise EOFError

    episode = Episode(envs.make("sokoban"), envs.spec("sokoban").limits)
    episode.reset(0)
    assert Human(read=lambda prompt: "quit").respond(episode) is None
    assert Human(read=end).respond(episode) is None


@pytest.mark.parametrize("name", ["sokoban", "sudoku"])
def test_the_expert_wins_through_the_protocol(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert play.run(arguments(name, "--policy", "expert", "--seed", "5")) == 0
    assert capsys.readouterr().out.endswith("success yes ==\n")


def test_a_worked_turn_is_printed_as_a_model_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert play.run(arguments("sokoban", "--policy", "expert", "--seed", "5", "--prompt-style", "worked_turn")) == 0
    printed = capsys.readouterr().out
    begin = printed.index("-- assistant --\n<think>The best next action")
    assert printed.index("-- system --") < begin < printed.index("-- user --\nThat was an example.")
    assert printed.endswith("success yes ==\n"), "the game itself is as before"


def test_planning_ahead_neither_changes_the_environment_nor_foresees_its_chance() -> None:
    foreseen = []
    for seed in range(40):
        episode = Episode(envs.make("frozenlake"), envs.spec("frozenlake").limits)
        episode.reset(seed)
        env = episode.env
        state, before = env.np_random.bit_generator.state, env.render()
        positions: list[int] = []

        def watched(env: envs.TextEnv, positions: list[int] = positions) -> str:
            positions.append(vars(env)["position"])
            return envs.expert("frozenlake")(env)

        response = ActionPolicy(watched, seed).respond(episode)
        assert (env.np_random.bit_generator.state, env.render()) == (state, before)
        first = response.split("<answer>")[1].split(" ||")[0].removesuffix("</answer>")
        env.step(first)
        if len(positions) == 2:
            foreseen.append(vars(env)["position"] == positions[1])
    # each draws one of three directions, so an independent guess is right about a third of the time
    assert 0.1 < sum(foreseen) / len(foreseen) < 0.7


def test_random_play_is_repeatable(capsys: pytest.CaptureFixture[str]) -> None:
    play.run(arguments("sudoku", "--policy", "random", "--seed", "2"))
    once = capsys.readouterr().out
    play.run(arguments("sudoku", "--policy", "random", "--seed", "2"))
    assert capsys.readouterr().out == once


def test_options_budgets_and_the_miniatures_reach_the_episode(capsys: pytest.CaptureFixture[str]) -> None:
    play.run(arguments("sokoban", "--policy", "random", "--option", "size=(7,8)", "--turns", "1"))
    printed = capsys.readouterr().out
    assert "\n########\n" in printed
    assert "turn_limit" in printed
    play.run(arguments("frozenlake", "--policy", "random", "--miniature"))
    assert "not slippery" in capsys.readouterr().out


def test_what_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'chess'"):
        play.run(arguments("chess"))
    with pytest.raises(ValueError, match=r"'oracle'.*human, expert, random or model:NAME"):
        play.run(arguments("sokoban", "--policy", "oracle"))
    with pytest.raises(ValueError, match="'textworld' has no miniature"):
        play.run(arguments("textworld", "--miniature"))
    with pytest.raises(SystemExit):
        arguments("sokoban", "--option", "size")
    with pytest.raises(SystemExit):
        arguments("sokoban", "--turns", "0")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights with a ChatML tokenizer, in a folder."""
    folder = tmp_path_factory.mktemp("model")
    episode = Episode(envs.make("frozenlake"), envs.spec("frozenlake").limits)
    tokenizer = build_tokenizer([episode.reset(seed) for seed in range(20)], bpe_size=300)
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1000,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return str(folder)


def test_a_model_is_shown_the_tokens_of_the_rollout_and_keeps_what_it_sampled(model_folder: str) -> None:
    limits = envs.EpisodeLimits(turns=3, actions_per_turn=2, actions=6, words=40, response_tokens=6)
    episode = Episode(envs.make("frozenlake"), limits)
    model = PlayingModel(model_folder, temperature=1.0, seed=0, most_tokens=3600, template={})
    player = model.player(episode)
    player.begin(0)
    assert player.prompt == ChatML(model._policy.tokenizer, "<think>").first(player.messages)
    before = player.prompt
    turn = model.respond(player)
    sampled = player.tokens.ids[len(before) :]
    assert player.tokens.ids[: len(before)] == before and turn.tokens == len(sampled) == 6
    assert turn.text == model._policy.tokenizer.decode(sampled, skip_special_tokens=True)


def test_a_model_that_does_not_stop_is_cut_off_and_the_same_seed_samples_the_same(
    model_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("frozenlake", "--policy", f"model:{model_folder}", "--response-tokens", "5", "--seed", "1")
    assert play.run(arguments(*command)) == 0
    once = capsys.readouterr().out
    assert StopReason.RESPONSE_CUT.value in once
    assert "cut off at 5 tokens" in once
    play.run(arguments(*command))
    assert capsys.readouterr().out == once


def test_an_episode_that_outgrows_the_models_context_ends_with_that_reason(model_folder: str) -> None:
    limits = envs.EpisodeLimits(turns=50, actions_per_turn=1, actions=50, words=9)
    model = PlayingModel(model_folder, 1.0, 0, 3600, {})
    player = model.player(Episode(envs.make("frozenlake"), limits))
    player.begin(0)
    end = model._policy.tokenizer.eos_token_id
    while not player.done:
        assert len(player.prompt) + player.max_tokens <= 1000
        player.answer([5, 5, end], cut_off=False)
    assert player.record().stop_reason == StopReason.CONTEXT_FULL.value


@pytest.mark.parametrize(
    ("words", "tokens"),
    [
        ((), 3600),
        (("--turns", "2"), 3600),
        (("--turns", "10"), 400 + 2 * 3200),
        (("--response-tokens", "800"), 400 + 2 * 3200),
        (("--turns", "7", "--response-tokens", "600"), 400 + 6720),  # 3200 · 7/5 · 600/400
        (("--turns", "4", "--response-tokens", "500"), 3600),
    ],
)
def test_more_turns_or_longer_responses_give_a_model_more_room(
    words: tuple[str, ...], tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's 3600 tokens are for its 5 turns of at most 400: with them 20 turns ended as a full context."""

    def model(path: str, temperature: float, seed: int, most_tokens: int, template: object) -> None:
        raise RuntimeError(f"{most_tokens} tokens")

    monkeypatch.setattr(play, "PlayingModel", model)
    with pytest.raises(RuntimeError, match=f"^{tokens} tokens$"):
        play.run(arguments("frozenlake", "--policy", "model:somewhere", *words))


def test_a_model_that_ships_with_the_package_plays_its_miniature(capsys: pytest.CaptureFixture[str]) -> None:
    policy = f"model:{models.folder('frozenlake')}"
    assert play.run(arguments("frozenlake", "--miniature", "--policy", policy, "--temperature", "0")) == 0
    printed = capsys.readouterr().out
    assert "invalid" not in printed
    assert "== executed: " in printed


def test_a_folder_without_a_model_is_refused_by_name(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises(ValueError, match=re.escape(f"--policy model:{missing}: {missing}: there is no such folder")):
        play.run(arguments("frozenlake", "--policy", f"model:{missing}"))


@pytest.mark.parametrize("words", [("--temperature", "0.7"), ("--template", "enable_thinking=false")])
def test_what_only_a_model_has_is_refused_for_others(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"{words[0]} is for --policy model:NAME, not for 'expert'; leave it out"):
        play.run(arguments("frozenlake", "--policy", "expert", *words))


FOREIGN = TagSettings(action=("<act>", "</act>"), reasoning=("<reason>", "</reason>"), prefill="")
FOREIGN_WORDS = ("--action-tags", "['<act>','</act>']", "--reasoning-tags", "['<reason>','</reason>']", "--prefill", "")


def test_a_person_plays_with_other_tags_and_is_told_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["Up", "<reason>Left is free.</reason><act>Left</act>", "quit"])
    monkeypatch.setattr(play, "make_policy", lambda *_: Human(read=lambda prompt: next(typed)))
    assert play.run(arguments("sokoban", *FOREIGN_WORDS)) == 0
    printed = capsys.readouterr().out
    assert printed.count("Format: <reason>reasoning</reason><act>action || action</act> and nothing else.") == 3
    assert "A line with </reason> or <act> is sent as it is." in printed
    assert "-- response --\n<reason></reason> <act>Up</act>\n== executed: Up" in printed
    assert "-- response --\n<reason>Left is free.</reason><act>Left</act>\n== executed: Left" in printed
    assert "invalid" not in printed and "<think>" not in printed and "<answer>" not in printed


@pytest.mark.parametrize("words", [FOREIGN_WORDS, ("--action-tags", "rest")])
def test_the_expert_wins_with_other_tags(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert play.run(arguments("sokoban", "--policy", "expert", "--seed", "5", *words)) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("success yes ==\n") and "invalid" not in printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--action-tags", "[<a>]"], r"--action-tags.*action must be a pair.*\['<a>'\]"),
        (["--action-tags", "all"], "or 'rest' for all text"),
        (["--prefill", "Sure:"], "no valid response can continue the prefill 'Sure:'"),
    ],
)
def test_tags_that_cannot_be_played_with_are_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        play.run(arguments("sokoban", *words))
