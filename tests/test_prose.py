"""Numbers reach the text as they are, and nothing is seen of it below the cell."""

from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sympy as sp
from myst_nb.core.variables import format_plain_text
from myst_nb.ext.glue import extract_glue_data_cell
from nbformat import v4

from sc_utils.prose import glue

Glued = Callable[..., tuple[dict[str, str], list[Any]]]


@pytest.fixture
def glued(monkeypatch: pytest.MonkeyPatch) -> Glued:
    """Glue in a notebook's cell; return what MyST-NB reads there, and what is left to show."""

    def read(**values: object) -> tuple[dict[str, str], list[Any]]:
        cell = v4.new_code_cell()

        def publish(data: dict[str, str], metadata: dict[str, Any]) -> None:
            cell.outputs.append(v4.new_output("display_data", data=data, metadata=metadata))

        shell = SimpleNamespace(display_pub=SimpleNamespace(publish=publish))
        monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
        glue(**values)
        found = {name: output.data["text/plain"] for name, output in extract_glue_data_cell(cell)}
        return found, cell.outputs

    return read


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (0.01393979, ".6f", "0.013940"),
        (np.float64(1) / 3, ".4f", "0.3333"),
        (np.float32(0.5), ".1%", "50.0%"),
        (np.int64(12_345), ",d", "12,345"),
        (7, "d", "7"),
        (Fraction(1, 3), ".3f", "0.333"),
        (sp.Rational(2, 3), ".3f", "0.667"),
        (sp.Integer(4), "d", "4"),
        (1e-300, ".1e", "1.0e-300"),
        ('it\'s "so"', "s", 'it\'s "so"'),
        (np.str_("wait"), "s", "wait"),
    ],
)
def test_a_value_is_quoted_in_the_format_the_text_asks_for(
    glued: Glued, value: object, spec: str, text: str
) -> None:
    found, _ = glued(name=value)
    assert format_plain_text(found["name"], spec) == text


def test_no_digit_is_lost(glued: Glued) -> None:
    value = np.nextafter(0.1, 1)
    found, _ = glued(value=value)
    assert float(found["value"]) == value


def test_nothing_is_shown_below_the_cell(glued: Glued) -> None:
    found, shown = glued(rho=0.5, arms=2)
    assert set(found) == {"rho", "arms"}
    assert shown == []


@pytest.mark.parametrize("value", [np.array([0.5]), [0.5], None, True, np.True_, 1j])
def test_what_is_not_one_number_is_refused_by_name(glued: Glued, value: object) -> None:
    with pytest.raises(TypeError, match=f"rho must be .* got a {type(value).__name__}"):
        glued(rho=value)


@pytest.mark.parametrize("value", [float("nan"), np.float64("inf"), -np.inf])
def test_what_is_not_finite_is_refused_by_name(glued: Glued, value: float) -> None:
    with pytest.raises(ValueError, match=f"rho must be finite, got {value}"):
        glued(rho=value)


def test_all_or_nothing_is_glued(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[object] = []
    shell = SimpleNamespace(display_pub=SimpleNamespace(publish=lambda *a: published.append(a)))
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    with pytest.raises(ValueError, match="second must be finite"):
        glue(first=1.0, second=float("nan"))
    assert published == []
    glue(first=1.0)
    assert len(published) == 1


def test_outside_a_notebook_nothing_happens(capsys: pytest.CaptureFixture[str]) -> None:
    glue(rho=0.5)
    assert capsys.readouterr().out == ""
