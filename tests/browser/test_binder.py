"""A chapter in JupyterLab, installed as Binder would install it and opened as its button does."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import ROOT

BINDER = ROOT / "binder"
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (BINDER / "requirements.txt").read_text(), re.M))
PYTHON = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
START_SECONDS = 60


def test_pins_are_those_of_the_lock_file() -> None:
    locked = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]
    versions = {p["name"]: {q["version"] for q in locked if q["name"] == p["name"]} for p in locked}
    assert {name for name in PINS if PINS[name] not in versions.get(name, ())} == set()


def test_python_and_pins_serve_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == f">={PYTHON}"
    needed = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert needed <= set(PINS)


@pytest.fixture(scope="module")
def environment() -> Path:
    """The folder of an environment with exactly Binder's requirements, kept for the next run."""
    requirements = BINDER / "requirements.txt"
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = ROOT / "_build/binder" / key
    ready = folder / "ready"
    if not ready.exists():
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run(
            [*uv, "venv", "--seed", "--clear", "--python", sys.executable, folder], check=True
        )
        python = folder / "bin/python"
        subprocess.run([*uv, "pip", "install", "--python", python, "-r", requirements], check=True)
        ready.touch()
    return folder


@pytest.fixture(scope="module")
def laboratory(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab that serves a copy of the repository, with a token."""
    work = tmp_path_factory.mktemp("binder")
    repository, home = work / "repository", work / "home"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, repository / name)
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "PYTHON"))}
    variables |= {"HOME": str(home), "JUPYTER_RUNTIME_DIR": str(work / "runtime")}
    variables["PATH"] = f"{environment / 'bin'}:{variables['PATH']}"
    subprocess.run(["binder/postBuild"], cwd=repository, env=variables, check=True)

    command = ["jupyter", "lab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    command += ["--KernelManager.transport=ipc"]  # other tests' kernels may take a chosen port
    with (work / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=repository, env=variables, stdout=log, stderr=log)
    try:
        yield address(server, work)
    finally:
        server.terminate()
        server.wait()


def address(server: subprocess.Popen[bytes], work: Path) -> str:
    """Wait for the server to say where it is and by which token it lets a reader in."""
    for _ in range(START_SECONDS * 10):
        found = re.findall(r"http://127\.0\.0\.1:\d+/lab\?token=\w+", (work / "log").read_text())
        if found:
            return found[0]
        if server.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{(work / 'log').read_text()}")


@pytest.fixture(scope="module")
def notebook(browser: Browser, laboratory: str, site: Path) -> Iterator[Page]:
    """The first chapter, opened by the path that its Binder button asks for."""
    chapter = (site / "chapters/imitating_success.html").read_text("utf-8")
    button = urlsplit(re.search(r'href="(https://mybinder\.org/[^"]+)"', chapter)[1])
    (path,) = parse_qs(button.query)["urlpath"]
    server = urlsplit(laboratory)
    with browser.new_page(viewport={"width": 1280, "height": 1600}) as page:
        page.goto(f"{server.scheme}://{server.netloc}/{path}?{server.query}")
        page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for(timeout=60_000)
        yield page


def test_a_chapter_opens_as_a_notebook(notebook: Page) -> None:
    heading = notebook.locator(".jp-NotebookPanel h1")
    expect(heading).to_contain_text("Imitating success", timeout=60_000)  # it is rendered late
    expect(notebook.locator(".lm-TabBar-tabLabel", has_text="imitating_success.md")).to_be_visible()
    assert notebook.locator(".jp-NotebookPanel .jp-MarkdownCell").count() > 1


def test_its_cells_run(notebook: Page) -> None:
    idle = notebook.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']")
    idle.wait_for(timeout=60_000)  # what is asked of a kernel that still starts may be lost
    cells = notebook.locator(".jp-NotebookPanel .jp-CodeCell")
    for number in 1, 2, 3:
        cell = cells.nth(number - 1)
        cell.locator(".jp-InputArea-editor").click()
        notebook.keyboard.press("Control+Enter")
        expect(cell.locator(".jp-InputPrompt")).to_have_text(f"[{number}]:", timeout=60_000)
    expect(cells.nth(1).locator(".jp-OutputArea-output")).to_contain_text("0.505")
    expect(cells.nth(2).locator(".jp-OutputArea-output :is(svg, img)").first).to_be_visible()
    assert notebook.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0


def test_it_knows_the_book_s_macros(notebook: Page) -> None:
    formula = notebook.locator(
        ".katex", has_text="\\E_{\\pi_0}"
    ).first  # its source, for screen readers
    for _ in range(20):
        if formula.count():
            break
        notebook.locator(".jp-NotebookPanel .jp-WindowedPanel-outer").hover()
        notebook.mouse.wheel(0, 400)
        notebook.wait_for_timeout(200)
    expect(formula.locator(".katex-html")).to_contain_text("E")
    assert notebook.locator(".katex-error").count() == 0
