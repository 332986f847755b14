"""Shared by the suite: Hypothesis' profile, one seeded generator per test, the built site."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "book",
    deadline=None,  # the machine may be busy; a slow example is not a wrong one
    derandomize=True,  # a red test must be red again tomorrow
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("book")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260118175)


@pytest.fixture(scope="session")
def site() -> Path:
    """Build the site as a reader does, unless it is up to date; return its folder."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "_ext.build"]
    built = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return root / "_build" / "html"
