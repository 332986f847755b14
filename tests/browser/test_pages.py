"""Every page as a reader's browser shows it: quiet, self-contained, typeset, by day and night."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect

from .conftest import Visit, scheme

TEX = re.compile(r"\$|\\[([a-zA-Z]|\\begin")


def test_loads_without_complaint_or_foreign_request(visit: Visit, base: str) -> None:
    visit.page.wait_for_load_state("networkidle")
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith((base, "data:"))] == []
    assert not any("fontawesome.js" in url for url in visit.requests)
    fonts = [url.rpartition("/")[2] for url in visit.requests if "/source-serif" in url]
    assert sorted(fonts) == ["source-serif-4-italic.woff2", "source-serif-4.woff2"]


def test_mathematics_is_laid_out(visit: Visit) -> None:
    text = visit.page.evaluate(
        """() => {
            const article = document.querySelector("#main-content").cloneNode(true);
            article.querySelectorAll("pre, code, script, .math").forEach(e => e.remove());
            return article.textContent;
        }"""
    )
    assert TEX.findall(text) == []
    formulas = visit.page.evaluate(
        """() => [...document.querySelectorAll(".bd-article .math")].map(e => {
            const {width, height} = e.querySelector("svg")?.getBoundingClientRect() ?? {};
            return [e.textContent, width, height, e.querySelector("math") !== null];
        })"""
    )
    for spoken, width, height, mathml in formulas:
        assert mathml, spoken
        assert width > 1, spoken
        assert height > 1, spoken


def test_figures_and_background_follow_the_theme(visit: Visit) -> None:
    page = visit.page
    shown = "imgs => imgs.map(i => i.checkVisibility())"
    backgrounds = {}
    for theme, other in ("light", "dark"), ("dark", "light"):
        backgrounds[theme] = scheme(page, theme)
        assert all(page.locator(f".bd-article img.only-{theme}").evaluate_all(shown))
        assert not any(page.locator(f".bd-article img.only-{other}").evaluate_all(shown))
    assert backgrounds["light"] != backgrounds["dark"]
    light, dark = (page.locator(f".bd-article img.only-{t}").count() for t in ("light", "dark"))
    assert light == dark


def test_fits_a_phone(visit: Visit) -> None:
    page = visit.page
    page.set_viewport_size({"width": 360, "height": 740})
    try:
        width = page.evaluate("document.documentElement.scrollWidth")
        outside = page.evaluate(
            """() => {
                const held = e => e && e !== document.body
                    && (getComputedStyle(e).overflowX !== "visible" || held(e.parentElement));
                return [...document.querySelectorAll(".bd-article *")]
                    .filter(e => e.getBoundingClientRect().right > 361 && !held(e))
                    .map(e => e.outerHTML.slice(0, 120));
            }"""
        )
        assert outside == []
        assert width <= 360
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})


def test_the_switch_changes_the_theme(visit: Visit) -> None:
    page = visit.page
    before = scheme(page, "light")
    switch = page.get_by_role("button", name="Theme")
    switch.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    switch.click()
    switch.click()
    expect(page.locator("html")).to_have_attribute("data-mode", "auto")


def test_search_finds_action_influence(browser: Browser, base: str) -> None:
    with browser.new_page() as page:
        page.goto(f"{base}index.html")
        page.keyboard.press("Control+k")
        page.get_by_role("searchbox").fill("action-influence")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=action-influence**")
        found = page.locator("#search-results a[href*='imitating_success.html']")
        expect(found.first).to_be_visible()
        found.first.click()
        expect(page.locator("h1").last).to_be_visible()
        assert "action-influence" in page.locator(".bd-article").inner_text().lower()


def test_reads_without_scripts(browser: Browser, base: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{base}chapters/imitating_success.html")
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        assert page.locator(".bd-article .math svg").first.bounding_box()
