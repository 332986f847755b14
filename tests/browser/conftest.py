"""The built site, served under a sub-path on the loopback, and a page of it in Chromium."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from sphinx_external_toc.parsing import parse_toc_yaml

from _ext.build import ROOT

SITE = ROOT / "_build" / "html"
PREFIX = "/success-conditioning/"  # where the site lies on its server: never at the root
CHAPTERS = list(parse_toc_yaml(ROOT / "_toc.yml"))
PAGES = [*CHAPTERS, "search"]
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


class Handler(SimpleHTTPRequestHandler):
    """Serve the site under the prefix, and nothing elsewhere."""

    def translate_path(self, path: str) -> str:
        if not path.startswith(PREFIX):
            return str(SITE / "there-is-nothing-outside-the-prefix")
        return super().translate_path("/" + path.removeprefix(PREFIX))

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="session")
def base(site: Path) -> Iterator[str]:
    """The address of the site, ending in a slash."""
    handler = functools.partial(Handler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail(
            "the site is tested in Chromium, and there is none on the path; on Debian or Ubuntu:"
            " apt-get install chromium"
        )
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=CHROMIUM) as browser,
    ):
        yield browser


@dataclass
class Visit:
    """A page that was opened, and all it asked for and complained of since."""

    name: str
    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module", params=PAGES)
def visit(request: pytest.FixtureRequest, browser: Browser, base: str) -> Iterator[Visit]:
    """Each page of the site in turn, opened once for all its tests, every disclosure open."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    page = context.new_page()
    visit = Visit(request.param, page)

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.complaints.append(f"{message.text} ({message.location['url']})")

    page.on("console", said)
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("requestfailed", lambda request: visit.complaints.append(f"failed: {request.url}"))
    page.goto(f"{base}{request.param}.html", wait_until="load")
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    yield visit
    context.close()


def scheme(page: Page, theme: str) -> str:
    """Make the reader prefer a theme, and return the colour that the page then has."""
    page.emulate_media(color_scheme=theme)
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))
