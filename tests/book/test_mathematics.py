"""Formulas are typeset without a browser, once, and wrong TeX is refused."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree

import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx.application import Sphinx

from _ext.mathematics import WIDE, Mathematics, TeXError, Typesetter


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "formulas.json"


@pytest.fixture
def typeset(memory: Path) -> Typesetter:
    return Typesetter({"E": r"\mathbb{E}"}, memory)


def test_a_formula_is_seen_and_heard(typeset: Typesetter) -> None:
    formula = typeset(r"\E[Q]^2 \le 1", display=False)
    svg = ElementTree.fromstring(formula.svg)
    assert svg.attrib["aria-hidden"] == "true"
    assert svg.attrib["width"] == f"{formula.width}ex"
    spoken = "".join(ElementTree.fromstring(formula.mathml).itertext())
    assert spoken == "E[Q]2≤1"
    assert 5 < formula.width < WIDE


def test_every_glyph_that_is_used_is_defined_and_no_other(typeset: Typesetter) -> None:
    formula = typeset(r"\sum_{i=1}^n x_i = \tfrac12 \sqrt{x}", display=True)
    used = [use.attrib["href"] for use in ElementTree.fromstring(formula.svg).iter("use")]
    assert {f"#{name}" for name in formula.glyphs} == set(used)
    assert len(used) > len(formula.glyphs)  # x is drawn once and used twice
    drawn = typeset.glyphs(set(formula.glyphs))
    assert drawn.count("<path ") == len(formula.glyphs)


def test_colours_are_left_to_the_page(typeset: Typesetter) -> None:
    formula = typeset(r"\frac{a}{b}", display=True)
    assert 'fill="currentColor"' in formula.svg
    assert "#000" not in formula.svg


def test_a_displayed_formula_is_larger_than_one_in_the_line(typeset: Typesetter) -> None:
    tex = r"\frac{a}{b}"
    assert typeset(tex, display=True).width > typeset(tex, display=False).width


@pytest.mark.parametrize(
    ("tex", "reason"),
    [
        (r"\frac{a", "Missing close brace"),
        (r"\nosuch", r"Undefined control sequence \\nosuch"),
        (r"\begin{align} a", r"Missing \\end"),
        ("x_1_2", "Double subscripts"),
        (r"a = b \tag{7}", "number equations with a label"),
    ],
)
def test_tex_that_cannot_be_set_is_refused_with_the_reason(
    typeset: Typesetter, tex: str, reason: str
) -> None:
    with pytest.raises(TeXError, match=reason):
        typeset(tex, display=True)
    assert typeset("x", display=True).width > 0  # and the next formula is none the worse


@pytest.mark.parametrize(
    ("after", "kept", "left"),
    [(", and", ",", " and"), (").", ").", ""), (" and", None, " and"), ("-fold", None, "-fold")],
)
def test_punctuation_stays_on_the_line_of_its_formula(
    typeset: Typesetter, after: str, kept: str | None, left: str
) -> None:
    mathematics = Mathematics()
    mathematics.typeset = typeset
    page = new_document("page")
    page += nodes.paragraph("", "", nodes.Text("Let "), nodes.math("", "x"), nodes.Text(after))
    app = SimpleNamespace(builder=SimpleNamespace(format="html"))
    mathematics.join_punctuation(cast(Sphinx, app), page, "page")
    assert page.astext() == f"Let x{after}"
    joints = [pair[1].astext() for pair in page.findall(nodes.inline)]
    assert joints == ([kept] if kept else [])
    assert page[0][-1].astext() == left


def test_punctuation_is_taken_from_behind_the_formula_and_nowhere_else(
    typeset: Typesetter,
) -> None:
    mathematics = Mathematics()
    mathematics.typeset = typeset
    page = new_document("page")
    page += nodes.paragraph("", "", nodes.strong("", "By this"), nodes.Text(", "))
    page[0] += [nodes.math("", "x"), nodes.Text(", "), nodes.math("", "y")]
    app = SimpleNamespace(builder=SimpleNamespace(format="html"))
    mathematics.join_punctuation(cast(Sphinx, app), page, "page")
    assert page.astext() == "By this, x, y"


def test_what_a_build_used_is_remembered_for_the_next(typeset: Typesetter, memory: Path) -> None:
    typeset("x", display=False)
    typeset.close()
    marked = json.loads(memory.read_text())
    marked["formulas"]["inline x"]["svg"] = "remembered"
    memory.write_text(json.dumps(marked))

    again = Typesetter({"E": r"\mathbb{E}"}, memory)
    assert again("x", display=False).svg == "remembered"
    assert again("x", display=True).svg != "remembered"


def test_with_other_macros_nothing_is_remembered(typeset: Typesetter, memory: Path) -> None:
    old = typeset(r"\E", display=False)
    typeset.close()
    new = Typesetter({"E": r"\mathrm{E}"}, memory)(r"\E", display=False)
    assert new.glyphs != old.glyphs


def test_what_is_no_longer_used_is_forgotten(typeset: Typesetter, memory: Path) -> None:
    typeset("x", display=False)
    typeset.close()
    again = Typesetter({"E": r"\mathbb{E}"}, memory)
    again("y", display=False)
    again.close()
    assert list(json.loads(memory.read_text())["formulas"]) == ["inline y"]
