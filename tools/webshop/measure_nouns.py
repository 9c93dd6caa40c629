"""Measures how much the approximation of title nouns matters to the reward's `r_type`.

The original takes the nouns of a title from spaCy; `reward.title_nouns` takes every content word. This
command counts the (wanted product, bought product) pairs to which another reading of the titles gives
another `r_type`:

- narrow: words that by form or meaning are often adjectives, verbs or model numbers are no nouns;
- any mixture: each such word may be a noun in one title and none in another, whichever changes more;
- once: a noun that a title repeats counts once in the denominator;
- with `--spacy MODEL`, the nouns are those that an installed spaCy pipeline finds.

    python -m tools.webshop.measure_nouns --items FILE --instructions FILE
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from verl_actfocus.envs.webshop.goals import Shop, open_shop
from verl_actfocus.envs.webshop.reward import related_listing, title_nouns, title_score, type_factor_of
from verl_actfocus.envs.webshop.text import keywords

Titles = list[tuple[str, ...]]  # the nouns of every product's title, by position
Pairs = list[tuple[int, int]]  # positions of a wanted and a bought product

_ENDINGS = "able ible al ant ary ed ent est ful ian ic ing ish ive less ly ous proof y"
_OTHER_ENDINGS = tuple(_ENDINGS.split())
_WORDS = """
big black blank blue bold bright brown classic clean clear close compact cool cute dark deep dot double
dual easy eco extra fast fine flat free fresh full go gold great green grey gray hard heavy hidden high
hot huge ideal large light long loose low made make matte max mini mixed modern multi natural new nice no
non old open orange original pink plain pro pure purple quick quiet real red retro rich round safe set
sheer short silver slim small smart smooth soft solid square strong super sweet tall thick thin top true
ultra unique upgraded use used vintage warm wash wear white wide wild women yellow young
"""
_OTHER_WORDS = frozenset(_WORDS.split())


def may_be_no_noun(word: str) -> bool:
    """Return whether a content word is often something else than a noun.

    Example:
        >>> [may_be_no_noun(word) for word in ("washable", "lamp", "large", "x100")]
        [True, False, True, True]
    """
    return word in _OTHER_WORDS or word.endswith(_OTHER_ENDINGS) or not word.isalpha()


def narrow(nouns: Sequence[str]) -> tuple[str, ...]:
    """Return the words that are nouns under the narrow reading."""
    return tuple(word for word in nouns if not may_be_no_noun(word))


def mixture_bounds(wanted: Sequence[str], bought: Sequence[str]) -> tuple[float, float]:
    """Return the least and greatest title score when every doubtful word may or may not be a noun.

    Args:
        wanted: Content words of the wanted title.
        bought: Content words of the bought title.

    Returns:
        The bounds. Least: all doubtful words of the wanted title are nouns, none of the bought title.
        Greatest: exactly the doubtful words that the titles share are nouns.
    """
    sure, shared = narrow(wanted), set(wanted) & set(bought)
    least = title_score(wanted, narrow(bought))
    doubtful = tuple(word for word in shared if may_be_no_noun(word))
    greatest = title_score((*sure, *doubtful), bought)
    if not sure:  # then the wanted title may have no noun at all, which has a score of its own
        without = title_score((), bought)
        least, greatest = min(least, without), max(greatest, without)
    return least, greatest


def goal_pairs(shop: Shop) -> tuple[Pairs, Pairs]:
    """Return the pairs to compare: every other product, and those among a search's hits.

    Returns:
        For each product with a goal: all other products; and those that a search for the words of its
        instruction (without options and price) finds.
    """
    products = shop.catalogue.products
    wanted = sorted({goal.product for goal in shop.goals})
    every = [(goal, other) for goal in wanted for other in range(len(products)) if other != goal]
    hits = [
        (goal, hit)
        for goal in wanted
        for hit in shop.catalogue.index.search(" ".join(keywords(products[goal].instruction or "")))
        if hit != goal
    ]
    return every, hits


def share_changed(shop: Shop, pairs: Pairs, scores: Callable[[int, int], Sequence[float]]) -> float:
    """Return the share of the pairs for which another reading of the titles gives another `r_type`.

    Args:
        shop: The shop.
        pairs: Positions of wanted and bought products.
        scores: From such a pair to the title scores of the other reading; one that differs suffices.
    """
    products = shop.catalogue.products
    changed = 0
    for wanted, bought in pairs:
        related = related_listing(products[wanted], products[bought])
        score = title_score(title_nouns(products[wanted].title), title_nouns(products[bought].title))
        ours = type_factor_of(score, related)
        changed += any(type_factor_of(other, related) != ours for other in scores(wanted, bought))
    return changed / len(pairs)


def spacy_nouns(model: str, titles: Sequence[str]) -> Titles:
    """Return the nouns and proper nouns of titles as spaCy tags them, lower case.

    Args:
        model: An installed spaCy pipeline, e.g. "en_core_web_lg".
        titles: Product titles.

    Raises:
        ModuleNotFoundError: spaCy is not installed; this project does not depend on it.
    """
    pipeline = import_module("spacy").load(model)
    return [
        tuple(token.text.lower() for token in document if token.pos_ in ("NOUN", "PROPN"))
        for document in pipeline.pipe(titles)
    ]


def report(shop: Shop, spacy_model: str | None = None) -> list[str]:
    """Return the measurement, one line per reading of the titles."""
    titles = [product.title for product in shop.catalogue.products]
    ours: Titles = [title_nouns(title) for title in titles]
    few: Titles = [narrow(nouns) for nouns in ours]
    once: Titles = [tuple(dict.fromkeys(nouns)) for nouns in ours]
    readings: dict[str, Callable[[int, int], Sequence[float]]] = {
        "narrow": lambda wanted, bought: (title_score(few[wanted], few[bought]),),
        "any mixture": lambda wanted, bought: mixture_bounds(ours[wanted], ours[bought]),
        "once": lambda wanted, bought: (title_score(once[wanted], once[bought]),),
    }
    if spacy_model is not None:
        tagged = spacy_nouns(spacy_model, titles)
        readings[spacy_model] = lambda wanted, bought: (title_score(tagged[wanted], tagged[bought]),)
    every, hits = goal_pairs(shop)
    doubtful = sum(may_be_no_noun(word) for nouns in ours for word in nouns)
    lines = [
        f"{len(titles)} titles, {sum(map(len, ours))} content words, {doubtful} of them doubtful nouns",
        f"pairs whose r_type another reading changes: of all {len(every)}, of the {len(hits)} among hits",
    ]
    for name, scores in readings.items():
        shares = [share_changed(shop, pairs, scores) for pairs in (every, hits)]
        lines.append(f"{name}: {shares[0]:.2%} {shares[1]:.2%}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=Path, help="default: the shipped catalogue")
    parser.add_argument("--instructions", type=Path, help="given exactly when --items is")
    parser.add_argument("--spacy", metavar="MODEL", help="an installed spaCy pipeline to compare with")
    options = parser.parse_args(arguments)
    print("\n".join(report(open_shop(options.items, options.instructions), options.spacy)))


if __name__ == "__main__":
    main()
