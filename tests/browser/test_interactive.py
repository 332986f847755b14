"""The pictures with handles, handled: by keyboard, by pointer, and silent without scripts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from sc_utils import action_influence
from sc_utils.interactive import BetaArms, GridIterates, RivalUpdates

BANDIT = "chapters/imitating_success.html"
SIMPLEX = "chapters/geometry.html"
RIVALS = "chapters/one_operator_many_names.html"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def bandit(page: Page, base: str) -> Locator:
    page.goto(base + BANDIT)
    return page.locator(".sc-interactive")


@pytest.fixture
def simplex(page: Page, base: str) -> Locator:
    page.goto(base + SIMPLEX)
    return page.get_by_role("group", name="Three trust regions of one budget")


def test_a_slider_moves_by_key_and_the_numbers_follow(bandit: Locator) -> None:
    action = bandit.get_by_role("group", name="Action C")
    slider = action.get_by_role("slider", name="how often it succeeds")
    said = bandit.locator("[aria-live]")
    before = said.inner_text()
    slider.focus()
    slider.press("End")
    expect(action.get_by_text("1.000")).to_be_visible()
    expect(said).not_to_have_text(before)
    expected = float(action_influence([0.6, 0.3, 0.1], [0.1, 0.2, 1.0]))
    expect(said).to_contain_text(f"influence are {expected:.3f}")


def test_where_nothing_is_played_or_succeeds_it_says_so(bandit: Locator) -> None:
    for slider in bandit.get_by_role("slider").all():
        slider.press("Home")
    expect(bandit.locator("[aria-live]")).to_contain_text("Nothing succeeds")


@pytest.mark.parametrize("name", [BANDIT, SIMPLEX, RIVALS])
def test_without_scripts_a_sentence_stands_there(browser: Browser, base: str, name: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(base + name)
    expect(page.locator(".sc-interactive")).to_contain_text("it needs JavaScript")
    context.close()


def turn(simplex: Locator, action: str, slider: str, *keys: str) -> None:
    """Press keys on a slider of an action; a page up or down is a tenth."""
    handle = simplex.get_by_role("group", name=f"Action {action}").get_by_role(
        "slider", name=slider
    )
    for key in keys:
        handle.press(key)


def play(simplex: Locator) -> None:
    """Set, by keys alone, the policy to (.4, .4, .2) and its values to (.2, .4, .8)."""
    turn(simplex, "A", "played", "End", "Home", *["PageUp"] * 5)  # the others share the rest
    turn(simplex, "C", "played", "Home")
    turn(simplex, "A", "played", "Home", *["PageUp"] * 5)
    turn(simplex, "C", "played", "PageUp", "PageUp")
    for action, tenths in ("A", 2), ("B", 4), ("C", 8):
        turn(simplex, action, "succeeds", "Home", *["PageUp"] * tenths)


def found(simplex: Locator, name: str) -> str:
    """What is said of one of the policies."""
    return simplex.locator(".found").filter(has_text=name).inner_text().replace("\n", " ")


def test_at_first_the_best_in_chi_squared_is_the_imitator_in_every_digit(simplex: Locator) -> None:
    expect(simplex.locator("[aria-live]")).to_contain_text("which is the budget")
    shown = [found(simplex, name).split() for name in ("π₊, imitation", "best in χ²(π‖π₀)")]
    assert shown[0][-8:] == shown[1][-8:]


def test_by_keys_alone_imitation_sets_the_budget_and_the_optimum_is_the_imitator(
    simplex: Locator,
) -> None:
    play(simplex)
    simplex.get_by_role("button", name="the budget that imitation uses").press("Enter")
    said = simplex.locator("[aria-live]")
    moves = "Imitation moves 0.300 in χ²"
    expect(said).to_contain_text(f"{moves}, which is the budget: the best in χ² is π₊.")
    budget = simplex.get_by_role("slider", name="budget")
    expect(budget).to_have_attribute("aria-valuetext", "0.300")
    for name in "π₊, imitation", "best in χ²(π‖π₀)":
        assert found(simplex, name).split() == [
            *name.split(),
            *["gains", "30.0%", "A", "20.0%", "B", "40.0%", "C", "40.0%"],
        ]
    budget.press("Home")
    expect(said).to_contain_text(f"{moves}; the budget is 0.00: the best in χ² is π₀.")
    for name in "χ²(π‖π₀)", "KL(π‖π₀)", "KL(π₀‖π)":
        assert "gains 0.0%" in found(simplex, f"best in {name}")
    budget.press("End")
    expect(said).to_contain_text(f"{moves}; the budget is 8.00: the best in χ² is beyond π₊.")
    assert "gains 100.0%" in found(simplex, "best in KL(π‖π₀)")


def test_where_nothing_can_be_gained_it_says_so(simplex: Locator) -> None:
    said = simplex.locator("[aria-live]")
    for action in "ABC":
        turn(simplex, action, "succeeds", "End")
    expect(said).to_contain_text("All that is played succeeds equally often: π₊ is π₀.")
    for action in "ABC":
        turn(simplex, action, "succeeds", "Home")
    expect(said).to_contain_text("Nothing that is played succeeds")


def test_every_handle_is_on_the_way_of_the_tabulator(simplex: Locator, page: Page) -> None:
    simplex.get_by_role("slider", name="budget").focus()
    reached = []
    for _ in range(8):
        reached.append(page.evaluate("document.activeElement.closest('label, button').innerText"))
        page.keyboard.press("Tab")
    assert [text.split("\n")[0] for text in reached] == [
        *["budget", "the budget that imitation uses"],
        *["played", "succeeds"] * 3,
    ]


def middle(handle: Locator) -> tuple[float, float]:
    box = handle.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_behaviour_is_dragged(simplex: Locator, page: Page) -> None:
    play(simplex)
    handle, said = simplex.locator(".handle"), simplex.locator("[aria-live]")
    handle.scroll_into_view_if_needed()
    before, (x, y) = said.inner_text(), middle(handle)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 12, y - 30, steps=4)
    assert middle(handle) == pytest.approx((x + 12, y - 30), abs=1)
    assert said.inner_text() != before
    page.mouse.move(x, y + 900, steps=4)  # far below: as far as the triangle goes
    page.mouse.up()
    page.mouse.move(x, y)  # let go, it stays
    outputs = simplex.get_by_role("group", name="Action").get_by_role("status").all_inner_texts()
    played = [float(text) for text in outputs[::2]]
    assert played[2] == 0
    assert sum(played) == pytest.approx(1, abs=0.002)
    expect(said).to_contain_text("C is never played: nothing is known of it")


@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_around_it_moves(browser: Browser, base: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    shifts = "new PerformanceObserver(list => list.getEntries().forEach(e => shifts.push(e.value)))"
    page.add_init_script(f"window.shifts = []; {shifts}.observe({{type: 'layout-shift'}})")
    page.goto(base + SIMPLEX)
    simplex = page.locator(".sc-interactive")
    heights = set()
    for slider in simplex.get_by_role("slider").all():
        for key in "End", "Home", "PageUp":
            slider.press(key)
            box = simplex.bounding_box()
            assert box is not None
            heights.add(round(box["height"]))
    assert len(heights) == 1
    assert sum(page.evaluate("window.shifts")) < 0.02
    context.close()


class Fragment:
    """A picture with handles alone in a page, in the place that the site gives it."""

    def __init__(self, page: Page, html: str, theme: str = "light") -> None:
        page.set_content(
            f'<!doctype html><html lang="en" data-theme="{theme}"><meta charset="utf-8">'
            f"<title>Fragment</title><body><main><h1>Fragment</h1>{html}<p>After</p></main></body>"
        )
        self.page, self.root = page, page.locator(".sc-interactive")

    def said(self) -> Locator:
        return self.root.locator("[aria-live]")

    def heights(self, *keys: str) -> set[int]:
        """How high it is at first and after each key on each slider."""
        found = {self.height()}
        for slider in self.root.get_by_role("slider").all():
            for key in keys:
                slider.press(key)
                found.add(self.height())
        return found

    def height(self) -> int:
        box = self.root.bounding_box()
        assert box is not None
        return round(box["height"])


def papers_arms() -> str:
    a = 0.3 + 0.4 * (np.arange(99) + 0.5) / 99
    return BetaArms([*a, 18], [*a, 2], threshold=0.8)._repr_html_()


def test_a_threshold_is_moved_by_key_and_the_gain_changes_sign(page: Page) -> None:
    arms = Fragment(page, papers_arms())
    slider = arms.root.get_by_role("slider", name="threshold")
    expect(arms.said()).to_contain_text("At threshold 0.800 the gain is 0.00808, 2.57 times")
    expect(arms.said()).to_contain_text("The threshold beats faithful rewards.")
    slider.press("Home")
    expect(arms.said()).to_contain_text("At threshold 0.001")
    expect(arms.said()).to_contain_text("Faithful rewards gain more.")
    slider.press("End")
    expect(arms.said()).to_contain_text("the gain is −0.00397")
    expect(arms.said()).to_contain_text("High returns come from worse arms: imitating them harms.")
    expect(arms.root.locator(".dot")).to_have_class("dot down")
    for _ in range(30):
        slider.press("ArrowLeft")
    expect(arms.said()).to_contain_text("At threshold 0.969 the gain is −")
    slider.press("ArrowLeft")
    expect(arms.said()).to_contain_text("At threshold 0.968 the gain is 0.0000")
    expect(arms.root.locator(".dot")).to_have_class("dot up")


def test_buttons_find_the_best_threshold_and_the_change_of_sign(page: Page) -> None:
    arms = Fragment(page, papers_arms())
    arms.root.get_by_role("button", name="the best threshold").press("Enter")
    expect(arms.said()).to_contain_text("At threshold 0.835 the gain is 0.00830, 2.64 times")
    expect(arms.said()).to_contain_text("amplification 3.04 × alignment 0.868.")
    expect(arms.root.get_by_role("row", name="gain")).to_have_text("gain0.003140.00830")
    arms.root.get_by_role("button", name="where the gain is 0").press("Enter")
    expect(arms.said()).to_contain_text("At threshold 0.968 the gain is 0: the alignment is 0.")
    expect(arms.root.get_by_role("row", name="gain")).to_have_text("gain0.003140")
    expect(arms.root.get_by_role("slider")).to_have_attribute("aria-valuetext", "0.968")


def test_equal_arms_have_no_sign_to_change(page: Page) -> None:
    arms = Fragment(page, BetaArms([1, 2], [1, 2])._repr_html_())
    expect(arms.said()).to_have_text("All arms are equally good: no rule can gain.")
    expect(arms.root.get_by_role("button")).to_have_count(1)


def four_pushes(**changes: object) -> str:
    """Four states that push left, down, right and up in the end, and a goal."""
    given: dict[str, object] = {
        "letters": [["S", "F", "F"], ["F", "H", "G"]],
        "cells": [0, 1, 2, 3],
        "policies": [np.full((4, 4), 0.25), 0.04 + 0.84 * np.eye(4), np.eye(4)],
        "values": [[0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5], [0.25, 0.5, 0.75, 1]],
        "success_rates": [0.1, 0.2, 0.25],
        "steps": [0, 1, 7],
        "best": 0.25,
    }
    return GridIterates(**(given | changes))._repr_html_()  # type: ignore[arg-type]


def test_the_rounds_are_stepped_through_by_key_and_button(page: Page) -> None:
    grid = Fragment(page, four_pushes())
    slider, numbers = grid.root.get_by_role("slider"), grid.root.locator(".value")
    back, forth = (grid.root.get_by_role("button", name=name) for name in ("Previous", "Next"))
    expect(grid.said()).to_have_text(
        "Before the first round 10.0% of the episodes succeed. The best policy reaches 25.0%."
    )
    expect(back).to_have_attribute("aria-disabled", "true")
    back.press("Enter")
    expect(numbers).to_have_text(["0.10", "0.20", "0.30", "0.40"])
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "1")
    expect(grid.said()).to_contain_text("After 1 round 20.0% of the episodes succeed, 2.0 times")
    forth.press("Enter")
    expect(grid.said()).to_have_text(
        "After 7 rounds 25.0% of the episodes succeed, 2.5 times as many as at first. "
        "No policy does better than 25.0%."
    )
    expect(slider).to_have_attribute("aria-valuetext", "7")
    expect(numbers).to_have_text(["0.25", "0.50", "0.75", "1.00"])
    expect(forth).to_be_focused()
    forth.press("Enter")
    back.press("Enter")
    expect(numbers).to_have_text(["0.20", "0.30", "0.40", "0.50"])


def test_the_rounds_play_and_pause(page: Page) -> None:
    page.clock.install()
    grid = Fragment(page, four_pushes())
    button = grid.root.get_by_role("button", name="Play")
    button.press("Enter")
    expect(grid.said()).to_contain_text("After 1 round")
    expect(grid.said()).to_have_attribute("aria-live", "off")  # the end is said, not the way
    pause = grid.root.get_by_role("button", name="Pause")
    pause.press("Enter")
    page.clock.run_for(5000)
    expect(grid.said()).to_contain_text("After 1 round")
    button.press("Enter")
    expect(grid.said()).to_contain_text("After 7 rounds")
    expect(grid.said()).to_have_attribute("aria-live", "polite")
    button.press("Enter")  # from the beginning again
    expect(grid.said()).to_contain_text("Before the first round")
    page.clock.run_for(5000)
    expect(grid.said()).to_contain_text("After 7 rounds")
    expect(button).to_be_visible()


def test_the_grid_lies_as_in_the_books_figures(page: Page) -> None:
    """Cells along the rows from the upper left; actions to the left, down, to the right and up."""
    grid = Fragment(page, four_pushes())
    grid.root.get_by_role("slider").press("End")
    cells = [middle(cell) for cell in grid.root.locator(".shade").all()]
    side = cells[1][0] - cells[0][0]
    for number, (x, y) in enumerate(cells):
        row, column = divmod(number, 3)
        expected = (cells[0][0] + side * column, cells[0][1] + side * row)
        assert (x, y) == pytest.approx(expected, abs=0.5)
    drawn = grid.root.locator(".arrow:not([d=''])").all()
    towards = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    for arrow, (x, y), (right, down) in zip(drawn, cells, towards, strict=True):
        from_x, from_y = middle(arrow)
        offset = (from_x - x) / side, (from_y - y) / side
        assert offset == pytest.approx((0.36 * right, 0.36 * down), abs=0.02)
    assert grid.root.locator(".letter").all_text_contents() == ["H", "G"]


FIVE = RivalUpdates([0.4, 0.3, 0.2, 0.1], [0.1, 0.3, 0.5, 0.9])._repr_html_()
ON_THE_PATH = "nothing that moves so far gains more."


def test_the_rivals_of_the_chapter_are_chosen_and_moved_by_key(page: Page, base: str) -> None:
    page.goto(base + RIVALS)
    rivals = page.get_by_role("group", name="Five updates of one policy")
    said = rivals.locator("[aria-live]")
    expect(said).to_contain_text(f"This is success conditioning, π₊: {ON_THE_PATH}")
    rivals.get_by_role("radio", name="success conditioning").focus()
    for name, slider in (
        ("best of n", "tries n"),
        ("χ² penalty", "penalty β"),
        ("exponential tilt", "temperature β"),
        ("guidance", "weight γ"),
    ):
        page.keyboard.press("ArrowDown")
        expect(rivals.get_by_role("radio", name=name)).to_be_checked()
        page.keyboard.press("Tab")
        expect(rivals.get_by_role("slider", name=slider)).to_be_focused()
        before = said.inner_text()
        page.keyboard.press("PageUp")
        expect(said).not_to_have_text(before)
        page.keyboard.press("Shift+Tab")
    expect(said).to_contain_text("the trust-region path gains")


def turned(rivals: Fragment, update: str, *keys: str) -> Locator:
    """Choose an update, press keys on its slider, and return what is said."""
    rivals.root.get_by_role("radio", name=update).press("Space")
    for key in keys:
        rivals.root.get_by_role("slider").press(key)
    return rivals.said()


def test_three_rivals_stay_on_the_path(page: Page) -> None:
    rivals = Fragment(page, FIVE)
    rate = "The success rate goes from 32.0% to"
    success_conditioning = f"{rate} 50.6%: a gain of 58.2% for a movement of 0.582. This is success"
    expect(rivals.said()).to_contain_text(success_conditioning)
    expect(turned(rivals, "success", "PageDown")).to_contain_text(f"path: {ON_THE_PATH}")
    expect(turned(rivals, "success", "End")).to_contain_text(f"{rate} 90.0%: a gain of 181.3%")
    tries = turned(rivals, "best of n")  # 1 - 0.68 ** 3 of the way: 0.68557 * 0.58203
    expect(tries).to_contain_text(f"{rate} 44.8%: a gain of 39.9% for a movement of 0.274. It is")
    expect(turned(rivals, "best of n", "Home")).to_have_text(
        "Nothing moves: this is the behaviour, π₀."
    )
    expect(rivals.root.get_by_role("slider")).to_have_attribute("aria-valuetext", "1")
    expect(turned(rivals, "best of n", "End")).to_contain_text(success_conditioning)
    expect(turned(rivals, "penalty")).to_contain_text(success_conditioning)


def test_two_rivals_fall_below_the_path(page: Page) -> None:
    rivals = Fragment(page, FIVE)
    below = "At this movement the trust-region path gains 85.7%; this update reaches 92.9% of that."
    expect(turned(rivals, "exponential")).to_contain_text(below)
    expect(rivals.root.get_by_role("slider")).to_have_attribute("aria-valuetext", "0.320")
    expect(turned(rivals, "exponential", "Home")).to_contain_text("more than 99.9% of that")
    expect(turned(rivals, "guidance")).to_contain_text("This is success conditioning, π₊")
    expect(turned(rivals, "guidance", "Home")).to_contain_text("this update reaches 94.9% of that")
    turned(rivals, "exponential")  # each keeps its strength
    expect(rivals.root.get_by_role("slider")).to_have_attribute("aria-valuetext", "5.120")
    shares = rivals.root.get_by_role("img", name="The share of each arm: A from 40.0% to 38.")
    expect(shares).to_have_count(1)


@pytest.mark.parametrize("width", [1280, 620, 360, 320])
def test_the_rivals_keep_their_height(browser: Browser, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900})
    rivals = Fragment(context.new_page(), FIVE)
    heights = {rivals.height()}
    for radio in rivals.root.get_by_role("radio").all():
        radio.check()
        heights |= rivals.heights("Home", *["PageUp"] * 5, "End")
    assert len(heights) == 1
    context.close()


def test_the_point_never_leaves_its_plane_nor_the_path(page: Page) -> None:
    """As drawn: on the path or below it, and in the strip between its two lines."""
    rivals = Fragment(page, FIVE)
    dots, slider = rivals.root.locator(".dot"), rivals.root.get_by_role("slider")
    for update, rises in ("best of n", True), ("exponential", False), ("guidance", False):
        turned(rivals, update, "Home")
        for _ in range(8):
            slider.press("PageUp")
            x, y, strip = (
                float(dots.nth(i).get_attribute(key) or "nan")
                for i, key in ((0, "cx"), (0, "cy"), (1, "cy"))
            )
            on_path = rivals.root.locator("path.best").first.evaluate(
                "(line, x) => { let [a, b] = [0, line.getTotalLength()];"
                " for (let i = 0; i < 40; i++) { const m = (a + b) / 2;"
                " if (line.getPointAtLength(m).x < x) a = m; else b = m; }"
                " return line.getPointAtLength(a).y; }",
                x,
            )
            assert y > on_path - 0.1
            assert 258 - 1e-6 <= strip <= 340
            assert (abs(y - on_path) < 0.1 and abs(strip - 258) < 1e-6) or not rises


LAKE = four_pushes(letters=[["F"] * 4] * 4)  # of FrozenLake's size


def test_a_wide_grid_leaves_the_numbers_out(page: Page) -> None:
    wide = four_pushes(letters=[["F"] * 12] * 4, best=None)
    grid = Fragment(page, wide)
    expect(grid.root.locator(".value").first).to_have_text("")
    expect(grid.said()).to_have_text("Before the first round 10.0% of the episodes succeed.")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("html", [papers_arms(), LAKE, FIVE], ids=["arms", "grid", "rivals"])
def test_a_fragment_keeps_its_place_and_its_width(
    browser: Browser, html: str, width: int, theme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    alone = Fragment(page, html, theme)
    assert len(alone.heights("End", "Home", "PageUp")) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert alone.root.evaluate("e => e.scrollWidth <= e.clientWidth")
    # The height that is reserved is the one that is used.
    wanted = "e => { const d = e.firstElementChild; const kept = d.offsetHeight; "
    unset = "d.style.minBlockSize = 0; return kept - d.offsetHeight; }"
    assert 0 <= alone.root.evaluate(wanted + unset) <= 80
    assert complaints == []
    context.close()


@pytest.mark.parametrize("html", [papers_arms(), LAKE, FIVE], ids=["arms", "grid", "rivals"])
def test_a_fragment_without_scripts_is_a_sentence(browser: Browser, html: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    alone = Fragment(context.new_page(), html)
    expect(alone.root).to_contain_text("it needs JavaScript")
    assert alone.height() < 250
    context.close()
