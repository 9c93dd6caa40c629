"""Shops by reading the pages and nothing else: a heuristic, not a solver.

It sees what a policy sees, the text of the present page, and never the goal behind it. It searches for
all the words of the instruction, opens the first hit that it can afford, chooses the options that the
instruction names, and buys. Search ranks by all of a product's texts, so that hit is mostly the right
one; where it is not, the heuristic, which compares nothing, does not notice.
"""

from __future__ import annotations

import re

from rapidfuzz.fuzz import token_set_ratio
from rapidfuzz.utils import default_process

from verl_actfocus.envs.base import TextEnv
from verl_actfocus.envs.webshop.env import WebShopEnv
from verl_actfocus.envs.webshop.text import keywords, price_limit

_HIT = re.compile(r"^(click\[[^\]]+\]) .* \$(\d+\.\d\d)$", re.MULTILINE)
_OPTION = re.compile(r"^(.+) \(chosen: (.+)\): (click\[.*\])$", re.MULTILINE)
_LABEL = re.compile(r"click\[(.*?)\](?= click\[|$)")
_PRICE_CLAUSE = re.compile(r",? and price lower than .*$")


def expert_action(env: TextEnv) -> str:
    """Return the next action of the heuristic.

    Args:
        env: A `WebShopEnv` with an episode under way.

    Returns:
        One of the page's available actions.

    Raises:
        TypeError: `env` is not a `WebShopEnv`.
    """
    if not isinstance(env, WebShopEnv):
        raise TypeError(f"the WebShop expert needs a WebShopEnv, not {type(env).__name__}")
    heading, page, *lines = env.render().split("\n")
    instruction = heading.removeprefix("Instruction: ")
    text = "\n".join(lines)
    if page == "Page: search":
        return f"search[{' '.join(keywords(instruction))}]"
    if page.startswith("Page: results"):
        return _choose_hit(instruction, text)
    if page.startswith("Page: product"):
        return _choose_option(instruction, text) or "click[buy now]"
    return "click[< prev]"


def _choose_hit(instruction: str, text: str) -> str:
    """Return the best affordable hit of the page; without one, the next page or another search."""
    limit = price_limit(instruction)
    for action, price in _HIT.findall(text):
        if limit is None or float(price) <= limit:
            return str(action)
    return "click[next >]" if "click[next >]" in text else "click[back to search]"


def _choose_option(instruction: str, text: str) -> str | None:
    """Return the first option that the instruction names and that is not chosen as it asks; None: all are."""
    request = _PRICE_CLAUSE.sub("", instruction)
    for name, chosen, row in _OPTION.findall(text):
        named = re.search(rf"(?: with |, and ){re.escape(name)}: (.*)", request)
        if named is None:
            continue
        labels = _LABEL.findall(row)
        best = max(labels, key=lambda label: _likeness(label, named.group(1)))
        if best.removeprefix(f"{name}: ") != chosen:
            return f"click[{best}]"
    return None


def _likeness(label: str, named: str) -> tuple[bool, float, int]:
    """Return how well a label fits the text that follows the option's name in the instruction.

    That text may run on to further options, so a label that it begins with is the value itself, and the
    longer such a label the better.
    """
    begins = named == label or named.startswith(f"{label}, and ")
    return begins, token_set_ratio(label, named, processor=default_process), len(label)
