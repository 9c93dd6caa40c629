"""What a warm start measures of its model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from verl_actfocus import envs
from verl_actfocus.episodes import Episode
from verl_actfocus.warmstart.evaluation import Evaluation, evaluate
from verl_actfocus.warmstart.model import build_model
from verl_actfocus.warmstart.publish import save

FROZENLAKE = envs.miniature("frozenlake")


@pytest.fixture(scope="module")
def untrained(small_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    save(folder, build_model(small_tokenizer, seed=1), small_tokenizer)
    return folder


def without_time(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, seconds=0.0)


def test_an_untrained_model_is_cut_off_in_every_first_turn(untrained: Path) -> None:
    (greedy,) = evaluate(untrained, FROZENLAKE, episodes=2, temperatures=[0.0])
    assert (greedy.episodes, greedy.success, greedy.turns) == (2, 0.0, 1.0)
    assert (greedy.well_formed, greedy.valid) == (0.0, 0.0)
    assert greedy.stop_reasons == {"response_cut": 2}
    assert greedy.response_tokens == FROZENLAKE.limits.response_tokens


def test_the_same_episodes_are_played_every_time(untrained: Path) -> None:
    first, again = (evaluate(untrained, FROZENLAKE, episodes=2, temperatures=[1.0, 0.5]) for _ in range(2))
    assert [without_time(one) for one in first] == [without_time(one) for one in again]
    assert [one.temperature for one in first] == [1.0, 0.5]


def test_figures_are_those_of_the_turns_that_were_played(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that always answers alike: what the environment refuses is well-formed and not valid."""
    said = {"Up || Up": (1.0, 1.0), "Fly": (1.0, 0.0), "": (0.0, 0.0)}
    for actions, (well_formed, valid) in said.items():
        text = f" I go.</think><answer> {actions}</answer>"
        _answer_always(monkeypatch, text)
        (measured,) = evaluate(untrained, FROZENLAKE, episodes=20, temperatures=[0.0])
        played = [_played(seed, text) for seed in range(20)]
        assert (measured.well_formed, measured.valid) == (well_formed, valid)
        assert measured.turns == sum(episode.turn for episode in played) / 20
        assert measured.success == sum(episode.success for episode in played) / 20
        assert measured.success_error == pytest.approx((measured.success * (1 - measured.success) / 20) ** 0.5)
        assert sum(measured.stop_reasons.values()) == 20


def test_an_environment_that_fails_is_an_error_and_no_figure(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, *, seed: int | None = None) -> None:
        raise OSError("the lake is dry")

    monkeypatch.setattr(type(FROZENLAKE.make_env()), "reset", fail)
    with pytest.raises(
        RuntimeError, match="seed 0: the environment FrozenLakeEnv failed on reset with OSError: the lake is dry"
    ):
        evaluate(untrained, FROZENLAKE, episodes=1)


@pytest.mark.parametrize("episodes", [0, 10**9])
def test_episodes_that_demonstrations_may_hold_are_refused(untrained: Path, episodes: int) -> None:
    with pytest.raises(ValueError, match=f"episodes is {episodes}"):
        evaluate(untrained, FROZENLAKE, episodes=episodes)


def _answer_always(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    from verl_actfocus.evaluation.local import LocalModel
    from verl_actfocus.evaluation.policy import Answer

    asked: list[str] = []
    monkeypatch.setattr(LocalModel, "ask", lambda self, key, prompt, sampling: asked.append(key))

    def answers(self: LocalModel) -> dict[str, Answer]:
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        given = {key: Answer([*ids, self.tokenizer.eos_token_id]) for key in asked}
        asked.clear()
        return given

    monkeypatch.setattr(LocalModel, "answers", answers)


def _played(seed: int, text: str) -> Episode:
    episode = Episode(envs.make("frozenlake", **FROZENLAKE.options_in_evaluation), FROZENLAKE.limits)
    episode.reset(seed)
    while not episode.done:
        episode.respond(text)
    return episode
