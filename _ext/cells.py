"""The code cells of the chapters: read them, lint them, format them.

Ruff reads notebooks but not ``{code-cell}`` fences, so the cells travel through a scratch notebook
and every finding comes back with its place in the chapter::

    python -m _ext.cells check     # exit 1 and say where
    python -m _ext.cells format    # repair the chapters in place
"""

import difflib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
LINE_LENGTH = 79  # what the text column shows without a scroll bar
RUFF = [sys.executable, "-m", "ruff"]
SETTINGS = ["--quiet", "--config", str(ROOT / "pyproject.toml"), f"--line-length={LINE_LENGTH}"]
# Brevity wins in a chapter: its text is its docstring, and it may bind a lambda or zip on trust.
LINT = ["check", *SETTINGS, "--extend-ignore=B905,D,E731,PT"]

FENCE = re.compile(r"(?P<ticks>`{3,})(?P<info>[^`]*)")


@dataclass(frozen=True)
class Cell:
    """One code cell: its metadata, its source and the line (from 1) where the source starts."""

    line: int
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def tags(self) -> list[str]:
        """The cell's tags, such as ``hide-input``."""
        return list(self.metadata.get("tags", []))

    def names(self, key: str) -> list[str]:
        """Labels the cell carries under `key`, as in ``:claim: one two``."""
        return str(self.metadata.get(key, "")).split()


def chapters(root: Path = ROOT) -> dict[str, Path]:
    """Return the chapters by name: the pages of every numbered part of the table of contents."""
    parts = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    files = [
        page["file"] for part in parts if part.get("numbered", True) for page in part["chapters"]
    ]
    return {Path(name).name: root / f"{name}.md" for name in files}


def read_cells(text: str) -> list[Cell]:
    """Return the code cells of a MyST page, in order."""
    return [
        _cell(start, lines)
        for start, info, lines in _fences(text)
        if info.startswith("{code-cell}")
    ]


def _fences(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield every outermost fence: line (from 1) of its body, info string, body."""
    lines = text.splitlines()
    row = 0
    while row < len(lines):
        opening = FENCE.fullmatch(lines[row].rstrip())
        row += 1
        if opening is None:
            continue
        start = row
        while row < len(lines) and not _closes(lines[row], opening["ticks"]):
            row += 1
        yield start + 1, opening["info"].strip(), lines[start:row]
        row += 1


def _closes(line: str, ticks: str) -> bool:
    return line.startswith(ticks) and not line.strip("` ")


def _cell(line: int, lines: list[str]) -> Cell:
    """Split the body of a fence into metadata (``---`` block or ``:key:`` lines) and source."""
    head = 0
    metadata = ""
    if lines and lines[0] == "---":
        head = lines.index("---", 1) + 1
        metadata = "\n".join(lines[1 : head - 1])
    else:
        while head < len(lines) and re.match(r":[\w-]+:", lines[head]):
            head += 1
        metadata = "\n".join(option[1:] for option in lines[:head])
    while head < len(lines) and not lines[head].strip():
        head += 1
    return Cell(line + head, "\n".join(lines[head:]), yaml.safe_load(metadata) or {})


def check(text: str, name: str) -> list[str]:
    """Return what is wrong with the cells of a page: lint first, then the format as a diff."""
    if not read_cells(text):
        return []
    return lint(text, name) or list(
        difflib.unified_diff(
            text.splitlines(),
            formatted(text, name).splitlines(),
            name,
            f"{name} after `make format`",
            lineterm="",
        )
    )


def lint(text: str, name: str) -> list[str]:
    """Return ruff's findings in the cells of a page, one ``name:line:column: message`` each."""
    cells = read_cells(text)
    with _notebook(cells, name) as notebook:
        found = json.loads(_ruff(*LINT, "--output-format", "json", str(notebook)))
    return [
        f"{name}:{cells[item['cell'] - 1].line + item['location']['row'] - 1}"
        f":{item['location']['column']}: {item['code']} {item['message']}"
        for item in found
    ]


def formatted(text: str, name: str) -> str:
    """Return the page with its cells repaired and formatted; nothing else changes."""
    cells = read_cells(text)
    with _notebook(cells, name) as notebook:
        _ruff(*LINT, "--fix-only", str(notebook))
        _ruff("format", *SETTINGS, str(notebook))
        sources = ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"]]
    lines = text.splitlines()
    for cell, source in reversed(list(zip(cells, sources, strict=True))):
        first = cell.line - 1
        lines[first : first + len(cell.source.splitlines())] = source.splitlines()
    return "\n".join(lines) + "\n"


@contextmanager
def _notebook(cells: list[Cell], name: str) -> Iterator[Path]:
    """Write the cells to a scratch notebook that is gone afterwards."""
    content = {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": str(number),
                "metadata": {},
                "outputs": [],
                "source": cell.source.splitlines(keepends=True),
            }
            for number, cell in enumerate(cells)
        ],
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, Path(name).stem).with_suffix(".ipynb")
        path.write_text(json.dumps(content), encoding="utf-8")
        yield path


def _ruff(*arguments: str) -> str:
    """Run ruff; findings (exit status 1) are an answer, anything worse is an error."""
    done = subprocess.run([*RUFF, *arguments], capture_output=True, text=True, check=False)
    if done.returncode > 1 or done.stderr:
        raise RuntimeError(f"ruff failed: {done.stderr or done.stdout}")
    return done.stdout


def main(command: str) -> int:
    """Check or format the cells of every page; return the exit status."""
    findings: list[str] = []
    for path in [ROOT / "index.md", *sorted((ROOT / "chapters").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        name = str(path.relative_to(ROOT))
        if command == "format" and read_cells(text):
            text = formatted(text, name)
            path.write_text(text, encoding="utf-8")
        findings += check(text, name)
    print(*findings, sep="\n", end="\n" if findings else "")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
