"""The repository keeps its word: the two commands, their messages, the README and its figure."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from _ext.cover import drawings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run make in a fresh copy, with a Python that does what it is told."""
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path)

    def run(target: str, python: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{python}\n")
        script.chmod(0o755)
        return subprocess.run(
            ["make", target, f"PYTHON={script}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"]},
        )

    return run


PIP_FAILS = 'mkdir -p .venv/bin; printf "#!/bin/sh\\nexit 1\\n" > .venv/bin/pip'


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("exit 1", "is too old: Python 3.11 or newer is needed"),
        ('test "$1" = -c', "its venv module is missing"),
        (
            f'test "$1" = -c || {{ {PIP_FAILS}; chmod +x .venv/bin/pip; }}',
            "Is there a network",
        ),
    ],
    ids=["too old", "without venv", "without network"],
)
def test_what_is_missing_is_said(make: Make, python: str, message: str) -> None:
    for target in ("book", "test"):
        done = make(target, python)
        assert done.returncode != 0
        assert message in done.stderr


def test_without_a_python_it_says_where_to_get_one(make: Make, tmp_path: Path) -> None:
    make("help", "")  # lays out the copy
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "sh", "awk"):
        (tools / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        ["make", "book"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(tools)},
    )
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed, and none was found" in done.stderr


def test_make_alone_lists_every_target(make: Make) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets
    listed = re.findall(r"^  make (\w+)", make("help", "").stdout, re.MULTILINE)
    assert listed == targets[1].split()


def test_the_figure_of_the_readme_is_what_the_engine_draws() -> None:
    for path, drawing in drawings().items():
        assert path.read_text("utf-8") == drawing, "run `python -m _ext.cover`"
        assert f"_static/{path.name}" in README


def test_every_dependency_is_justified() -> None:
    groups = [
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    names = {re.split(r"[<>=]", entry)[0] for group in groups for entry in group}
    table = README.partition("## Dependencies")[2].partition("\n## ")[0]
    justified = {
        name.strip()
        for row in re.findall(r"^\| (?!Package)([^|-].*?) \|", table, re.MULTILINE)
        for name in row.rpartition("*")[2].removeprefix(":").split(",")
    }
    assert names == justified


def test_the_layout_of_the_readme_is_the_layout() -> None:
    table = README.partition("## Layout")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert {name for name in named if not (ROOT / name).exists()} == set()
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name.partition("/")[0] for name in tracked if "/" in name} <= named


def test_versions_agree() -> None:
    version = PROJECT["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert citation["version"] == version == changes[0]
    assert citation["license"] == PROJECT["project"]["license"] == "BSD-3-Clause"


def test_every_room_is_in_the_reference() -> None:
    page = (ROOT / "chapters/api.md").read_text("utf-8")
    rooms = {path.stem for path in (ROOT / "sc_utils").glob("[a-z]*.py")}
    assert set(re.findall(r"^\.\. automodule:: sc_utils\.(\w+)$", page, re.MULTILINE)) == rooms


def test_the_messages_explained_are_messages_given() -> None:
    page = (ROOT / "chapters/running.md").read_text("utf-8")
    explained = re.findall(r"^`([^`]+)`\n: ", page, re.MULTILINE)
    pythons_own = {message for message in explained if "Error" in message or "Address" in message}
    sources = [ROOT / "Makefile", *ROOT.glob("_ext/*.py"), *ROOT.glob("tests/browser/*.py")]
    said = "".join(path.read_text("utf-8") for path in sources).replace("$(UV)", "uv")
    assert len(explained) >= 8
    assert [message for message in explained if message not in said] == sorted(
        pythons_own, key=explained.index
    )
