"""The built site, once for the whole suite."""

import subprocess
import sys
from pathlib import Path

import pytest

from _ext.build import ROOT


@pytest.fixture(scope="session")
def site() -> Path:
    """Build the site if it is not up to date; return its folder."""
    command = [sys.executable, "-m", "_ext.build"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return ROOT / "_build" / "html"
