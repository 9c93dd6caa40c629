"""BM25 search over a catalogue, in memory and in one thread.

`bm25s` keeps the scores of every (term, document) pair in a sparse matrix, so that a query is a sum of
a few columns. Its own `retrieve` is not used: it offers a thread pool, progress bars and an unstable
order among equals, and returns documents that contain none of the terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import bm25s
import numpy as np
from tqdm import tqdm

from verl_actfocus.envs.webshop.text import search_terms

MAX_HITS = 50
# Lucene's variant with the parameters that Pyserini, hence the original WebShop, defaults to.
BM25_METHOD, BM25_K1, BM25_B = "lucene", 0.9, 0.4


@contextmanager
def _no_monitor_thread() -> Iterator[None]:
    """Keep tqdm from starting its monitor thread, which even a disabled progress bar does."""
    interval = tqdm.monitor_interval
    tqdm.monitor_interval = 0
    try:
        yield
    finally:
        tqdm.monitor_interval = interval


class SearchIndex:
    """An immutable BM25 index; sessions of one process share it.

    Args:
        documents: The searchable text of each product.

    Example:
        >>> SearchIndex(["oak table", "pine chair", "oak oak chair"]).search("chairs of oak")
        (2, 0, 1)
    """

    def __init__(self, documents: Sequence[str]) -> None:
        terms = [search_terms(document) for document in documents]
        # bm25s cannot index nothing at all; a catalogue without a single word has no hits.
        self._bm25: bm25s.BM25 | None = None
        if any(terms):
            self._bm25 = bm25s.BM25(method=BM25_METHOD, k1=BM25_K1, b=BM25_B)
            with _no_monitor_thread():
                self._bm25.index(terms, show_progress=False)

    def search(self, query: str) -> tuple[int, ...]:
        """Rank the documents that share a term with the query.

        Args:
            query: Free text.

        Returns:
            Positions of at most `MAX_HITS` documents, best first, equals in catalogue order; empty
            when no document contains any of the terms.
        """
        terms = search_terms(query)
        if self._bm25 is None or not terms:
            return ()
        scores = self._bm25.get_scores(terms)
        matching = np.flatnonzero(scores > 0.0)
        best = matching[np.argsort(-scores[matching], kind="stable")]
        return tuple(best[:MAX_HITS].tolist())
