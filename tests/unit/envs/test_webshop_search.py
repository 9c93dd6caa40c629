"""WebShop's search: BM25 over what the pages say, for any words."""

from __future__ import annotations

import itertools
import math
import string
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from verl_actfocus.envs.webshop.env import WebShopEnv
from verl_actfocus.envs.webshop.search import SearchIndex
from verl_actfocus.envs.webshop.text import search_terms

from .webshop_play import at


def bm25(query: list[str], documents: list[list[str]], k1: float = 0.9, b: float = 0.4) -> list[float]:
    """Okapi BM25 with Lucene's idf, straight from its formula."""
    mean = sum(map(len, documents)) / len(documents)
    scores = [0.0] * len(documents)
    for term in query:
        containing = sum(term in document for document in documents)
        idf = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
        for place, document in enumerate(documents):
            tf = document.count(term)
            scores[place] += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean))
    return scores


def test_search_ranks_by_bm25() -> None:
    products = WebShopEnv().shop.catalogue.products
    documents = [product.search_text for product in products]
    index = SearchIndex(documents)
    terms = [search_terms(document) for document in documents]
    for query in ("copper kettle with a goose neck", "gift box students", "running shirts navy blue small"):
        scores = bm25(search_terms(query), terms)
        hits = index.search(query)
        assert len(hits) == 50
        ranked = [scores[hit] for hit in hits]
        assert all(high >= low - 1e-5 for high, low in itertools.pairwise(ranked))
        assert min(ranked) >= max(score for i, score in enumerate(scores) if i not in hits) - 1e-5


def test_search_sees_titles_descriptions_bullets_and_options_in_any_number_and_case() -> None:
    index = SearchIndex(["Oak table", "Pine chairs in red", "a box"])
    assert index.search("CHAIR") == (1,)
    assert index.search("tables, chairs") == (0, 1) or index.search("tables, chairs") == (1, 0)
    assert index.search("boxes") == (2,) or index.search("box") == (2,)
    assert SearchIndex(["", ""]).search("lamp") == ()
    product = next(p for p in WebShopEnv().shop.catalogue.products if p.options and p.bullets)
    option = next(iter(product.options.values()))[0]
    for part in (product.title, product.description, product.bullets[0], option):
        assert part in product.search_text


def test_a_word_of_one_letter_is_a_word_like_any_other() -> None:
    index = SearchIndex(["shirt in s", "shirt in m", "shirt"])
    assert index.search("S") == (0,)
    assert index.search("m shirts")[0] == 1
    for letter in string.ascii_lowercase:
        assert at().step(f"search[{letter}]")[4]["valid"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("aeisy' -1", min_size=1, max_size=4), min_size=1, max_size=4).map(" ".join))
def test_a_search_for_short_words_never_raises(query: str) -> None:
    for index in (WebShopEnv().shop.catalogue.index, SearchIndex(["as is", "yes s"])):
        assert len(index.search(query)) <= 50


def test_equally_good_hits_come_in_catalogue_order() -> None:
    assert SearchIndex(["red lamp", "chair", "red lamp", "red lamp"]).search("lamp") == (0, 2, 3)


def test_a_search_takes_about_a_millisecond_at_most() -> None:
    index = WebShopEnv().shop.catalogue.index
    started = time.perf_counter()
    for _ in range(200):
        index.search("waxed canvas backpack with a laptop sleeve for day hikes color black")
    assert (time.perf_counter() - started) / 200 < 0.02  # generous: a busy machine is no failure
