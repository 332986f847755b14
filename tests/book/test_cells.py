"""Code cells are read, linted and formatted where they stand."""

import pytest

from _ext.cells import Cell, check, formatted, lint, read_cells

PAGE = """---
kernelspec: {name: python3}
---
# Page

```{code-cell} ipython3
import math

x = math.pi
```

````md
```{code-cell} ipython3
shown, not run
```
````

```{code-cell} ipython3
:tags: [hide-input]
:claim: one two

%matplotlib inline
x + 1
```

```{code-cell} ipython3
---
mystnb:
  image:
    alt: A line.
---
x
```
"""


def test_cells_are_read_with_their_place_and_their_metadata() -> None:
    assert read_cells(PAGE) == [
        Cell(7, "import math\n\nx = math.pi"),
        Cell(22, "%matplotlib inline\nx + 1", {"tags": ["hide-input"], "claim": "one two"}),
        Cell(32, "x", {"mystnb": {"image": {"alt": "A line."}}}),
    ]
    assert read_cells(PAGE)[1].names("claim") == ["one", "two"]
    assert read_cells(PAGE)[1].tags == ["hide-input"]


def test_good_cells_pass_and_stay_as_they_are() -> None:
    assert check(PAGE, "page.md") == []
    assert formatted(PAGE, "page.md") == PAGE


@pytest.mark.parametrize(
    ("cell", "finding"),
    [
        ("y = x + undefined", "page.md:33:9: F821 Undefined name `undefined`"),
        ("x = (1", "page.md:33:7: invalid-syntax unexpected EOF while parsing"),
        ("x = " + "1 + " * 19 + "1", "page.md:33:80: E501 Line too long (81 > 79)"),
    ],
)
def test_a_finding_names_its_line_in_the_chapter(cell: str, finding: str) -> None:
    page = PAGE.replace("---\nx\n", f"---\nx\n{cell}\n")
    assert finding in lint(page, "page.md")


def test_an_unformatted_cell_is_shown_and_only_it_is_changed() -> None:
    page = PAGE.replace("x = math.pi", "x   =  math.pi")
    assert "-x   =  math.pi" in check(page, "page.md")
    assert formatted(page, "page.md") == PAGE
