"""TextWorld: text adventures, generated from a seed, as text environments (Côté et al. 2018, arXiv 1806.11532).

A game is a few rooms, some objects and a quest over them; TextWorld's generator writes it, the Inform 7
compiler that the `textworld` package carries makes a story file of it, and the story file is played in
this process. Compiling takes seconds, so story files are kept on disk and shared by every session.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from verl_actfocus.envs.base import TextEnv, check_options, match_action, step_info

INSTALL = "pip install 'verl_actfocus[textworld]'"
# What the interpreter adds to the game's answer: the closing words of a game, the prompt with a status line.
_ADDITIONS = re.compile(r"\n\s*\*\*\* The End \*\*\*.*|\n>.*", re.DOTALL)
_BLANK_LINES = re.compile(r"\n\s*\n+")
# TextWorld's generator draws from one generator of the whole process.
_GENERATING = Lock()

RULES = """\
You are playing a text adventure. Read what has to be done and do it with as few commands as possible.
Each state says what happened last and lists the available commands. Answer with one of them, written \
exactly as in the list. "look" describes the room, "inventory" lists what you carry.
The reward of a command is the number of points by which it raises the score.
Example of an action: open wooden door"""


class TextWorldEnv(TextEnv):
    """A different game of the same size in every episode.

    The observation is the task, the game's last answer and the commands that it accepts now; any other
    command is invalid and never reaches the game. A command is effective when it changes a fact of the
    game's world, which looking around does not. The reward is the increase of the score; `success` is
    True when the quest is completed, which ends the episode.

    Args:
        rooms: Number of rooms.
        objects: Number of objects.
        quest_length: Number of commands that the quest takes, more when one has to walk first.
        games: How many different games `reset` draws from.
        first_game: Seed of the first of them; games `first_game` to `first_game + games - 1` are drawn.
            Ranges that do not overlap keep training and evaluation apart.
        cache_dir: Where story files are kept; None: `verl_actfocus/textworld` in the user's cache
            directory (`XDG_CACHE_HOME`, else `~/.cache`).
        render_mode: "ansi".

    Raises:
        ImportError: The package `textworld` is not installed.
        ValueError: A number is not a positive integer, or `first_game` is negative.

    Example:
        >>> env = TextWorldEnv(games=1)
        >>> observation, info = env.reset(seed=0)
        >>> env.step("look")[4]["effective"]
        False
    """

    def __init__(
        self,
        rooms: int = 3,
        objects: int = 5,
        quest_length: int = 4,
        games: int = 64,
        first_game: int = 0,
        cache_dir: str | Path | None = None,
        render_mode: str = "ansi",
    ) -> None:
        super().__init__(render_mode)
        self._textworld = _import_textworld()
        sizes = {"rooms": rooms, "objects": objects, "quest_length": quest_length, "games": games}
        for name, value in {**sizes, "first_game": first_game}.items():
            least = 0 if name == "first_game" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"TextWorldEnv: {name} = {value!r} has to be an integer of at least {least}")
        self.rooms, self.objects, self.quest_length = rooms, objects, quest_length
        self.games, self.first_game = games, first_game
        self.cache_dir = _default_cache() if cache_dir is None else Path(cache_dir)
        self._game: Any = None  # the running game and its present state; textworld has no annotations
        self._state: Any = None

    @property
    def rules(self) -> str:
        """The system message: the task, the commands, the reward, one example of a command."""
        return RULES

    def legal_actions(self) -> list[str]:
        """Return the commands that the game accepts now, in alphabetical order; empty before the first reset."""
        return [] if self._state is None or not self._running else list(self._state.admissible_commands)

    def winning_commands(self) -> list[str]:
        """Return commands that complete the quest from here, as TextWorld's planner finds them."""
        return [] if self._state is None else list(self._state.policy_commands)

    def render(self) -> str:
        """Return the task, the game's last answer, the available commands."""
        if self._state is None:
            return "No game is under way."
        lines = [f"Task: {_paragraphs(self._state.objective)}", self._answer]
        if self._running:
            lines.append(f"Available commands: {'; '.join(self.legal_actions())}")
        return "\n".join(lines)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start a game that is drawn from the `games` there are.

        Args:
            seed: Seeds the draw.
            options: None or empty.

        Returns:
            The first room, and an info with `game`, the game's seed.
        """
        super(TextEnv, self).reset(seed=seed)
        check_options(self, options)
        game_seed = self.first_game + int(self.np_random.integers(self.games))
        self.close()
        infos = self._textworld.EnvInfos(
            admissible_commands=True,
            description=True,
            facts=True,
            feedback=True,
            lost=True,
            objective=True,
            policy_commands=True,
            score=True,
            won=True,
        )
        story = str(self.story_file(game_seed))
        with _unknown_games_are_fine():
            self._game = self._textworld.start(story, infos)
        self._state = self._game.reset()
        # The first answer is a banner; the room's description is what follows it.
        self._answer = _paragraphs(self._state.description)
        self._running = True
        return self.render(), {"game": game_seed}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Give the game a command.

        Args:
            action: One of the available commands.

        Returns:
            The observation, the increase of the score, whether the game is over, False, and the info.

        Raises:
            gymnasium.error.ResetNeeded: No episode is under way.
        """
        self._require_running()
        commands = self.legal_actions()
        chosen = match_action(action, commands)
        if chosen is None:
            return self.render(), 0.0, False, False, step_info(valid=False, effective=False, success=False)
        before = self._state
        self._state, _, done = self._game.step(commands[chosen])
        self._answer = _paragraphs(_ADDITIONS.sub("", self._state.feedback))
        self._running = not done
        info = step_info(
            valid=True,
            effective=set(self._state.facts) != set(before.facts),
            success=bool(self._state.won),
        )
        return self.render(), float(self._state.score - before.score), bool(done), False, info

    def close(self) -> None:
        """End the game's interpreter."""
        if self._game is not None:
            self._game.close()
            self._game = None

    def __deepcopy__(self, memo: dict[int, Any]) -> TextWorldEnv:
        """Return a copy with an interpreter of its own, which only TextWorld knows how to duplicate."""
        twin = copy.copy(self)
        twin.np_random = copy.deepcopy(self.np_random, memo)
        if self._game is not None:
            with _unknown_games_are_fine():
                twin._game = self._game.copy()
        return twin

    def story_file(self, game_seed: int) -> Path:
        """Return the story file of a game, generated and compiled unless it is in the cache.

        Args:
            game_seed: Seed of the generator.

        Returns:
            Path of the story file; the game's description lies beside it as JSON.
        """
        version = self._textworld.__version__
        size = f"rooms{self.rooms}-objects{self.objects}-quest{self.quest_length}"
        story = self.cache_dir / f"textworld-{version}-{size}-game{game_seed}.z8"
        if story.exists():
            return story
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(dir=self.cache_dir))
        try:
            options = self._textworld.GameOptions()
            options.seeds = game_seed
            options.nb_rooms, options.nb_objects = self.rooms, self.objects
            options.quest_length, options.quest_breadth = self.quest_length, 1
            options.path = str(workshop / story.name)
            with _GENERATING:
                self._textworld.make(options)
            # The story file comes last: where it is, the game is complete, for other processes too.
            for suffix in (".json", ".z8"):
                os.replace((workshop / story.name).with_suffix(suffix), story.with_suffix(suffix))
        finally:
            shutil.rmtree(workshop)
        return story


def _import_textworld() -> Any:
    try:
        return import_module("textworld")
    except ImportError as error:
        raise ImportError(
            f"TextWorld games need the package `textworld`, which could not be imported ({error}); "
            f"install it with {INSTALL}"
        ) from error


@contextmanager
def _unknown_games_are_fine() -> Iterator[None]:
    """Silence the interpreter's warning that it does not know a game: TextWorld itself keeps the score."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is not fully supported")
        yield


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "verl_actfocus" / "textworld"


def _paragraphs(text: str) -> str:
    """Return text without blank lines and without space at its ends."""
    return _BLANK_LINES.sub("\n", text).strip()
