"""The shopper whose play WebShop's tiny model imitates, and its miniature: short pages of results, few turns.

Where to click is what `verl_actfocus.envs.webshop.expert` reads off the page's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from verl_actfocus.envs.base import EpisodeLimits, TextEnv
from verl_actfocus.envs.demonstrations import Miniature, Response, pick
from verl_actfocus.envs.webshop.env import WebShopEnv
from verl_actfocus.envs.webshop.expert import expert_action
from verl_actfocus.envs.webshop.text import keywords

FOLLOW = 0.85
"""Probability that a click is the one that the reasoning arrives at, and that a keyword gets into the search."""

_PRICE = re.compile(r",? and price lower than ([\d.]+) dollars$")
_OPTIONS = re.compile(r" with (?=\w+: )")
_HIT = re.compile(r"^click\[(\w+)\] .* \$\d+\.\d\d$", re.MULTILINE)
_OPTION = re.compile(r"^(\w+) \(chosen: (.+)\): (click.*)$", re.MULTILINE)


@dataclass(frozen=True)
class _Wish:
    """What the instruction asks for: words that describe the product, option name to value, the price limit."""

    words: list[str]
    options: dict[str, str]
    limit: str | None


def demonstrate(env: TextEnv, rng: np.random.Generator, max_actions: int) -> Response:
    """Write one response to the present page of a shop.

    A slip on the search page is a keyword left out, anywhere else another of the clicks that the page offers.

    Args:
        env: A `WebShopEnv` with an episode under way.
        rng: Draws the wording and the noise of the action.
        max_actions: Unused; a response has one action.

    Returns:
        The response.

    Raises:
        TypeError: `env` is not a `WebShopEnv`.
    """
    if not isinstance(env, WebShopEnv):
        raise TypeError(f"WebShop's demonstrations need a WebShopEnv, not {type(env).__name__}")
    text = env.render()
    instruction, page = text.removeprefix("Instruction: ").split("\n", 1)
    wish = _read(instruction)
    if page.startswith("Page: search"):
        words = keywords(" ".join([*wish.words, *wish.options.values()]))
        kept = [word for word in words if rng.random() < FOLLOW] or words
        return _response(_search_reasoning(wish, rng), f"search[{' '.join(kept)}]")
    action = expert_action(env)
    if page.startswith("Page: results"):
        reasoning = _results_reasoning(wish, page, action, rng)
    elif page.startswith("Page: product"):
        reasoning = _product_reasoning(wish, page, action, rng)
    else:
        reasoning = pick(rng, "Here I can neither choose nor buy. I go back.", "This page has no options. I go back.")
    if rng.random() >= FOLLOW:
        action = pick(rng, *(other for other in env.legal_actions() if other != action))
    return _response(reasoning, action)


def _read(instruction: str) -> _Wish:
    limit = _PRICE.search(instruction)
    request, *options = _OPTIONS.split(_PRICE.sub("", instruction), maxsplit=1)
    pairs = (one.split(": ", 1) for one in re.split(r", and (?=\w+: )", options[0])) if options else ()
    return _Wish(keywords(request), {name: value for name, value in pairs}, limit and limit.group(1))


def _search_reasoning(wish: _Wish, rng: np.random.Generator) -> str:
    words = " ".join(wish.words)
    sentences = [pick(rng, f"I want {words}.", f"It is about {words}.", f"The words are {words}.")]
    if wish.options:
        options = " and ".join(f"{name} {value}" for name, value in wish.options.items())
        sentences.append(pick(rng, f"Then {options}.", f"Later I choose {options}."))
    return " ".join(sentences)


def _results_reasoning(wish: _Wish, page: str, action: str, rng: np.random.Generator) -> str:
    words = " ".join(wish.words)
    if action == "click[next >]":
        return pick(rng, f"All of these cost more than {wish.limit}. I look on.", f"Nothing below {wish.limit} here.")
    if action == "click[back to search]":
        return pick(rng, "Nothing here will do. I search again.", "I have to search again.")
    place = _HIT.findall(page).index(action.removeprefix("click[").removesuffix("]"))
    limit = f"is below {wish.limit}" if wish.limit else "may cost what it likes"
    if place == 0:
        return pick(rng, f"For {words} the first one {limit}.", f"Of {words} the first {limit}, I open it.")
    return pick(
        rng,
        f"For {words} the first costs too much, number {place + 1} {limit}.",
        f"Of {words} number {place + 1} is the first that {limit}.",
    )


def _product_reasoning(wish: _Wish, page: str, action: str, rng: np.random.Generator) -> str:
    offered = _OPTION.findall(page)
    chosen = {name: value for name, value, _ in offered}
    wanted = {name: value for name, value in wish.options.items() if name in chosen}
    done = " and ".join(f"{name} {value}" for name, value in wanted.items() if chosen[name] == value)
    missing = [name for name, value in wanted.items() if chosen[name] != value]
    if action == "click[buy now]":
        have = pick(rng, f"I have {done}. ", f"{done} is chosen. ") if done else ""
        if missing:
            others = " and ".join(f"{name} {wanted[name]}" for name in missing)
            return f"{have}{others} cannot be had. {pick(rng, 'I buy it all the same.', 'I buy it as it is.')}"
        have = have or "No option here is asked for. "
        return have + pick(rng, "There is nothing else to choose, I buy it.", "That is all I want. I buy it now.")
    name = next(name for name, _, row in offered if action in row)
    later = [other for other in missing if other != name]
    return " ".join(
        [
            pick(
                rng,
                f"The {name} should be {wanted[name]} and is {chosen[name]}.",
                f"I want {name} {wanted[name]}, not {chosen[name]}.",
            ),
            f"After that {' and '.join(later)}." if later else "Then I buy it.",
        ]
    )


def _response(reasoning: str, action: str) -> Response:
    """Put a response together: a product's id heads a line of the page and an option follows a space; so they do here,
    so that what is to be copied is the same token in both places."""
    return Response(reasoning, (action if re.fullmatch(r"click\[\w+\d\]", action) else f" {action}",))


MINIATURE = Miniature(
    environment="webshop",
    options={"split": "train", "hits_per_page": 4},
    evaluation_options={"split": "validation"},
    limits=EpisodeLimits(turns=5, actions_per_turn=1, actions=5, words=40, response_tokens=64),
    demonstrate=demonstrate,
    iterations=600,
    vocabulary=2400,
    knows="says what to look for, which product is cheap enough and which option is missing;\n"
    "its searches and clicks are something else part of the time",
)
