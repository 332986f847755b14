"""The built files without a browser: links, words for pictures, descriptions, what to run where."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from .conftest import CHAPTERS, PAGES, ROOT

REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["repository"]
NOTEBOOKS = [
    name for name in CHAPTERS if "kernelspec" in (ROOT / f"{name}.md").read_text("utf-8")[:400]
]


class Elements(HTMLParser):
    """The start tags of a page, each with its attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def values(self, attribute: str, *tags: str) -> list[str]:
        return [a[attribute] for tag, a in self.found if attribute in a and tag in (tags or {tag})]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Elements]:
    files = [
        file for file in site.glob("**/*.html") if file.relative_to(site).parts[0] != "_static"
    ]
    return {file.relative_to(site).with_suffix("").as_posix(): Elements(file) for file in files}


def test_the_site_has_the_pages_that_are_tested_and_no_others(pages: dict[str, Elements]) -> None:
    assert sorted(pages) == sorted(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_links_arrive(name: str, pages: dict[str, Elements], site: Path) -> None:
    lost = []
    for link in pages[name].values("href", "a", "link") + pages[name].values("src"):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (site / name).parent / unquote(parts.path) if parts.path else site / f"{name}.html"
        file = target.resolve().relative_to(site.resolve())
        anchors = pages.get(file.with_suffix("").as_posix())
        if not (site / file).is_file() or (
            parts.fragment and anchors and unquote(parts.fragment) not in anchors.values("id")
        ):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("name", PAGES)
def test_an_identifier_is_given_once(name: str, pages: dict[str, Elements]) -> None:
    ids = pages[name].values("id")
    assert sorted({i for i in ids if ids.count(i) > 1}) == []


@pytest.mark.parametrize("name", PAGES)
def test_pictures_have_words(name: str, pages: dict[str, Elements]) -> None:
    images = [attributes for tag, attributes in pages[name].found if tag == "img"]
    for image in images:
        alt = image.get("alt", "")
        assert alt, image["src"]
        assert not re.search(r"\.(png|svg)$|[0-9a-f]{32}", alt), alt


def test_every_page_has_a_description_of_its_own(pages: dict[str, Elements]) -> None:
    descriptions = {
        name: [
            a["content"]
            for t, a in pages[name].found
            if t == "meta" and a.get("name") == "description"
        ]
        for name in CHAPTERS
    }
    assert {name for name, texts in descriptions.items() if len(texts) != 1} == set()
    texts = [texts[0] for texts in descriptions.values()]
    assert [text for text in texts if not 40 <= len(text) <= 250] == []
    assert len(set(texts)) == len(texts)


def test_chapters_launch_in_binder_and_nowhere_else(pages: dict[str, Elements]) -> None:
    repository = REPOSITORY["url"].removeprefix("https://github.com/")
    binder = f"https://mybinder.org/v2/gh/{repository}/{REPOSITORY['branch']}?urlpath=lab/tree/"
    for name in PAGES:
        launches = [link for link in pages[name].values("href", "a") if "mybinder.org" in link]
        expected = [f"{binder}{name}.md"] if name in NOTEBOOKS else []
        assert launches == expected
    assert NOTEBOOKS
    assert all((ROOT / f"{name}.md").is_file() for name in NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_download_is_a_notebook(name: str, pages: dict[str, Elements], site: Path) -> None:
    (link,) = [link for link in pages[name].values("href", "a") if link.endswith(".ipynb")]
    notebook = nbformat.read((site / name).parent / link, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_a_download_runs(site: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(site / "_sources/chapters/imitating_success.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
