"""Shared settings of the suite: Hypothesis profiles and one seeded generator per test."""

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
