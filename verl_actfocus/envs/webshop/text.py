"""Words: how queries, documents and titles are cut into tokens.

Search, the reward's title nouns and the keywords of an instruction share one list of function words
and one idea of what a word is.
"""

from __future__ import annotations

import re

# Words that say nothing about which product is meant: not searched for, never title nouns.
_FUNCTION_WORDS = """
a about above after again against all also am an and any are as at be because been before being
below between both but by can could did do does doing down during each either etc few for from
further had has have having he her here hers him his how i if in into is it its itself just me
more most my neither no nor not of off on once only or other our ours out over own per she should
so some such than that the their them then there these they this those through to too under until
up upon us very via was we were what when where which while who whom whose why will with within
without would you your yours
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
# What an instruction says to the shop rather than about the product.
_REQUEST = "find show get buy want need like looking search please product dollars"
_REQUEST_WORDS = frozenset(_REQUEST.split())
_PRICE_CLAUSE = re.compile(r",? and price lower than (\d+(?:\.\d+)?) dollars")
_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"['\u2019]s\b")


def words(text: str) -> list[str]:
    """Cut text into lower-case runs of letters and digits.

    Args:
        text: Any text; a possessive `'s` is dropped, hyphens and slashes separate.

    Example:
        >>> words("Women's T-Shirt, 2XL")
        ['women', 't', 'shirt', '2xl']
    """
    return _WORD.findall(_POSSESSIVE.sub("", text.lower()))


def stem(word: str) -> str:
    """Strip an English plural ending (the "S stemmer": Harman 1991, *How effective is suffixing?*).

    The word "s", a size, stays: nothing would be left of it.

    Example:
        >>> [stem(word) for word in ("batteries", "tables", "dress", "lens")]
        ['battery', 'table', 'dress', 'len']
    """
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and word != "s":
        return word[:-1]
    return word


def search_terms(text: str) -> list[str]:
    """Return the index terms of a document or a query: stemmed words without function words."""
    return [stem(word) for word in words(text) if word not in FUNCTION_WORDS]


def keywords(instruction: str) -> list[str]:
    """Return the words of an instruction that describe the product, in order, each once.

    Args:
        instruction: A goal's text as the shopper reads it; its price clause is left out.

    Example:
        >>> keywords("Find me a blue bag with size: large, and price lower than 30.00 dollars")
        ['blue', 'bag', 'size', 'large']
    """
    described = words(_PRICE_CLAUSE.sub("", instruction))
    return list(dict.fromkeys(w for w in described if w not in FUNCTION_WORDS | _REQUEST_WORDS))


def price_limit(instruction: str) -> float | None:
    """Return the price that an instruction says must not be exceeded, in dollars; None if it says nothing.

    Example:
        >>> price_limit("a bag, and price lower than 30.00 dollars")
        30.0
    """
    found = _PRICE_CLAUSE.search(instruction)
    return float(found.group(1)) if found else None
