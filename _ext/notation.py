"""The table of notation: one file, `chapters/notation.yml`, for the page, the macros and the names.

``{notation-table}`` renders the symbols; `macros` is what LaTeX needs to know of them.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TABLE = Path(__file__).resolve().parent.parent / "chapters/notation.yml"
HEAD = ["| Symbol | In Python | Meaning |", "|---|---|---|"]


def read_notation() -> dict[str, Any]:
    """Return the table: ``macros`` (name to LaTeX) and ``symbols`` (a list of rows)."""
    table: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return table


def macros() -> dict[str, str]:
    r"""Return the LaTeX macros, name without backslash to meaning.

    >>> macros()["E"]
    '\\mathbb{E}'
    """
    return dict(read_notation()["macros"])


def twin(name: str) -> object:
    """Return what a table's Python name stands for; `AttributeError` if `sc_utils` lacks it.

    >>> twin("conditioning.condition_on_success").__name__
    'condition_on_success'
    >>> twin("mdp.SuccessMDP.reward")
    Traceback (most recent call last):
    AttributeError: SuccessMDP has no field, property or parameter reward
    """
    room, owner, *member = name.split(".")
    found = getattr(importlib.import_module(f"sc_utils.{room}"), owner)
    for part in member:
        if part not in inspect.signature(found).parameters and not hasattr(found, part):
            raise AttributeError(f"{owner} has no field, property or parameter {part}")
    return found


class NotationTable(SphinxDirective):
    """Render the symbols, chapter by chapter, each with a link to its Python twin."""

    def run(self) -> list[nodes.Node]:
        """Return a rubric and a table for every chapter that introduces symbols."""
        self.env.note_dependency(str(TABLE))
        symbols = read_notation()["symbols"]
        lines: list[str] = []
        for chapter in dict.fromkeys(row["first"] for row in symbols):
            lines += [f":::{{rubric}} {{doc}}`/chapters/{chapter}`", ":::", "", *HEAD]
            lines += [_row(row) for row in symbols if row["first"] == chapter]
            lines += [""]
        content = nodes.container(classes=["notation-table"])
        self.state.nested_parse(StringList(lines, source=str(TABLE)), 0, content)
        return [content]


def _row(row: dict[str, str]) -> str:
    python = f"{{py:obj}}`{_short(row['python'])} <{_target(row['python'])}>` `{row['shape']}`"
    return f"| ${row['symbol']}$ | {python} | {row['meaning']} |"


def _short(name: str) -> str:
    """Leave out the room: ``conditioning.chi_squared`` reads ``chi_squared``."""
    return name.partition(".")[2]


def _target(name: str) -> str:
    """Point at the room's documented object: a parameter is documented with its function."""
    room, owner, *member = name.split(".")
    path = [owner, *member] if inspect.isclass(twin(name)) else [owner]
    return ".".join(["sc_utils", room, *path])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("notation-table", NotationTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
