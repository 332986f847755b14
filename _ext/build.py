"""Build the site: ``python -m _ext.build [--output DIR]``.

The chapters' cells run first, in parallel and cached; then Jupyter Book renders every page,
and a warning is an error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml
from jupyter_book.sphinx import build_sphinx

from _ext.execution import execute

ROOT = Path(__file__).resolve().parent.parent


def build(root: Path, output: Path) -> bool:
    """Build the site of the book in ``root`` into ``output``; say whether it is without fault."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    failures = execute(root, print, config["execute"]["timeout"])
    for failure in failures:
        print(f"\n{failure.chapter.relative_to(root)}\n{failure.reason}", file=sys.stderr)
    if failures:
        return False
    status = build_sphinx(
        root,
        output,
        noconfig=True,
        path_config=root / "_config.yml",
        confoverrides={
            "external_toc_path": "_toc.yml",
            "latex_individualpages": False,
            "nitpicky": True,
        },
        freshenv=True,
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    return status == 0


def main() -> int:
    """Build the site and say where it is."""
    parser = argparse.ArgumentParser(description="Build the site.")
    parser.add_argument("--output", type=Path, default=ROOT / "_build/html", metavar="DIR")
    output = parser.parse_args().output.resolve()
    if not build(ROOT, output):
        print("\nThe site was not built: see the messages above.", file=sys.stderr)
        return 1
    print(f"The site is in {output}: open index.html there, or run `make serve`.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
