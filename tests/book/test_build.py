"""The build: from chapters to pages, once, again when it must, and never with a fault."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_client.connect import LocalPortCache
from myst_nb.core.read import myst_nb_reader_plugin

from _ext import execution
from _ext.build import ROOT, fingerprint
from _ext.execution import cache_folder, notebooks
from sc_utils.figures import BY_NIGHT

CHAPTERS = [name for name, _ in notebooks(ROOT)]

# --- The book -----------------------------------------------------------------------------


class Page(HTMLParser):
    """The ids of a page, and the addresses and pictures it refers to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.uses: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if name := attributes.get("id"):
            self.ids.append(name)
        address = attributes.get("href") or attributes.get("src") or ""
        match tag:
            case "a":
                self.links.append(address)
            case "use":
                self.uses.append(address.removeprefix("#"))
            case "link" if attributes.get("rel") in (
                "canonical",
                "search",
                "index",
                "next",
                "prev",
            ):
                pass
            case "link" | "script" | "img" | "iframe" | "source":
                self.loaded.append(address)
        if tag == "img":
            self.pictures.append(attributes)

    handle_startendtag = handle_starttag


@pytest.fixture(scope="session")
def pages(site: Path) -> list[Page]:
    return [Page(path) for path in sorted(site.rglob("*.html"))]


def test_no_page_loads_anything_from_elsewhere(pages: list[Page]) -> None:
    foreign = [
        (page.path.name, address)
        for page in pages
        for address in page.loaded
        if re.match(r"(https?:)?//", address)
    ]
    assert foreign == []


def test_mathematics_needs_no_script(site: Path, pages: list[Page]) -> None:
    assert any(page.uses for page in pages)
    for page in pages:
        scripts = re.findall(r"<script.*?</script>", page.path.read_text(), re.DOTALL)
        assert not [script for script in scripts if "mathjax" in script.lower()], page.path
    assert not [path for path in (site / "_static").rglob("*") if "mathjax" in path.name.lower()]


def test_every_glyph_of_a_page_is_defined_in_it_once(pages: list[Page]) -> None:
    for page in pages:
        for glyph in set(page.uses):
            assert page.ids.count(glyph) == 1, (page.path, glyph)


def test_every_figure_has_words_and_is_there_by_day_and_by_night(pages: list[Page]) -> None:
    figures = 0
    for page in pages:
        for picture in page.pictures:
            assert (picture["alt"] or "").strip(), (page.path, picture["src"])
            if "only-light" not in (picture.get("class") or ""):
                continue
            figures += 1
            day = page.path.parent / str(picture["src"])
            night = day.with_name(day.name.replace("-light.svg", "-dark.svg"))
            drawn = set(re.findall(r"#[0-9a-f]{6}\b", night.read_text()))
            assert day.exists(), (page.path, day)
            assert not drawn & set(BY_NIGHT), (page.path, night)
            assert {p["alt"] for p in page.pictures if night.name in str(p["src"])} == {
                picture["alt"]
            }
    assert figures >= len(CHAPTERS)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_can_be_downloaded_as_a_notebook_that_runs(site: Path, name: str) -> None:
    assert f'href="../_sources/{name}.ipynb"' in (site / f"{name}.html").read_text()
    notebook = nbformat.read(site / "_sources" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    source = myst_nb_reader_plugin(str(ROOT / f"{name}.md"))
    offered, written = (
        [cell.source for cell in book.cells if cell.cell_type == "code"]
        for book in (notebook, source)
    )
    assert offered == written


def test_the_status_page_tells_how_long_every_chapter_took(site: Path) -> None:
    page = (site / "chapters" / "build_status.html").read_text()
    row = r'href="([\w.]+)"><span class="doc">.*?<p>(\d+)</p>.*?<p>([\d.]+)</p>'
    rows = re.findall(row, page, re.DOTALL)
    assert [link for link, _, _ in rows] == [f"{Path(name).name}.html" for name in CHAPTERS]
    assert all(int(cells) > 0 and float(seconds) > 0 for _, cells, seconds in rows)


RUN = """
import sys
from pathlib import Path
import nbformat
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.read import myst_nb_reader_plugin

notebook = myst_nb_reader_plugin(sys.argv[1])
folder = str(Path(sys.argv[1]).parent)
how = {"timeout": 120, "allow_errors": False, "coalesce_streams": True}
single_nb_execution(notebook, cwd=folder, **how)
nbformat.write(notebook, sys.argv[2])
"""


def test_a_chapter_that_runs_again_says_and_draws_the_same(site: Path, tmp_path: Path) -> None:
    name, notebook = next(notebooks(ROOT))
    _, first = get_cache(cache_folder(ROOT)).merge_match_into_notebook(notebook)
    command = [sys.executable, "-c", RUN, str(ROOT / f"{name}.md"), str(tmp_path / "again.ipynb")]
    subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, check=True)
    second = nbformat.read(tmp_path / "again.ipynb", as_version=4)
    shown = [
        [cell.outputs for cell in book.cells if cell.cell_type == "code"]
        for book in (first, second)
    ]
    assert any("image/svg+xml" in str(outputs) for outputs in shown[0])
    assert shown[0] == shown[1]


# --- A small tree of its own --------------------------------------------------------------

CHAPTER = r"""---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# One chapter

By {eq}`eq-one` and {prf:ref}`def-one`, $\E[Q] = {}$ {glue:text}`answer:.3f`. See {numref}`fig-one`.

```{prf:definition} A name
:label: def-one

Let $x > 0$.
```

```{math}
:label: eq-one

\frac{\pi_+(a \mid s)}{\pi_0(a \mid s)} = \frac{Q(s, a)}{V(s)}
```

\begin{align*}
a &= b \\
  &= c
\end{align*}

```{math}
:label: eq-long

a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p + q + r + s + t + u + v + w
```

```{code-cell} ipython3
import matplotlib.pyplot as plt
import sympy as sp

from sc_utils import figures, tiny
from sc_utils.prose import glue

figures.use_book_style()
glue(answer=tiny.ANSWER)
```

```{code-cell} ipython3
---
claim: some-claim
mystnb:
  image: {alt: A line rises.}
  figure: {name: fig-one, caption: A line that **rises**.}
---
plt.plot([0, 1], [0, tiny.ANSWER])
plt.show()
```

```{code-cell} ipython3
sp.sqrt(sp.Symbol("x")) / 2
```

```{code-cell} ipython3
print({word for word in "a set of words in no order".split()})
```

```{exercise}
:label: ex-one

Why?
```

```{solution-start} ex-one
:label: sol-one
:class: dropdown
```

Because $y$.

```{code-cell} ipython3
1 + 1
```

```{solution-end}
```
"""

SOURCES = ["_config.yml", "_ext", "_static", "sc_utils", "uv.lock", "chapters/notation.yml"]


class Tree:
    """A book of one chapter, with the real machinery around it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / "_build" / "html"
        self.chapter = root / "chapters" / "one.md"
        self.module = root / "sc_utils" / "tiny.py"

    @property
    def page(self) -> str:
        return (self.site / "chapters" / "one.html").read_text("utf-8")

    def build(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "_ext.build", *options]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)


def plant(root: Path) -> Tree:
    """Copy the machinery and write the chapter; do not build."""
    tree = Tree(root)
    tree.chapter.parent.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, root / name)
    config = (root / "_config.yml").read_text()
    (root / "_config.yml").write_text(config.replace("      - _ext.ledger\n", ""))  # no claims
    tree.chapter.write_text(CHAPTER)
    tree.module.write_text("ANSWER = 1 / 3\n")
    (root / "chapters" / "references.bib").touch()
    (root / "index.md").write_text("# A book\n\n```{execution-times}\n```\n")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n"
        "  - {caption: Part, numbered: true, chapters: [{file: chapters/one}]}\n"
    )
    return tree


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A small tree, built."""
    tree = plant(tmp_path_factory.mktemp("planted") / "book")
    built = tree.build()
    assert built.returncode == 0, built.stdout + built.stderr
    assert built.stderr == ""
    assert re.search(r"chapters/one: ran in [\d.]+ s\n", built.stdout)
    assert str(tree.site) in built.stdout
    return tree


@pytest.fixture
def tree(planted: Tree, tmp_path: Path) -> Tree:
    """A copy of the built tree, to be changed."""
    shutil.copytree(planted.root, tmp_path / "book")
    return Tree(tmp_path / "book")


def test_numbers_references_and_formulas_stand_in_the_text(planted: Tree) -> None:
    words = re.sub(r"<(svg|math).*?</\1>|<[^>]*>", "", planted.page, flags=re.DOTALL)
    assert re.search(r"By \(1\.1\) and Definition 1\.1,\s+0\.333\.\s+See Fig\. 1\.1", words)
    assert '<span class="eqno">(1.1)' in planted.page
    assert 'href="#equation-eq-one"' in planted.page
    assert 'id="equation-eq-one"' in planted.page
    assert "{&#39;" not in words
    assert planted.page.count("<math ") == 7
    assert "&#x1D53C;" in planted.page or 'mathvariant="double-struck">E<' in planted.page


def test_a_long_formula_scrolls_in_a_box_with_a_name(planted: Tree) -> None:
    wide = re.findall(r'<span class="math-box math-wide" ([^>]*)>', planted.page)
    assert wide == ['role="group" aria-label="Equation 1.2" tabindex="0"']


def test_nothing_is_done_when_nothing_has_changed(tree: Tree) -> None:
    first = tree.site / "index.html"
    before = first.stat().st_mtime_ns
    assert fingerprint(tree.root) == (tree.site / ".built-from").read_text()
    again = tree.build()
    assert again.returncode == 0
    assert "ran in" not in again.stdout
    assert first.stat().st_mtime_ns == before


def test_an_edit_of_the_package_runs_the_chapter_again(tree: Tree) -> None:
    tree.module.write_text("ANSWER = 2 / 3\n")
    again = tree.build()
    assert again.returncode == 0, again.stderr
    assert "chapters/one: ran" in again.stdout
    assert "0.667" in tree.page
    assert "0.333" not in tree.page


def test_an_edit_of_the_lock_file_runs_the_chapter_again(tree: Tree) -> None:
    before = cache_folder(tree.root)
    (tree.root / "uv.lock").write_text("# another one\n")
    assert cache_folder(tree.root) != before


@pytest.mark.parametrize("name", ["handle.js", "room.py"])
def test_an_edit_of_any_file_of_the_package_makes_another_cache(tmp_path: Path, name: str) -> None:
    """A module of JavaScript is inlined in a cell's output, so it counts like one of Python."""
    (tmp_path / "sc_utils" / "__pycache__").mkdir(parents=True)
    (tmp_path / "uv.lock").touch()
    (tmp_path / "sc_utils" / name).write_text("1")
    before = cache_folder(tmp_path)
    (tmp_path / "sc_utils" / "__pycache__" / "room.pyc").write_text("2")
    assert cache_folder(tmp_path) == before
    (tmp_path / "sc_utils" / name).write_text("2")
    assert cache_folder(tmp_path) != before


def test_an_edit_of_the_text_does_not_run_the_cells_again(tree: Tree) -> None:
    tree.chapter.write_text(CHAPTER.replace("Because", "Since then") + "\n$$z^{99}$$\n")
    output = tree.root / "elsewhere"
    again = tree.build("--output", str(output))
    assert again.returncode == 0, again.stderr
    assert "ran in" not in again.stdout
    assert "Since then" in (output / "chapters" / "one.html").read_text()
    assert "Because" in tree.page  # the other site is as it was


def test_from_scratch_it_is_the_same_byte_for_byte(planted: Tree, tmp_path: Path) -> None:
    other = plant(tmp_path / "book")
    assert other.build().returncode == 0
    assert other.page == planted.page
    for folder in ("_images", "_sources"):
        files = sorted(path for path in (planted.site / folder).rglob("*") if path.is_file())
        assert len(files) >= 2
        for path in files:
            twin = other.site / path.relative_to(planted.site)
            assert twin.read_bytes() == path.read_bytes(), path


def test_faults_are_named_with_their_place_and_the_old_site_stays(tree: Tree) -> None:
    stamp = (tree.site / ".built-from").read_text()
    faulty = CHAPTER.replace("  image: {alt: A line rises.}\n", "")
    faulty = faulty.replace("1 + 1", "import warnings\n\nwarnings.warn('look out')")
    faulty += "\nSee {ref}`nowhere`.\n\nAnd $\\nosuch$.\n"
    tree.chapter.write_text(faulty)
    line = {word: faulty[: faulty.index(word)].count("\n") + 1 for word in ("nowhere", "nosuch")}

    again = tree.build()
    assert again.returncode == 1
    messages = re.sub(r"\x1b\[[\d;]*m", "", again.stderr)
    assert f"one.md:{line['nowhere']}: WARNING: undefined label: 'nowhere'" in messages
    assert f"one.md:{line['nosuch']}: WARNING: TeX: Undefined control sequence" in messages
    assert re.search(r"one\.md:\d+: WARNING: a picture without words", messages)
    assert re.search(r"one\.md:\d+: (WARNING|ERROR): stderr was found", messages)
    assert "The site was not built" in messages
    assert (tree.site / ".built-from").read_text() == stamp
    assert fingerprint(tree.root) != stamp  # so the next build tries again


def test_a_failed_cell_is_named_with_its_place_source_and_error(tree: Tree) -> None:
    failing = CHAPTER.replace("1 + 1", "numerator = 1\nnumerator / 0")
    tree.chapter.write_text(failing)
    again = tree.build()
    assert again.returncode == 1
    opening = failing[: failing.index("numerator = 1")].count("\n")
    assert f"chapters/one.md:{opening + 1}: this cell failed" in again.stderr
    assert "numerator / 0" in again.stderr
    assert "ZeroDivisionError: division by zero" in again.stderr
    assert "\x1b[" not in again.stderr.split("this cell failed")[1].split("The site was")[0]


def test_the_cells_keep_their_claims(tree: Tree) -> None:
    _, notebook = next(notebooks(tree.root))
    _, ran = get_cache(cache_folder(tree.root)).merge_match_into_notebook(notebook)
    claims = [cell.metadata.get("claim") for cell in ran.cells if cell.cell_type == "code"]
    assert claims == [None, "some-claim", None, None, None]
    offered = json.loads((tree.site / "_sources" / "chapters" / "one.ipynb").read_text())
    assert "some-claim" in [cell["metadata"].get("claim") for cell in offered["cells"]]


def test_a_kernel_that_dies_once_gets_a_second_chance(monkeypatch):
    """Between the choice of a port and its use, somebody else may have taken it."""
    deaths = [RuntimeError("Kernel died before replying to kernel_info")]

    def run(notebook, **how):
        if deaths:
            raise deaths.pop()
        return notebook, how

    monkeypatch.setattr(execution, "single_nb_execution", run)
    assert execution.run_notebook("a notebook", cwd="here") == ("a notebook", {"cwd": "here"})
    deaths += [RuntimeError("Kernel died")] * 2
    with pytest.raises(RuntimeError, match="Kernel died"):
        execution.run_notebook("a notebook")


def test_kernels_take_ports_that_the_system_gives_to_nobody_else(monkeypatch):
    taken = [31_337, 31_337, 31_338, 31_338, 31_339]  # as drawn: busy, busy, free, used, free
    monkeypatch.setattr(execution.random, "randrange", lambda low, high: taken.pop(0))
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 31_337))
        ports = execution.Ports()
        found = [ports.find_available_port("127.0.0.1") for _ in range(2)]
    assert found == [31_338, 31_339]
    LocalPortCache.clear_instance()  # another test may have run a notebook in this process
    assert execution.Ports.instance() is LocalPortCache.instance()
    execution.Ports.clear_instance()
