"""Episodes as practitioners store them: one row per decision."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Log:
    """One row per decision, episode by episode."""

    episode: NDArray[np.intp]
    state: NDArray[np.intp]
    action: NDArray[np.intp]
    success: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Counts:
    """Visits and successes of state-action pairs over many episodes, each of shape (S, A)."""

    visits: NDArray[np.int64]
    successes: NDArray[np.int64]
