"""Every chapter keeps to the frame: parts in order, short cells, described figures, solutions."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
import yaml

from _ext.cells import Cell, chapters, read_cells

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "index.md", *sorted((ROOT / "chapters").glob("*.md"))]
FRAME = ["When it breaks", "In practice", "Takeaways", "Exercises"]


def body(text: str) -> str:
    """A page without its front matter and its cells."""
    text = re.sub(r"\A---\n.*?^---$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^```\{code-cell\}.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def words(text: str) -> int:
    """Count what is read: prose, titles, captions; a formula is one word, code and labels none."""
    captions = [
        cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
        for cell in read_cells(text)
    ]
    prose = "\n".join([body(text), *captions])
    prose = re.sub(r"^\s*:[\w-]+:.*$", "", prose, flags=re.MULTILINE)
    prose = re.sub(r"^\s*[`:]{3,}(\{[\w:-]+\})?", "", prose, flags=re.MULTILINE)
    prose = re.sub(r"\$\$.*?\$\$|\$[^$]*\$", " formula ", prose, flags=re.DOTALL)
    prose = re.sub(r"\{[\w:-]+\}`[^`]*`", " role ", prose)
    return len(re.findall(r"\w[\w'’.,-]*", prose))


def size(source: str) -> int:
    """Lines that say something: a bracket alone on its line does not."""
    return sum(bool(re.search(r"\w", line)) for line in source.splitlines())


def tree(cell: Cell) -> ast.Module:
    return ast.parse(re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE))


def draws(cell: Cell) -> bool:
    """Whether the cell uses ``plt``, as every figure of the book does."""
    return any(
        isinstance(node, ast.Attribute) and ast.unparse(node.value) == "plt"
        for node in ast.walk(tree(cell))
    )


def directives(text: str, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the argument and the options of every directive of that name."""
    pattern = rf"^[`:]{{3,}}\{{{name}\}} *(.*)\n((?::[\w-]+:.*\n)*)"
    for argument, options in re.findall(pattern, text, re.MULTILINE):
        yield argument, dict(re.findall(r"^:([\w-]+): *(.*)$", options, re.MULTILINE))


@pytest.fixture(params=chapters().values(), ids=chapters())
def chapter(request: pytest.FixtureRequest) -> str:
    return request.param.read_text("utf-8")


def test_a_chapter_takes_twenty_minutes(chapter: str) -> None:
    assert 2000 <= words(chapter) <= 2500


def test_there_are_cells_enough_and_they_are_short(chapter: str) -> None:
    cells = read_cells(chapter)
    assert 15 <= len(cells) <= 30
    assert median(size(cell.source) for cell in cells) <= 5
    assert [cell.line for cell in cells if size(cell.source) > (20 if draws(cell) else 15)] == []


def test_a_function_of_a_chapter_is_short(chapter: str) -> None:
    for cell in read_cells(chapter):
        for node in ast.walk(tree(cell)):
            if isinstance(node, ast.FunctionDef):
                assert size(ast.unparse(node)) <= 8, f"{node.name} in the cell at line {cell.line}"


def test_a_chapter_has_one_source_of_randomness(chapter: str) -> None:
    assert sum(cell.source.count("default_rng(") for cell in read_cells(chapter)) <= 1
    assert not [cell.line for cell in read_cells(chapter) if "random.seed" in cell.source]


def test_every_figure_has_a_name_a_caption_and_words_for_who_cannot_see_it(chapter: str) -> None:
    figures = [cell for cell in read_cells(chapter) if draws(cell)]
    assert figures
    for cell in figures:
        shown = cell.metadata.get("mystnb", {})
        place = f"figure at line {cell.line}"
        assert len(shown.get("image", {}).get("alt", "").split()) >= 10, place
        assert len(shown.get("figure", {}).get("caption", "").split()) >= 10, place
        assert shown["figure"].get("name", "").startswith("fig-"), place
        assert shown["image"]["alt"] != shown["figure"]["caption"], place
    assert "![](" not in chapter


def test_the_card_comes_first_and_says_what_to_expect(chapter: str) -> None:
    card = re.search(
        r"^# .+\n\n:::\{admonition\} .+\?\n:class: chapter-card\n(.*?)^:::$",
        body(chapter),
        re.DOTALL | re.MULTILINE,
    )
    assert card
    for entry in ("**After this chapter you can**", "**Needed:**", "**Time:**", "**Paper:**"):
        assert entry in card[1]
    assert 3 <= len(re.findall(r"^- ", card[1], re.MULTILINE)) <= 5


def test_the_puzzle_is_short_and_asks_for_a_prediction(chapter: str) -> None:
    puzzle = chapter.split("\n## ")[1]
    assert ":class: predict\n" in puzzle
    assert words(puzzle) <= 250


def test_the_parts_stand_in_order(chapter: str) -> None:
    titles = re.findall(r"^## (.+)$", body(chapter), re.MULTILINE)
    assert [part for title in titles for part in FRAME if title.startswith(part)] == FRAME
    assert titles[-1].startswith("Exercises")
    assert "**Bibliographic notes.**" in chapter


def test_every_exercise_is_rated_and_has_a_closed_solution(chapter: str) -> None:
    exercises = {options["label"]: title for title, options in directives(chapter, "exercise")}
    assert len(exercises) >= 4
    assert {title.split()[0] for title in exercises.values()} <= {"★", "★★", "★★★"}
    solutions = dict(directives(chapter, "solution-start")) | dict(directives(chapter, "solution"))
    assert solutions == {
        label: {"label": f"sol-{label}", "class": "dropdown"} for label in exercises
    }


def test_a_solution_runs(chapter: str) -> None:
    _, exercises = chapter.split("\n## Exercises")
    assert read_cells(exercises)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_a_description_for_search_engines(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.startswith("---\n")
    description = yaml.safe_load(text.split("---\n")[1])["myst"]["html_meta"]["description"]
    assert 40 <= len(description) <= 300


def test_words_are_what_is_read() -> None:
    page = """---
title: front matter
---
# A title

:::{note} Named
:class: tip
Three words $x + y = z$ more.
:::

```{code-cell} ipython3
---
mystnb:
  figure:
    caption: "A caption."
---
x = 1
```
"""
    assert words(page) == 9  # A title. Named. Three words, a formula, more. A caption.
