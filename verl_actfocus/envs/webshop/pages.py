"""The shop's pages: where each click leads, and what a page says.

A `View` is what the shopper looks at. It is immutable and navigation is a function from a view to the
views that its clicks lead to, so that "is this click possible" and "did it change anything" are a
look-up and a comparison. Pages are short because a language model reads every one of them: long titles
and texts are cut, visibly, and each available action is written once, in the place where it belongs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from verl_actfocus.envs.webshop.goals import Shop
from verl_actfocus.envs.webshop.product import Product

# Longest title in a list of results and longest text of a description or feature page, in characters.
TITLE_CHARS = 80
TEXT_CHARS = 1200

BACK_TO_SEARCH, NEXT, PREVIOUS, BUY = "back to search", "next >", "< prev", "buy now"
DETAILS = ("description", "features", "reviews")


class Page(Enum):
    """The kinds of pages."""

    SEARCH = "search"
    RESULTS = "results"
    PRODUCT = "product"
    DETAIL = "detail"
    BOUGHT = "bought"


@dataclass(frozen=True)
class View:
    """What the shopper looks at.

    Attributes:
        page: The kind of page.
        hits: Positions of the products that the last search found, best first.
        results_page: Page of the results, from 0.
        product: Position of the product that is looked at; -1 on the search and results pages.
        chosen: Chosen (option name, value) pairs, sorted by name.
        detail: Which of `DETAILS` is open.
    """

    page: Page
    hits: tuple[int, ...] = ()
    results_page: int = 0
    product: int = -1
    chosen: tuple[tuple[str, str], ...] = ()
    detail: str = ""


START = View(Page.SEARCH)


def option_labels(product: Product) -> dict[str, tuple[str, str]]:
    """Return what to click for each option of a product.

    Returns:
        Label to (option name, value). The label is the value, or `name: value` where two options share
        the value or it is the name of one of the page's buttons.
    """
    buttons = {*DETAILS, BUY, PREVIOUS, NEXT, BACK_TO_SEARCH}
    pairs = [(name, value) for name, values in product.options.items() for value in dict.fromkeys(values)]
    seen = [value for _, value in pairs]
    return {
        (f"{name}: {value}" if value in buttons or seen.count(value) > 1 else value): (name, value)
        for name, value in pairs
    }


def hits_shown(view: View, shop: Shop) -> tuple[int, ...]:
    """Return the positions of the products on the present page of results."""
    first = view.results_page * shop.hits_per_page
    return view.hits[first : first + shop.hits_per_page]


def clicks(view: View, shop: Shop) -> dict[str, View]:
    """Return where each possible click leads.

    Args:
        view: The present view.
        shop: The shop.

    Returns:
        Label to next view, in the order of the page; empty on the search page and after a purchase.
    """
    if view.page in (Page.SEARCH, Page.BOUGHT):
        return {}
    if view.page is Page.RESULTS:
        return _result_clicks(view, shop)
    if view.page is Page.DETAIL:
        return {PREVIOUS: replace(view, page=Page.PRODUCT, detail=""), BACK_TO_SEARCH: START}
    options = {
        label: replace(view, chosen=tuple(sorted({**dict(view.chosen), name: value}.items())))
        for label, (name, value) in option_labels(shop.catalogue.products[view.product]).items()
    }
    return {
        **options,
        **{detail: replace(view, page=Page.DETAIL, detail=detail) for detail in DETAILS},
        BUY: replace(view, page=Page.BOUGHT),
        PREVIOUS: View(Page.RESULTS, view.hits, view.results_page),
        BACK_TO_SEARCH: START,
    }


def _result_clicks(view: View, shop: Shop) -> dict[str, View]:
    found: dict[str, View] = {
        shop.catalogue.products[hit].asin.lower(): replace(view, page=Page.PRODUCT, product=hit)
        for hit in hits_shown(view, shop)
    }
    if (view.results_page + 1) * shop.hits_per_page < len(view.hits):
        found[NEXT] = replace(view, results_page=view.results_page + 1)
    if view.results_page > 0:
        found[PREVIOUS] = replace(view, results_page=view.results_page - 1)
    found[BACK_TO_SEARCH] = START
    return found


def render(view: View, shop: Shop, instruction: str) -> str:
    """Return the text of a page: the instruction, what the page shows, and the available actions.

    Args:
        view: The present view.
        shop: The shop.
        instruction: The goal's text; it heads every page.

    Returns:
        Lines of text. Every action of `clicks` appears once, written as `click[…]`.
    """
    return "\n".join([f"Instruction: {instruction}", *_PAGES[view.page](view, shop)])


def _search_page(view: View, shop: Shop) -> list[str]:
    return ["Page: search", "Available actions: search[your keywords]"]


def _results_page(view: View, shop: Shop) -> list[str]:
    shown = hits_shown(view, shop)
    if not shown:
        lines = ["Page: results; nothing found, try other keywords"]
    else:
        first = view.results_page * shop.hits_per_page
        lines = [f"Page: results {first + 1}-{first + len(shown)} of {len(view.hits)}"]
    lines.append("Available actions:")
    for hit in shown:
        product = shop.catalogue.products[hit]
        title = shorten(product.title, TITLE_CHARS)
        lines.append(f"click[{product.asin.lower()}] {title} ${shop.prices[hit]:.2f}")
    buttons = [label for label in _result_clicks(view, shop) if label in (NEXT, PREVIOUS, BACK_TO_SEARCH)]
    return [*lines, _row(buttons)]


def _product_page(view: View, shop: Shop) -> list[str]:
    product = shop.catalogue.products[view.product]
    rating = f", rating {product.rating}" if product.rating else ""
    lines = [
        f"Page: product {product.asin.lower()}",
        _one_line(product.title),
        f"Price: ${shop.prices[view.product]:.2f}{rating}",
        "Available actions:",
    ]
    labels = option_labels(product)
    chosen = dict(view.chosen)
    for name in product.options:
        row = _row([label for label, (option, _) in labels.items() if option == name])
        lines.append(f"{name} (chosen: {chosen.get(name, 'none')}): {row}")
    return [*lines, _row([*DETAILS, BUY, PREVIOUS, BACK_TO_SEARCH])]


def _detail_page(view: View, shop: Shop) -> list[str]:
    product = shop.catalogue.products[view.product]
    return [
        f"Page: {view.detail} of {product.asin.lower()}",
        *_DETAIL_LINES[view.detail](product),
        f"Available actions: {_row([PREVIOUS, BACK_TO_SEARCH])}",
    ]


def _description(product: Product) -> list[str]:
    return [shorten(product.description, TEXT_CHARS) or "This product has no description."]


def _features(product: Product) -> list[str]:
    bullets = [_one_line(bullet) for bullet in product.bullets if bullet.strip()]
    if not bullets:
        return ["This product lists no features."]
    share = TEXT_CHARS // len(bullets)
    if sum(map(len, bullets)) > TEXT_CHARS:
        bullets = [shorten(bullet, share) for bullet in bullets]
    return [f"- {bullet}" for bullet in bullets]


def _reviews(product: Product) -> list[str]:
    return [f"Average rating: {product.rating}." if product.rating else "This product has no rating."]


def _bought_page(view: View, shop: Shop) -> list[str]:
    product = shop.catalogue.products[view.product]
    options = "; ".join(f"{name}: {value}" for name, value in view.chosen) or "no options"
    return [f"Page: bought {product.asin.lower()} ({options}) for ${shop.prices[view.product]:.2f}"]


_PAGES = {
    Page.SEARCH: _search_page,
    Page.RESULTS: _results_page,
    Page.PRODUCT: _product_page,
    Page.DETAIL: _detail_page,
    Page.BOUGHT: _bought_page,
}
_DETAIL_LINES = {"description": _description, "features": _features, "reviews": _reviews}


def _row(labels: list[str]) -> str:
    return " ".join(f"click[{label}]" for label in labels)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def shorten(text: str, limit: int) -> str:
    """Return text in one line, cut at a word so that with "..." at its end it has at most `limit` characters.

    Example:
        >>> shorten("a long leather belt", 14)
        'a long...'
    """
    line = _one_line(text)
    if len(line) <= limit:
        return line
    head = line[: limit - 3]
    if not line[limit - 3].isspace() and " " in head:
        head = head[: head.rindex(" ")]
    return head.rstrip() + "..."


def legal_actions(view: View, shop: Shop, query: str) -> list[str]:
    """Return the actions of a page in the exact text that the environment accepts.

    Args:
        view: The present view.
        shop: The shop.
        query: What stands for the free text of a search.
    """
    if view.page is Page.SEARCH:
        return [f"search[{query}]"]
    return [f"click[{label}]" for label in clicks(view, shop)]


def normalise_label(label: str) -> str:
    """Return a label as it is compared: lower case, single spaces."""
    return _one_line(label).casefold()


def find_click(label: str, targets: Mapping[str, View]) -> View | None:
    """Return the view that a label leads to, compared without regard to case and spacing, or None."""
    wanted = normalise_label(label)
    return next((view for name, view in targets.items() if normalise_label(name) == wanted), None)
