"""The built site, once for the whole suite."""

from pathlib import Path

import pytest

from _ext.build import ROOT, build


@pytest.fixture(scope="session")
def site() -> Path:
    """Build the site if it is not up to date; return its folder."""
    folder = ROOT / "_build" / "html"
    build(ROOT, folder)
    return folder
