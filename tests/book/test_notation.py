"""One table of notation: its names exist, and every page draws its macros from it."""

import re
from pathlib import Path

import pytest
import yaml

from _ext.cells import chapters, read_cells
from _ext.notation import macros, read_notation, twin

ROOT = Path(__file__).resolve().parents[2]
SYMBOLS = read_notation()["symbols"]
PAGES = [ROOT / "index.md", *sorted((ROOT / "chapters").glob("*.md"))]
NOTEBOOKS = [page for page in PAGES if read_cells(page.read_text("utf-8"))]


@pytest.mark.parametrize("row", SYMBOLS, ids=lambda row: row["python"])
def test_a_symbol_has_its_python_twin_and_its_chapter(row: dict[str, str]) -> None:
    twin(row["python"])
    assert row["first"] in chapters()
    assert set(row) == {"symbol", "python", "meaning", "shape", "first"}


def test_a_name_that_the_package_lacks_is_refused() -> None:
    with pytest.raises(AttributeError, match="Evaluation has no field, property or parameter W"):
        twin("mdp.Evaluation.W")
    with pytest.raises(AttributeError, match="no attribute 'luck_and_skill'"):
        twin("luck.luck_and_skill")


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_a_notebook_carries_the_macros_of_the_table(page: Path) -> None:
    # JupyterLab, in Binder as at home, reads them in the first cell; the site removes that cell.
    first = page.read_text("utf-8").split("\n+++")[1]
    assert first.startswith(' {"tags": ["remove-cell"]}\n')
    table = yaml.safe_load(first.split("---\n")[1])
    assert table == {"math": {f"\\{name}": tex for name, tex in macros().items()}}


def test_the_page_explains_every_macro() -> None:
    text = (ROOT / "chapters/notation.md").read_text("utf-8")
    assert set(re.findall(r"\$\\(\w+)\$ \(", text)) == set(macros())


def test_symbols_are_told_apart() -> None:
    assert len({row["symbol"] for row in SYMBOLS}) == len(SYMBOLS)
    assert len({row["python"] for row in SYMBOLS}) == len(SYMBOLS)
