"""Offer every chapter as a notebook that runs in any Jupyter, without outputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jupytext
from myst_nb.core.read import is_myst_markdown_notebook
from sphinx.application import Sphinx

from _ext.notation import macros


def as_ipynb(text: str) -> str:
    """Return a chapter as the text of an ``.ipynb`` file; the same chapter is the same file."""
    notebook = jupytext.reads(text, fmt="md:myst")
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    if notebook.cells[0]["source"].startswith("---\nmath:"):
        del notebook.cells[0]  # not every Jupyter looks for macros there: they are written out
    meaning = macros()
    macro = re.compile(rf"\\({'|'.join(meaning)})(?![A-Za-z])")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        if cell["cell_type"] == "markdown":
            cell["source"] = macro.sub(lambda match: meaning[match[1]], cell["source"])
    written: str = jupytext.writes(notebook, fmt="ipynb")
    return written


def offer(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Write the page's notebook beside its source, where the theme's download button finds it."""
    source = Path(app.srcdir) / f"{page}.md"
    if doctree is None or not is_myst_markdown_notebook(source.read_text("utf-8")):
        return
    context["ipynb_source"] = f"{page}.ipynb"
    notebook = Path(app.outdir) / "_sources" / context["ipynb_source"]
    notebook.parent.mkdir(parents=True, exist_ok=True)
    notebook.write_text(as_ipynb(source.read_text("utf-8")), "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", offer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
