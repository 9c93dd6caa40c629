"""TextWorld games as text environments."""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from verl_actfocus import envs
from verl_actfocus.envs.textworld.env import TextWorldEnv
from verl_actfocus.envs.textworld.expert import expert_action

GAMES = 2  # each takes a second or more to compile


def test_without_the_package_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textworld", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"pip install 'verl_actfocus\[textworld\]'"):
        TextWorldEnv()


@pytest.fixture
def env(cache: Path) -> TextWorldEnv:
    return TextWorldEnv(games=GAMES, cache_dir=cache)


@pytest.mark.filterwarnings("ignore:.*render.*")
def test_the_environment_passes_gymnasiums_checker(env: TextWorldEnv) -> None:
    check_env(env, skip_render_check=False)


def test_following_the_winning_commands_scores_the_point_and_succeeds(env: TextWorldEnv) -> None:
    for game in range(GAMES):
        seed = next(s for s in range(100) if env.reset(seed=s)[1]["game"] == game)
        observation, _ = env.reset(seed=seed)
        assert observation.startswith("Task: ") and "-= " in observation
        rewards = []
        while (plan := env.winning_commands()) and env.legal_actions():
            assert plan[0] in env.legal_actions()
            assert f"; {plan[0]}; " in observation.replace("Available commands: ", "; ") + "; "
            observation, reward, terminated, truncated, info = env.step(f"  {plan[0].upper()} ")
            assert observation in env.observation_space
            assert not truncated and info["valid"] and info["effective"]
            assert info["success"] == terminated
            rewards.append(reward)
        assert len(rewards) >= 4  # the quest's length
        assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
        assert "*** The End ***" not in observation and "RESTART" not in observation
        assert env.legal_actions() == []
        with pytest.raises(ResetNeeded):
            env.step("look")


def test_the_expert_completes_the_quest_and_says_when_it_cannot(env: TextWorldEnv) -> None:
    env.reset(seed=0)
    for _ in range(envs.spec("textworld").limits.actions):
        _, _, over, _, info = env.step(expert_action(env))
        if over:
            break
    assert info["success"]
    with pytest.raises(ValueError, match="reset the environment"):
        expert_action(env)
    with pytest.raises(TypeError, match="FrozenLakeEnv"):
        expert_action(envs.make("frozenlake"))


def test_a_copy_plays_on_by_itself(env: TextWorldEnv) -> None:
    env.reset(seed=0)
    page, commands = env.render(), env.winning_commands()
    env.step(commands[0])
    twin = copy.deepcopy(env)
    for command in commands[1:]:
        info = twin.step(command)[4]
    assert info["success"]
    assert env.winning_commands() == commands[1:]
    assert env.reset(seed=0)[0] == page


@pytest.mark.parametrize("action", ["", "dance", "restart", "undo", "quit", "go", "look; inventory", "look\nlook"])
def test_a_command_that_is_not_available_never_reaches_the_game(env: TextWorldEnv, action: str) -> None:
    before, _ = env.reset(seed=0)
    commands = env.legal_actions()
    observation, reward, terminated, truncated, info = env.step(action)
    assert (observation, reward, terminated, truncated) == (before, 0.0, False, False)
    assert info == {"valid": False, "effective": False, "success": False}
    assert env.legal_actions() == commands


def test_looking_around_is_valid_but_not_effective(env: TextWorldEnv) -> None:
    env.reset(seed=0)
    for command in ("look", "inventory"):
        info = env.step(command)[4]
        assert info["valid"] and not info["effective"]
    move = next(command for command in env.legal_actions() if not command.startswith(("look", "inv", "exam")))
    assert env.step(move)[4]["effective"]


def random_play(env: TextWorldEnv) -> list[object]:
    choose = random.Random(5)
    record: list[object] = [env.reset(seed=1)]
    for _ in range(15):
        result = env.step(choose.choice(env.legal_actions()))
        record.append(result)
        if result[2]:
            break
    return record


def test_a_game_generated_anew_in_another_process_plays_the_same(env: TextWorldEnv, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]\n"
        "from pathlib import Path\n"
        "from test_textworld import GAMES, TextWorldEnv, random_play\n"
        "print(repr(random_play(TextWorldEnv(games=GAMES, cache_dir=Path(sys.argv[2])))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == repr(random_play(env))


def test_games_are_kept_and_shared_and_leave_nothing_else_behind(env: TextWorldEnv, cache: Path) -> None:
    stories = [env.story_file(game) for game in range(GAMES)]
    written = [story.stat().st_mtime_ns for story in stories]
    other = TextWorldEnv(games=GAMES, cache_dir=cache)
    assert [other.story_file(game) for game in range(GAMES)] == stories
    assert [story.stat().st_mtime_ns for story in stories] == written
    assert all(path.suffix in (".z8", ".json") for path in cache.iterdir())


def test_two_games_at_once_do_not_disturb_each_other(env: TextWorldEnv, cache: Path) -> None:
    other = TextWorldEnv(games=GAMES, cache_dir=cache)
    env.reset(seed=0)
    other.reset(seed=0)
    first = env.winning_commands()[0]
    env.step(first)
    assert other.winning_commands()[0] == first
    assert other.render() != env.render()


def test_the_seeds_of_the_games_are_the_ones_asked_for(cache: Path) -> None:
    env = TextWorldEnv(games=GAMES, first_game=0, cache_dir=cache)
    assert {env.reset(seed=seed)[1]["game"] for seed in range(12)} == set(range(GAMES))


@pytest.mark.parametrize("wrong", [{"rooms": 0}, {"games": 1.5}, {"quest_length": True}, {"first_game": -1}])
def test_a_wrong_number_is_refused_by_name(cache: Path, wrong: dict[str, object]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        TextWorldEnv(cache_dir=cache, **wrong)


def test_the_cache_lies_in_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert TextWorldEnv().cache_dir == Path("/somewhere/verl_actfocus/textworld")
    assert isinstance(envs.make("textworld"), TextWorldEnv)
