"""Run the chapters' cells: in parallel, once, and again whenever what they rest on changes.

jupyter-cache recognises a chapter by its kernel and the source of its code cells. It does not see
the package that the cells import, nor the versions they run under; so its folder is named after
both, and an edit of ``sc_utils`` or of the lock file makes every chapter run again.
"""

from __future__ import annotations

import hashlib
import platform
import random
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.cache.main import JupyterCacheBase
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from jupyter_client.connect import LocalPortCache
from myst_nb.core.read import is_myst_markdown_notebook, myst_nb_reader_plugin
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective
from sphinx_external_toc.parsing import parse_toc_yaml

WORKERS = 2
QUIET = ["--log-level=ERROR"]  # every kernel otherwise warns that it speaks unencrypted TCP
COLOURS = re.compile(r"\x1b\[[\d;]*m")


def cache_folder(root: Path) -> Path:
    """Return the folder of the cache that belongs to the present package and lock file."""
    key = hashlib.sha256(platform.python_version().encode())
    package = [path for path in sorted(root.glob("sc_utils/**/*")) if path.is_file()]
    written = [path for path in package if "__pycache__" not in path.parts]
    for path in [*written, root / "uv.lock"]:
        key.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return root / "_build" / ".jupyter_cache" / key.hexdigest()[:16]


def notebooks(root: Path) -> Iterator[tuple[str, NotebookNode]]:
    """Yield the pages of the table of contents that have cells to run: name and notebook."""
    for name in parse_toc_yaml(root / "_toc.yml"):
        path = root / f"{name}.md"
        if is_myst_markdown_notebook(path.read_text("utf-8")):
            yield name, myst_nb_reader_plugin(str(path))


@dataclass(frozen=True)
class Failure:
    """Where a chapter stopped, and why."""

    place: str
    reason: str


def execute(root: Path, folder: Path, timeout: int, report: Callable[[str], None]) -> list[Failure]:
    """Run every chapter whose outputs are not in the cache, and put them there.

    Parameters
    ----------
    root
        The repository's root.
    folder
        The cache's; its siblings are outdated and removed.
    timeout
        Seconds that one cell may take.
    report
        Called with each line of progress.

    Returns
    -------
    list of Failure
        Empty if every chapter ran to its end.
    """
    Ports.instance()
    for outdated in {*folder.parent.glob("*")} - {folder}:
        shutil.rmtree(outdated)
    cache = get_cache(folder)
    waiting = [page for page in notebooks(root) if not _record(cache, page[1])]
    failures = []
    with ThreadPoolExecutor(WORKERS) as pool:
        runs = {
            pool.submit(
                run_notebook,
                notebook,
                cwd=str((root / name).parent),
                timeout=timeout,
                allow_errors=False,
                extra_arguments=QUIET,
                coalesce_streams=True,  # a line printed in pieces is one line
            ): (name, notebook)
            for name, notebook in waiting
        }
        for run in as_completed(runs):
            name, notebook = runs[run]
            try:
                result = run.result()
            except RuntimeError as error:
                report(f"  {name}: its kernel died")
                failures.append(Failure(f"{name}.md", str(error)))
                continue
            report(f"  {name}: {'ran' if not result.err else 'failed'} in {result.time:.1f} s")
            if result.err:
                failures.append(_failure(name, notebook, result.exc_string))
                continue
            bundle = CacheBundleIn(notebook, name, data={"execution_seconds": result.time})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    return failures


class Ports(LocalPortCache):
    """Where kernels find their ports, once the build has made its one instance.

    A port is found free, let go, and bound by the kernel a second later. Meanwhile the system may
    give it to any connection, so these come from below the range that it gives from.
    """

    def find_available_port(self, ip: str) -> int:
        """Return a port that is free and has not been returned before."""
        while True:
            port = random.randrange(20_000, 32_000)
            if port not in self.currently_used_ports and _is_free(ip, port):
                self.currently_used_ports.add(port)
                return port


def _is_free(ip: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((ip, port))
        except OSError:
            return False
    return True


def run_notebook(notebook: NotebookNode, **how: Any) -> ExecutionResult:
    """Run a notebook, and once more if its kernel dies: another may still have taken its port."""
    try:
        return single_nb_execution(notebook, **how)
    except RuntimeError:
        return single_nb_execution(notebook, **how)


def _record(cache: JupyterCacheBase, notebook: NotebookNode) -> Any:
    """Return what the cache knows of the notebook, None if it never ran."""
    try:
        return cache.match_cache_notebook(notebook)
    except KeyError:
        return None


def _failure(name: str, notebook: NotebookNode, trace: str) -> Failure:
    """Say in which cell the notebook stopped: the one with the error, or that ran out of time."""
    code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    stopped = next(
        (i for i in code if any(out.output_type == "error" for out in notebook.cells[i].outputs)),
        max((i for i in code if notebook.cells[i].execution_count), default=code[0]),
    )
    place = f"{name}.md:{notebook.metadata.source_map[stopped] + 1}"
    errors = [out for out in notebook.cells[stopped].outputs if out.output_type == "error"]
    reason = "\n".join(errors[0].traceback) if errors else trace
    return Failure(place, COLOURS.sub("", f"{notebook.cells[stopped].source}\n\n{reason}"))


class ExecutionTimes(SphinxDirective):
    """``{execution-times}``: a table of the chapters, their cells and the seconds they took."""

    def run(self) -> list[nodes.Node]:
        """Write the table."""
        root = Path(self.env.srcdir)
        cache = get_cache(self.config.nb_execution_cache_path)
        rows = ["| Page | Cells | Seconds |", "|---|--:|--:|"]
        for name, notebook in notebooks(root):
            cells = sum(cell.cell_type == "code" for cell in notebook.cells)
            record = _record(cache, notebook)
            if record is None:
                raise self.error(f"{name} was edited while the site was built: build it again")
            seconds = record.data["execution_seconds"]
            rows.append(f"| {{doc}}`/{name}` | {cells} | {seconds:.1f} |")
        return self.parse_text_to_nodes("\n".join(rows))


def use_cache(app: Sphinx, config: Config) -> None:
    """Point MyST-NB at the cache that `execute` fills."""
    if not config.nb_execution_cache_path:
        config.nb_execution_cache_path = str(cache_folder(Path(app.srcdir)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("execution-times", ExecutionTimes)
    app.connect("config-inited", use_cache)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
