"""What is evaluated: the paper's settings, a training run's, and what the command line changes."""

from __future__ import annotations

import argparse
import dataclasses

import pytest

from verl_actfocus.cli import evaluate
from verl_actfocus.config.groups import profiles
from verl_actfocus.envs import EpisodeLimits
from verl_actfocus.episodes import STANDARD_TAGS
from verl_actfocus.episodes.tokens import Lengths
from verl_actfocus.evaluation.settings import (
    EvaluationSettings,
    paper_settings,
    profile_settings,
)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args(["--model", "m", *words])


def settings(*words: str) -> EvaluationSettings:
    return evaluate.settings_from(parse(*words))


@pytest.mark.parametrize(
    ("name", "tasks", "samples", "length", "limits"),
    # He et al. 2026, App. C
    [
        ("sokoban", 32, 16, 3600, (5, 2, 10, 100)),
        ("frozenlake", 32, 16, 3600, (5, 2, 10, 120)),
        ("sudoku", 32, 16, 3600, (8, None, 16, 150)),
        ("webshop", 256, 1, 8192, (9, 1, 9, 200)),
    ],
)
def test_an_environment_is_evaluated_as_in_the_paper(
    name: str, tasks: int, samples: int, length: int, limits: tuple[int, int | None, int, int]
) -> None:
    found = paper_settings(name)
    assert (found.environment, found.tasks, found.samples, found.temperature) == (name, tasks, samples, 0.5)
    assert found.lengths.most == length
    turns, actions_per_turn, actions, words = limits
    assert found.limits == EpisodeLimits(turns=turns, actions_per_turn=actions_per_turn, actions=actions, words=words)
    assert (found.tags, found.format_penalty, found.first_task) == (STANDARD_TAGS, -0.1, 0)


def test_webshop_is_evaluated_on_goals_that_training_never_draws() -> None:
    assert paper_settings("webshop").options == {"split": "validation"}


def test_an_environment_without_a_recipe_takes_its_own_budgets_and_the_papers_sampling() -> None:
    found = paper_settings("textworld")
    assert found.limits.turns == 12
    assert (found.tasks, found.samples, found.temperature) == (32, 16, 0.5)


def test_a_profile_is_the_evaluation_of_that_run() -> None:
    found = profile_settings("cpu_frozenlake")
    assert found == EvaluationSettings(
        environment="frozenlake",
        options={"success_rate": 1.0},
        limits=EpisodeLimits(turns=3, actions_per_turn=2, actions=6, words=40, response_tokens=64),
        lengths=Lengths(prompt=128, response=384),
        tasks=64,
        samples=4,
        temperature=1.0,
    )


@pytest.mark.parametrize("name", profiles())
def test_every_packaged_profile_can_be_evaluated(name: str) -> None:
    found = profile_settings(name)
    assert found.environment in name and found.episodes >= 64


def test_the_command_line_changes_single_settings() -> None:
    found = settings(
        *("--profile", "cpu_frozenlake", "--episodes", "40", "--samples-per-task", "8", "--temperature", "0"),
        *("--seed", "3", "--prefill", "", "--turns", "2", "--option", "size=5", "--first-task", "64"),
    )
    assert (found.tasks, found.samples, found.temperature, found.seed, found.tags.prefill) == (5, 8, 0.0, 3, "")
    assert found.limits.turns == 2 and found.limits.actions == 6
    assert found.options == {"success_rate": 1.0, "size": 5}
    assert found.schedule()[:9] == [*((64, sample) for sample in range(8)), (65, 0)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--env, or the settings of a training run with --profile"),
        (["--env", "chess"], "unknown environment 'chess'"),
        (["--profile", "gpu_chess"], "unknown profile 'gpu_chess': choose one of cpu_"),
        (["--profile", "cpu_frozenlake", "--env", "sokoban"], "is of frozenlake, not of --env sokoban"),
        (["--env", "sokoban", "--episodes", "100"], "100 episodes cannot be 16 of each task"),
        # training draws its tasks from seed 1,000,000 on
        (["--env", "sokoban", "--episodes", "1000016", "--samples-per-task", "1"], "overlap"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(*words)


@pytest.mark.parametrize(
    ("words", "lengths"),
    [
        ([], (400, 3200, 3600)),
        (["--turns", "10"], (400, 6400, 6800)),
        (["--turns", "4", "--response-tokens", "500"], (400, 3200, 3600)),
    ],
)
def test_more_turns_have_more_room(words: list[str], lengths: tuple[int, ...]) -> None:
    """Ten turns of 400 tokens had the room of the paper's five."""
    found = settings("--profile", "frozenlake_grpo", *words).lengths
    assert (found.prompt, found.response, found.total) == lengths


def test_lengths_are_bounded_by_the_models_context() -> None:
    lengths = Lengths(prompt=400, response=3200)
    assert lengths.most == 3600
    assert lengths.within(2048).most == 2048
    assert lengths.within(None).most == lengths.within(10**6).most == 3600
    assert Lengths(prompt=4, response=4, total=6).within(None).most == 6
    with pytest.raises(ValueError, match="'prompt' is 0"):
        Lengths(prompt=0, response=1)


def test_the_chat_templates_arguments_are_the_runs_and_the_command_lines() -> None:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    words = ["--model", "m", "--profile", "cpu_frozenlake", "--template", "enable_thinking=False"]
    args = parser.parse_args([*words, "--template", "date_string=26 Jul 2024"])
    found = evaluate.settings_from(args)
    assert found.template == {"enable_thinking": False, "date_string": "26 Jul 2024"}
    assert profile_settings("cpu_frozenlake").template == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1.0}, r"temperature is -1\.0"),
        ({"temperature": float("nan")}, r"evaluation\.temperature=nan must be a finite number"),
        ({"seed": "x"}, r"evaluation\.seed='x' must be a whole number"),
    ],
)
def test_settings_that_no_evaluation_could_be_continued_with_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(profile_settings("cpu_frozenlake"), **values)
