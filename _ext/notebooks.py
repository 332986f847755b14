"""Offer every chapter as a notebook that runs in any Jupyter, without outputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from myst_nb.core.read import is_myst_markdown_notebook
from sphinx.application import Sphinx

from _ext.execution import notebooks
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
    written: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return written


def offer(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Tell the theme's download button that the page has a notebook."""
    source = Path(app.env.doc2path(page))
    if doctree is not None and is_myst_markdown_notebook(source.read_text("utf-8")):
        context["ipynb_source"] = f"{page}.ipynb"


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the notebooks beside the sources, over the executed ones that the theme puts there."""
    for page, _ in notebooks(Path(app.srcdir)) if not exception else ():
        text = (Path(app.srcdir) / f"{page}.md").read_text("utf-8")
        target = Path(app.outdir) / "_sources" / f"{page}.ipynb"
        target.write_text(as_ipynb(text), "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", offer)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
