"""The pictures with handles, handled: by keyboard, and silent without scripts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from sc_utils import action_influence

PAGE = "chapters/imitating_success.html"


@pytest.fixture
def bandit(browser: Browser, base: str) -> Iterator[Locator]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(base + PAGE)
    yield page.locator(".sc-interactive")
    context.close()


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


def test_without_scripts_a_sentence_stands_there(browser: Browser, base: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(base + PAGE)
    expect(page.locator(".sc-interactive")).to_contain_text("it needs JavaScript")
    context.close()
