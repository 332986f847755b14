"""Every page for every reader: what axe-core finds, and what the keyboard reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Browser, Page

from .conftest import Visit, scheme

AXE = Path(AXE_FILE_PATH).read_text("utf-8")


def faults(page: Page, options: dict[str, Any]) -> list[str]:
    """Return what axe-core finds on the page: the rule and the element, fault by fault."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate(
        "options => axe.run(document, options).then(result => result.violations)", options
    )
    return [
        f"{fault['id']} ({fault['help']}): {node['html'][:200]}"
        for fault in found
        for node in fault["nodes"]
    ]


def test_axe_finds_nothing(visit: Visit) -> None:
    scheme(visit.page, "light")
    experiments = {"label-content-name-mismatch": {"enabled": True}}
    assert faults(visit.page, {"resultTypes": ["violations"], "rules": experiments}) == []


def test_axe_finds_nothing_in_the_dark(visit: Visit) -> None:
    scheme(visit.page, "dark")
    colours = ["color-contrast", "link-in-text-block"]  # no other rule depends on the theme
    assert faults(visit.page, {"resultTypes": ["violations"], "runOnly": colours}) == []


def test_a_dropdown_opens_by_keyboard(browser: Browser, base: str) -> None:
    with browser.new_page() as page:
        page.goto(f"{base}chapters/imitating_success.html")
        solution = page.locator("details.solution").first
        assert solution.get_attribute("open") is None
        solution.locator("summary").focus()
        page.keyboard.press("Enter")
        assert solution.get_attribute("open") is not None
