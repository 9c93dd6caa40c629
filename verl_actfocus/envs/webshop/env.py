"""WebShop: find the product that an instruction describes, choose its options, buy it.

The environment of Yao et al. 2022 (arXiv 2207.01206) without its web server: the same goals, search and
reward over a catalogue in memory. Thousands of sessions of one process share one catalogue, one index
and one set of goals; a session itself is a goal and a `View`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from gymnasium.spaces import Text

from verl_actfocus.envs.base import MAX_OBSERVATION_CHARS, TEXT_CHARSET, TextEnv, check_options, step_info
from verl_actfocus.envs.webshop import pages
from verl_actfocus.envs.webshop.goals import HITS_PER_PAGE, SPLITS, TEST_GOALS, VALIDATION_GOALS, Goal, open_shop
from verl_actfocus.envs.webshop.pages import Page, View
from verl_actfocus.envs.webshop.reward import purchase_reward
from verl_actfocus.envs.webshop.search import MAX_HITS
from verl_actfocus.envs.webshop.text import keywords

_ACTION = re.compile(r"(search|click)\s*\[(.*)\]", re.IGNORECASE | re.DOTALL)

RULES = """\
You are shopping online. Find a product that meets the instruction, choose the options it asks for and \
buy it.
Actions:
- search[keywords]: on the search page only; lists up to {most} products, {per_page} a page.
- click[label]: follow one of the links and buttons that the page lists as available: a product id, an \
option value, description, features, reviews, next >, < prev, back to search, buy now.
"buy now" ends the episode. The reward is 1 if the product is of the right kind and has every attribute \
and option that the instruction asks for at an acceptable price, and less the more of these are missed. \
Options count only if you choose them before buying.
Example of an action: search[blue cotton shirt]"""


class WebShopEnv(TextEnv):
    """One shopping session after another; see docs/webshop.md for the rules and the files.

    Args:
        items_path: Upstream's `items_shuffle_*.json` (or `.json.gz`); None: the shipped catalogue.
        instructions_path: Upstream's `items_ins_v2_*.json`; given exactly when `items_path` is.
        split: Which goals are drawn: "train", "validation" or "test".
        catalogue_seed: Seeds the resolution of price ranges and the goals' price limits. It is apart
            from `reset(seed=…)` because prices belong to the shop that all sessions share; the splits
            do not depend on it.
        hits_per_page: How many products a page of results lists; the original's 10 make the longest pages.
        render_mode: "ansi".

    Raises:
        ValueError: The catalogue is malformed, the split is unknown or holds no goal, or `hits_per_page` is not
            between 1 and the most hits that a search has.
        FileNotFoundError: A path does not exist.

    Example:
        >>> env = WebShopEnv()
        >>> observation, info = env.reset(seed=1)
        >>> observation, reward, terminated, truncated, info = env.step("search[wool scarf]")
        >>> reward, terminated, info["valid"]
        (0.0, False, True)
    """

    outcomes = ("purchase",)

    def __init__(
        self,
        items_path: str | Path | None = None,
        instructions_path: str | Path | None = None,
        split: str = "train",
        catalogue_seed: int = 0,
        hits_per_page: int = HITS_PER_PAGE,
        render_mode: str = "ansi",
    ) -> None:
        super().__init__(render_mode)
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: WebShop has the splits {', '.join(SPLITS)}")
        if not 1 <= hits_per_page <= MAX_HITS:
            raise ValueError(f"hits_per_page {hits_per_page}: a page lists 1 to {MAX_HITS} products")
        shop = open_shop(items_path, instructions_path, catalogue_seed)
        # Another page length makes another record of the same catalogue, prices and goals.
        self.shop = shop if hits_per_page == shop.hits_per_page else replace(shop, hits_per_page=hits_per_page)
        if not len(self.shop.splits[split]):
            raise ValueError(
                f"split {split!r} is empty: the catalogue yields {len(self.shop.goals)} goals, of which the "
                f"first {TEST_GOALS} of a permutation are the test split, the next {VALIDATION_GOALS} the "
                "validation split and the rest the train split; use another split or a larger catalogue"
            )
        self.split = split
        charset = TEXT_CHARSET | self.shop.catalogue.charset
        self.observation_space = Text(MAX_OBSERVATION_CHARS, min_length=0, charset=charset)
        self.goal_index = int(self.shop.splits[split][0])
        self.view = pages.START

    @property
    def rules(self) -> str:
        """The system message: the task, the actions, the reward, one example of an action."""
        return RULES.format(most=MAX_HITS, per_page=self.shop.hits_per_page)

    @property
    def goal(self) -> Goal:
        """The goal of the present episode."""
        return self.shop.goals[self.goal_index]

    def legal_actions(self) -> list[str]:
        """Return the actions that the present page offers; none when no episode is under way.

        A search takes free text; it is listed once, with the keywords of the instruction.
        """
        if not self._running:
            return []
        return pages.legal_actions(self.view, self.shop, " ".join(keywords(self.goal.instruction)))

    def render(self) -> str:
        """Return the present page."""
        return pages.render(self.view, self.shop, self.goal.instruction)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Draw a goal from the split, in proportion to the goals' weights.

        Args:
            seed: Seeds the draw.
            options: `{"goal": n}` asks for the n-th goal of the split instead of a draw.

        Returns:
            The search page, and an info with `goal`, the goal's position among all goals.

        Raises:
            ValueError: There is no goal `n` in the split, or `options` has another key.
        """
        super(TextEnv, self).reset(seed=seed)
        uniform = float(self.np_random.random())
        asked = check_options(self, options, known=("goal",)).get("goal")
        self.goal_index = self.shop.draw(self.split, uniform) if asked is None else self._goal_at(asked)
        self.view = pages.START
        self._running = True
        return self.render(), {"goal": self.goal_index}

    def _goal_at(self, place: object) -> int:
        part = self.shop.splits[self.split]
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(part):
            raise ValueError(
                f"reset option goal = {place!r}: it is a position in the {self.split!r} split, "
                f"an integer from 0 to {len(part) - 1}"
            )
        return int(part[place])

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Search or click.

        Args:
            action: `search[keywords]` or `click[label]`.

        Returns:
            The page, the reward (0 until "buy now"), whether the product was bought, False, and an info
            that adds to `StepInfo`: `purchase` (the episode ended in a purchase at this step), an outcome, and
            `strict_success` (the purchase's reward is 1), which is WebShop's `success`.

        Raises:
            gymnasium.error.ResetNeeded: No episode is under way.
        """
        self._require_running()
        following = self._follow(action)
        valid = following is not None
        effective = valid and following != self.view
        self.view = following or self.view
        purchase = self.view.page is Page.BOUGHT
        self._running = not purchase
        reward = self._purchase_reward() if purchase else 0.0
        success = purchase and reward >= 1.0
        info = step_info(valid=valid, effective=effective, success=success, purchase=purchase, strict_success=success)
        return self.render(), reward, purchase, False, info

    def _follow(self, action: str) -> View | None:
        """Return the view that an action leads to; None if it is not available on this page."""
        match = _ACTION.fullmatch(action.strip())
        if match is None:
            return None
        kind, argument = match.group(1).lower(), match.group(2).strip()
        if kind == "click":
            return pages.find_click(argument, pages.clicks(self.view, self.shop))
        if self.view.page is not Page.SEARCH or not argument:
            return None
        return View(Page.RESULTS, self.shop.catalogue.index.search(argument))

    def _purchase_reward(self) -> float:
        products = self.shop.catalogue.products
        return purchase_reward(
            self.goal,
            wanted=products[self.goal.product],
            bought=products[self.view.product],
            price=self.shop.prices[self.view.product],
            chosen=[value for _, value in self.view.chosen],
        ).total
