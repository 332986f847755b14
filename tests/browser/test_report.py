"""The page that `report --html` writes, for every reader: alone, in both lights, at every width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

import sc_utils as sc

from .test_accessibility import faults


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on a log of several states, with returns, some of them of bad names."""
    rng = np.random.default_rng(1)
    state, action = rng.integers(12, size=4000), rng.integers(3, size=4000)
    score = rng.integers(5, size=4000) + action
    log = sc.Log(np.arange(4000), state, action, score > 3)
    tally = sc.Tally.from_log(log, returns=score)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(sc.as_html(sc.diagnose(tally)), encoding="utf-8")
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_stands_alone_and_axe_finds_nothing(
    browser: Browser, page_file: Path, theme: str, width: int
) -> None:
    asked: list[str] = []
    said: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(page_file.as_uri())
    wide = page.evaluate("document.documentElement.scrollWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    found = faults(page, {"resultTypes": ["violations"]})
    context.close()
    assert asked == [page_file.as_uri()]
    assert said == []
    assert found == []
    assert wide <= width
    assert ground == {"light": "rgb(255, 254, 252)", "dark": "rgb(21, 24, 29)"}[theme]
