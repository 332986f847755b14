"""Build the site: ``python -m _ext.build [--output DIR]``.

The chapters' cells run first, in parallel, unless their outputs are cached. Then Jupyter Book
renders every page, and a warning is an error. The new site takes the place of the old one only when
it is without fault, and nothing is done when nothing has changed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from jupyter_book.sphinx import build_sphinx

from _ext.execution import cache_folder, execute

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".built-from"  # the site's own note of the sources it was built from


class BuildError(Exception):
    """The site could not be built; what is wrong has been printed."""


def build(root: Path, output: Path) -> None:
    """Build the site of the book in ``root`` into ``output``, unless it is there.

    Raises
    ------
    BuildError
        If a cell fails or a page gives a warning. What was in ``output`` stays.
    """
    work = root / "_build"
    work.mkdir(exist_ok=True)
    with _alone(work / ".lock"):
        sources = fingerprint(root)
        stamp = output / STAMP
        if stamp.exists() and stamp.read_text() == sources:
            return
        cache = cache_folder(root)
        _run_cells(root, cache)
        _render(root, cache, work / ".next" / "html")
        (work / ".next" / "html" / STAMP).write_text(sources)
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(work / ".next" / "html", output)


def fingerprint(root: Path) -> str:
    """Return a digest of the files that the site may depend on: all but hidden and built ones."""
    digest = hashlib.sha256()
    visible = [top for top in sorted(root.iterdir()) if not top.name.startswith((".", "_build"))]
    for top in visible:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(root).as_posix().encode() + b"\0")
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other build of this tree is under way."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run_cells(root: Path, cache: Path) -> None:
    timeout = yaml.safe_load((root / "_config.yml").read_text("utf-8"))["execute"]["timeout"]
    os.environ["PYTHONPATH"] = str(root)  # the cells import the package of this tree
    os.environ["PYTHONHASHSEED"] = "0"  # sets of words come out in the same order every time
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # chapters run side by side: threads would contend
    os.environ["TQDM_DISABLE"] = "1"  # a bar that shows progress is no output of a cell
    print("Running the chapters whose outputs are not cached ...", flush=True)
    failures = execute(root, cache, timeout, lambda line: print(line, flush=True))
    for failure in failures:
        print(f"\n{failure.place}: this cell failed\n\n{failure.reason}", file=sys.stderr)
    if failures:
        raise BuildError


def _render(root: Path, cache: Path, output: Path) -> None:
    print("Rendering the pages ...", flush=True)
    memory = output.parent / ".mathematics.json"
    for outdated in {*output.parent.glob("*")} - {memory}:
        shutil.rmtree(outdated)
    status = build_sphinx(
        root,
        output,
        noconfig=True,
        path_config=root / "_config.yml",
        confoverrides={
            "external_toc_path": "_toc.yml",
            "latex_individualpages": False,
            "nb_execution_cache_path": str(cache),
            "nitpicky": True,
        },
        freshenv=True,
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    if status != 0:
        raise BuildError


def main() -> int:
    """Build the site and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m _ext.build", description="Build the site.")
    parser.add_argument("--output", type=Path, default=ROOT / "_build" / "html", metavar="DIR")
    output = parser.parse_args().output.resolve()
    started = time.monotonic()
    try:
        build(ROOT, output)
    except BuildError:
        print("\nThe site was not built: see the messages above.", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    print(f"The site is in {output} ({seconds:.0f} s). `make serve` shows it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
