"""An opened trajectory: colours, numbers, chart, frames, and its relatives."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from verl_actfocus.viewer import address, find_sources, select, write_page

from .conftest import Open
from .samples import RESPONSE, all_signals, make, write


def name(run: str, step: int = 10, task: int = 7, session: int = 2) -> str:
    return f"{run}/{step}/step{step}-task{task}/{session}"


def token(page: Page, position: int, pane: int = 0) -> Locator:
    return page.locator(".pane").nth(pane).locator(f'.token[data-i="{position}"]')


def choose(page: Page, signal: str) -> None:
    page.locator("#signal").select_option(value=signal)


def strength(one: Locator) -> float:
    return float(one.evaluate("it => it.style.getPropertyValue('--strength')"))


def number(text: str) -> float:
    return float(text.strip("≤≥ ").replace("−", "-"))


def ticks(page: Page) -> list[float]:
    return [number(text) for text in page.locator(".ticks span").all_inner_texts()]


@pytest.fixture
def actfocus(two_runs: Path, open_page: Open) -> Page:
    return open_page(two_runs, address(name("ActFocus")))


#: Signals of the opened trajectory: step 10, task 7, session 2 is the eleventh that was made.
RECORDED = all_signals(10)


def test_turns_stand_beside_the_frames_that_they_answer(actfocus: Page) -> None:
    assert actfocus.locator(".frame pre").all_inner_texts() == ["P _ G", "_ P G", "_ _ P"]
    texts = ["".join(one.locator(".token").all_text_contents()) for one in actfocus.locator(".text").all()]
    assert texts == ["".join(RESPONSE)] * 2
    assert actfocus.locator(".result").all_inner_texts() == ["executed: Right\nreward 0", "executed: Right\nreward +1"]
    frame, text = (actfocus.locator(one).first.bounding_box() for one in (".frame", ".text"))
    assert frame and text and frame["x"] + frame["width"] <= text["x"]


def test_weights_are_the_first_colours_and_grow_with_the_weight(actfocus: Page) -> None:
    assert actfocus.locator("#signal").input_value() == "weight"
    low, _, high = ticks(actfocus)
    assert low == 0 and 1.4 < high <= 1.5
    for position in (0, 6, 12):
        expected = min(1, RECORDED["weight"][position] / high)
        assert strength(token(actfocus, position)) == pytest.approx(expected, abs=0.002)


def test_signed_signals_diverge_around_0_and_the_ratio_around_1(actfocus: Page) -> None:
    choose(actfocus, "weighted_advantage")
    low, middle, high = ticks(actfocus)
    assert middle == 0 and low == -high
    side = "up" if RECORDED["advantage"][0] > 0 else "down"
    assert token(actfocus, 3).get_attribute("data-side") == side
    choose(actfocus, "ratio")
    low, middle, high = ticks(actfocus)
    assert middle == 1 and low * high == pytest.approx(1, rel=1e-3)
    for position in (0, 4, 15):
        log_ratio = RECORDED["old_log_prob"][position] - RECORDED["rollout_log_prob"][position]
        assert token(actfocus, position).get_attribute("data-side") == ("up" if log_ratio >= 0 else "down")


def test_the_least_likely_token_has_the_strongest_colour(actfocus: Page) -> None:
    choose(actfocus, "rollout_log_prob")
    values = {i: RECORDED["rollout_log_prob"][i] for i in (*range(8), *range(11, 19))}
    strengths = {i: strength(token(actfocus, i)) for i in values}
    assert max(strengths, key=lambda i: strengths[i]) == min(values, key=lambda i: values[i])


def test_every_signal_of_the_issue_is_in_the_menu(actfocus: Page) -> None:
    values = actfocus.locator("#signal option").evaluate_all("all => all.map(one => one.value)")
    assert {
        *("weight", "ref_energy", "advantage", "weighted_advantage", "signal", "ratio", "old_entropy"),
        *("rollout_log_prob", "old_log_prob", "ref_log_prob"),
    } <= set(values)


def test_what_was_not_recorded_is_said_and_never_0(two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs, address(name("Uniform")))
    assert "energy (reference) (not recorded)" in page.locator("#signal option").all_inner_texts()
    choose(page, "ref_energy")
    expect(page.locator("#legend .unrecorded")).to_have_text("energy (reference): not recorded")
    assert page.locator(".chart").count() == 0
    assert page.locator(".token[data-side]").count() == 0
    token(page, 0).hover()
    card = page.locator("#card")
    assert "not recorded: energy (reference), signal of the weighting, ratio" in card.inner_text()
    assert "energy (reference)" not in card.locator("table").inner_text()


def test_pointer_and_keyboard_show_all_numbers_of_a_token(actfocus: Page) -> None:
    card = actfocus.locator("#card")

    def numbers() -> dict[str, str]:
        return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in card.locator("tr").all()}

    token(actfocus, 6).hover()
    by_pointer = numbers()
    assert '"Right"' in card.inner_text() and "action · turn 1 · position 6 · id 6" in card.inner_text()
    for signal, label in {
        "weight": "weight",
        "ref_energy": "energy (reference)",
        "old_entropy": "entropy (policy)",
    }.items():
        assert number(by_pointer[label]) == pytest.approx(RECORDED[signal][6], rel=1e-3)
    product = RECORDED["weight"][6] * RECORDED["advantage"][6]
    assert number(by_pointer["weight × advantage"]) == pytest.approx(product, rel=1e-3)
    assert len(by_pointer) == 11
    actfocus.mouse.move(2, 2)
    expect(card).to_be_hidden()
    token(actfocus, 0).focus()
    for _ in range(6):
        actfocus.keyboard.press("ArrowRight")
    expect(token(actfocus, 6)).to_be_focused()
    assert numbers() == by_pointer
    actfocus.keyboard.press("End")
    expect(token(actfocus, 18)).to_be_focused()
    actfocus.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_one_token_of_a_trajectory_is_in_the_tab_order(actfocus: Page) -> None:
    assert actfocus.locator('.token[tabindex="0"]').count() == 1
    token(actfocus, 5).click()
    assert actfocus.locator('.token[tabindex="0"]').get_attribute("data-i") == "5"


def test_the_chart_has_a_bar_for_every_token_of_the_model_and_the_borders_of_spans(actfocus: Page) -> None:
    chart = actfocus.locator(".chart")
    bars = {
        kind: (chart.locator(f".bars.{kind}").get_attribute("d") or "").count("M")
        for kind in ("reasoning", "action", "none")
    }
    assert bars == {"reasoning": 8, "action": 2, "none": 6}
    # reasoning, tags, action, tag; the environment; the same again.
    assert chart.locator(".border").count() == 9
    assert chart.locator("text:not(.tick)").all_text_contents()[:3] == ["turn 1", "environment", "turn 2"]
    token(actfocus, 6).focus()
    expect(chart.locator(".mark")).to_have_attribute("visibility", "visible")


def test_arrows_step_through_the_siblings_of_the_group(actfocus: Page) -> None:
    expect(actfocus.locator(".stepper").first).to_contain_text("sibling 3 of 4")
    actfocus.keyboard.press("ArrowRight")
    expect(actfocus.locator(".stepper").first).to_contain_text("sibling 4 of 4")
    expect(actfocus.locator(".facts").first).to_contain_text(
        "step 10 · corridor · task 7 · group step10-task7, session 3"
    )
    actfocus.get_by_role("button", name="previous: siblings").click()
    expect(actfocus.locator(".stepper").first).to_contain_text("sibling 3 of 4")
    expect(actfocus.get_by_role("button", name="previous: siblings")).to_be_focused()


def test_shift_and_arrows_step_to_the_same_task_at_other_steps(actfocus: Page) -> None:
    actfocus.keyboard.press("Shift+ArrowRight")
    expect(actfocus.locator(".facts").first).to_contain_text(
        "step 20 · corridor · task 7 · group step20-task7, session 2"
    )
    for _ in range(2):
        actfocus.keyboard.press("Shift+ArrowLeft")
        actfocus.wait_for_timeout(100)
    expect(actfocus.locator(".stepper").nth(1)).to_contain_text("step 1 (1 of 3)")


def test_the_same_task_of_another_run_stands_beside_and_follows(two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs, address(name("Uniform")))
    page.locator("#beside").select_option(label="ActFocus")
    expect(page.locator(".pane h2")).to_have_text(["Uniform", "ActFocus"])
    left, right = (page.locator(".pane").nth(i).bounding_box() for i in (0, 1))
    assert left and right and left["x"] + left["width"] <= right["x"] and left["y"] == right["y"]
    choose(page, "advantage")
    assert token(page, 0, 0).get_attribute("data-side") == token(page, 0, 1).get_attribute("data-side")
    page.locator(".pane").first.get_by_role("button", name="next: siblings").click()
    facts = page.locator(".pane header .facts:nth-child(2)")
    expect(facts).to_have_text(["step 10 · corridor · task 7 · group step10-task7, session 3"] * 2)
    page.locator(".pane").nth(1).get_by_role("button", name="previous: siblings").click()
    expect(facts.nth(1)).to_contain_text("session 2")
    expect(facts.nth(0)).to_contain_text("session 3")
    page.keyboard.press("b")
    expect(page.locator(".pane h2")).to_have_text(["Uniform"])


def test_an_address_opens_two_trajectories_and_a_signal(two_runs: Path, open_page: Open) -> None:
    fragment = address(name("Uniform", session=1), name("ActFocus", session=1)) + "&signal=advantage"
    page = open_page(two_runs, fragment)
    expect(page.locator(".pane h2")).to_have_text(["Uniform", "ActFocus"])
    assert page.locator("#signal").input_value() == "advantage"
    unknown = open_page(two_runs, address("nobody/1/g/0"))
    expect(unknown.locator(".notice")).to_have_text("There is no trajectory nobody/1/g/0 on this page.")


def test_the_keys_are_explained_on_the_page(actfocus: Page) -> None:
    actfocus.locator(".keys summary").click()
    assert actfocus.locator(".keys dt").all_inner_texts()[:2] == ["← →", "Shift ← →"]
    actfocus.keyboard.press("s")
    expect(actfocus.locator("#signal")).to_be_focused()


def test_a_trajectory_alone_says_that_it_has_no_relatives(tmp_path: Path, open_page: Open) -> None:
    file = write(tmp_path / "one.jsonl", [make()])
    write_page(select(find_sources([file]), 1), tmp_path / "page.html")
    page = open_page(tmp_path / "page.html", address("one/1/task-7/0"))
    assert page.locator(".stepper").all_inner_texts() == [
        "no siblings on this page",
        "no other steps of this task on this page",
    ]
    expect(page.locator("#beside")).to_be_disabled()


def test_without_a_choice_the_first_recorded_signal_has_the_colours(tmp_path: Path, open_page: Open) -> None:
    with_weights, without = make(), make(group="b", signals={"rollout_log_prob": [-1.0] * 19})
    nothing = make(group="c", signals={})
    file = write(tmp_path / "a.jsonl", [with_weights, without, nothing])
    write_page(select(find_sources([file]), 9), tmp_path / "page.html")
    for group, signal in {"task-7": "weight", "b": "rollout_log_prob", "c": "spans"}.items():
        page = open_page(tmp_path / "page.html", address(f"a/1/{group}/0"))
        assert page.locator("#signal").input_value() == signal
