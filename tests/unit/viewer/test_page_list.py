"""The page lists trajectories, filters and sorts them, and opens them, by mouse and by keyboard."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from .conftest import SESSIONS, STEPS, TASKS, Open

ALL = 2 * len(STEPS) * len(TASKS) * SESSIONS


def rows(page: Page) -> int:
    return page.locator("tbody tr[data-number]").count()


def cells(page: Page, name: str) -> list[str]:
    place = page.locator("thead button").all_inner_texts()
    at = next(i for i, text in enumerate(place) if text.rstrip(" ▲▼") == name)
    return page.locator(f"tbody tr td:nth-child({at + 1})").all_inner_texts()


def choose(page: Page, name: str, value: str) -> None:
    page.locator(f'select[data-filter="{name}"]').select_option(label=value)


def test_every_trajectory_is_in_the_list(two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs)
    assert rows(page) == ALL
    expect(page.locator(".count")).to_have_text(f"{ALL} trajectories")
    assert cells(page, "run").count("Uniform") == ALL // 2


def test_filters_add_up_and_are_cleared(two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs)
    choose(page, "outcome", "not solved")
    expect(page.locator(".count")).to_have_text(f"{ALL // 2} of {ALL} trajectories")
    assert set(cells(page, "stop reason")) == {"turn_limit"}
    choose(page, "run", "ActFocus")
    choose(page, "step", "10")
    choose(page, "group", "step10-task8 · task 8")
    expect(page.locator(".count")).to_have_text(f"2 of {ALL} trajectories")
    choose(page, "stop", "success")
    expect(page.locator("tbody")).to_have_text("No trajectory passes these filters.")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".count")).to_have_text(f"{ALL} trajectories")


def test_text_of_prompt_model_and_environment_is_searched(two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs)
    for words, found in (("GOAL EIGHT", ALL // 2), ("goal is right", ALL), ("into a wall", ALL // 2), ("nowhere", 0)):
        page.locator('[data-filter="text"]').fill(words)
        expect(page.locator(".count")).to_have_text(
            f"{ALL} trajectories" if found == ALL else f"{found} of {ALL} trajectories"
        )


def test_every_column_sorts_both_ways(two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs)
    for button in page.locator("thead button").all():
        name = button.inner_text().rstrip(" ▲▼")
        values = {}
        for _ in range(2):
            page.locator("thead button", has_text=name).first.click()
            way = page.locator("th[aria-sort]").get_attribute("aria-sort")
            values[way] = cells(page, name)
        number = all(value.lstrip("+−").replace(".", "").isdecimal() for value in values["ascending"])
        # The page keeps a run's place in the order of its sources.
        key = {"run": ["Uniform", "ActFocus"].index}.get(
            name, (lambda text: float(text.replace("−", "-"))) if number else str
        )
        assert values["ascending"] == sorted(values["ascending"], key=key), name
        assert values["descending"] == sorted(values["descending"], key=key, reverse=True), name


def test_the_keyboard_alone_sorts_opens_and_comes_back_to_the_same_row(two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs)
    page.locator("thead button", has_text="reward").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.dataset.sort") == "reward"
    page.locator("tbody tr:nth-child(5) a").focus()
    opened = page.evaluate("document.activeElement.closest('tr').dataset.number")
    page.keyboard.press("Enter")
    expect(page.locator(f'.pane[data-number="{opened}"]')).to_be_visible()
    assert page.evaluate("document.activeElement.tagName") == "H2"
    page.keyboard.press("Escape")
    expect(page.locator("table.list")).to_be_visible()
    expect(page.locator(f'tr[data-number="{opened}"] a')).to_be_focused()
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")


def test_back_of_the_browser_leads_to_the_list(two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs)
    page.locator("tbody tr:nth-child(2) td:nth-child(3)").click()
    expect(page.locator(".pane")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.go_back()
    expect(page.locator("table.list")).to_be_visible()
