"""Run the chapters' cells: in parallel, once, and again whenever what they rest on changes.

jupyter-cache recognises a chapter by its kernel and the source of its code cells. It does not
see the package the cells import nor the versions they run under, so the cache's folder is named
after both: edit ``sc_utils`` or the lock file and every chapter runs again.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.read import is_myst_markdown_notebook, myst_nb_reader_plugin
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx_external_toc.parsing import parse_toc_yaml

CACHES = Path("_build/.jupyter_cache")
WORKERS = 2
QUIET = ["--log-level=ERROR"]  # every kernel otherwise warns that it speaks unencrypted TCP


def cache_folder(root: Path) -> Path:
    """Return the folder of the cache that belongs to the present package and lock file."""
    key = hashlib.sha256(platform.python_version().encode())
    for path in [*sorted(root.glob("sc_utils/**/*.py")), root / "uv.lock"]:
        key.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return root / CACHES / key.hexdigest()[:16]


def chapters(root: Path) -> Iterator[Path]:
    """Yield the pages of the table of contents that have cells to run."""
    for name in parse_toc_yaml(root / "_toc.yml"):
        path = root / f"{name}.md"
        if is_myst_markdown_notebook(path.read_text("utf-8")):
            yield path


@dataclass(frozen=True)
class Failure:
    """A chapter that did not run to its end: which, where and why."""

    chapter: Path
    reason: str


def execute(root: Path, report: Callable[[str], None], timeout: int) -> list[Failure]:
    """Run every chapter whose outputs are not in the cache, and put them there.

    Parameters
    ----------
    root
        The repository's root.
    report
        Called with a line of progress.
    timeout
        Seconds that one cell may take.

    Returns
    -------
    list of Failure
        Empty when every chapter ran to its end.
    """
    folder = cache_folder(root)
    for other in set((root / CACHES).glob("*")) - {folder}:
        shutil.rmtree(other)
    cache = get_cache(folder)
    pending = {}
    for path in chapters(root):
        notebook = myst_nb_reader_plugin(str(path))
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            pending[path] = notebook

    failures = []
    with ThreadPoolExecutor(WORKERS) as pool:
        runs = {
            pool.submit(
                single_nb_execution,
                notebook,
                cwd=str(path.parent),
                timeout=timeout,
                allow_errors=False,
                extra_arguments=QUIET,
            ): path
            for path, notebook in pending.items()
        }
        for run in as_completed(runs):
            path, result = runs[run], run.result()
            name = path.relative_to(root).as_posix()
            if result.err is not None:
                report(f"  {name}: failed after {result.time:.1f} s")
                failures.append(Failure(path, result.exc_string))
                continue
            report(f"  {name}: {result.time:.1f} s")
            cache.cache_notebook_bundle(
                CacheBundleIn(result.nb, str(path), data={"execution_seconds": result.time}),
                check_validity=False,
                overwrite=True,
            )
    return failures


def use_cache_folder(app: Sphinx, config: Config) -> None:
    """Point myst-nb at the cache that ``execute`` fills."""
    config.nb_execution_cache_path = str(cache_folder(Path(app.srcdir)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", use_cache_folder)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
