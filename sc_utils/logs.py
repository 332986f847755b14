"""Episodes as practitioners store them: one row per decision, with the outcome of its episode.

Nothing here knows the MDP that produced the rows.
"""

from dataclasses import dataclass
from operator import index
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Counts", "Log"]

Integers = NDArray[np.signedinteger]


@dataclass(frozen=True, eq=False)
class Log:
    """Decisions of many episodes: a table with one row per decision.

    The rows of an episode stand together, in order of time; episodes may be numbered in any way.
    The columns are not copied, and are read-only through the log.

    Attributes
    ----------
    episode
        Number of the episode the decision belongs to, shape (N,), integers.
    state
        Index of the state it was made in, shape (N,), integers >= 0.
    action
        Index of the action taken, shape (N,), integers >= 0.
    success
        Whether the episode ended in success, shape (N,), booleans; the same in all its rows.

    Raises
    ------
    TypeError
        If a column is not of its type; booleans are not guessed from 0 and 1.
    ValueError
        If there is no row, the columns are not vectors of one length, an index is negative, an
        episode both succeeds and fails, or its rows are apart; the message names the place.

    Examples
    --------
    >>> log = Log(episode=[0, 0, 1], state=[0, 1, 0], action=[1, 1, 0], success=[True, True, False])
    >>> Counts.from_log(log, n_states=2, n_actions=2).successes.tolist()
    [[0, 1], [0, 1]]
    >>> Log(episode=[7, 7, 8], state=[0, 1, 0], action=[1, 1, 0], success=[True, False, False])
    Traceback (most recent call last):
    ...
    ValueError: episode 7 both succeeds and fails: success[0] is True, success[1] is False
    """

    episode: Integers
    state: Integers
    action: Integers
    success: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for name in ("episode", "state", "action", "success"):
            column = np.asarray(getattr(self, name)).view()
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        if np.size(self.episode) == 0:
            raise ValueError("a log needs at least one row")
        for name, kind in [("episode", "iu"), ("state", "iu"), ("action", "iu"), ("success", "b")]:
            column = getattr(self, name)
            if column.dtype.kind not in kind:
                wanted = "booleans" if kind == "b" else "integers"
                raise TypeError(f"{name} must hold {wanted}, got {column.dtype}")
            if column.ndim != 1 or column.shape != self.episode.shape:
                raise ValueError(
                    f"the columns of a log must be vectors of one length: "
                    f"episode has shape {self.episode.shape}, {name} has shape {column.shape}"
                )
        for name in ("state", "action"):
            column = getattr(self, name)
            if column.min() < 0:
                row = int(np.argmax(column < 0))
                raise ValueError(f"{name}[{row}] must not be negative, got {column[row]}")
        self._check_episodes()

    def _check_episodes(self) -> None:
        # A log may hold 10^8 rows: a few linear passes, and a sort only if episodes are unordered.
        changes = np.flatnonzero(self.success[1:] != self.success[:-1])
        torn = changes[self.episode[changes] == self.episode[changes + 1]]
        if torn.size:
            row = int(torn[0])
            raise ValueError(
                f"episode {self.episode[row]} both succeeds and fails: success[{row}] is "
                f"{self.success[row]}, success[{row + 1}] is {self.success[row + 1]}"
            )
        if (self.episode[1:] >= self.episode[:-1]).all():
            return
        first_rows = np.flatnonzero(np.append(True, self.episode[1:] != self.episode[:-1]))
        numbers, runs = np.unique(self.episode[first_rows], return_counts=True)
        if (runs > 1).any():
            number = numbers[np.argmax(runs > 1)]
            row, again = first_rows[self.episode[first_rows] == number][:2]
            raise ValueError(
                f"the rows of episode {number} must stand together, "
                f"but it starts at row {row} and again at row {again}"
            )


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each action was taken in each state, and how often in an episode that succeeded.

    An episode that returns to a state counts there once per visit.

    Attributes
    ----------
    visits
        Decisions per state and action, shape (S, A), integers >= 0.
    successes
        Those among them that lie in successful episodes, shape (S, A), integers.

    Raises
    ------
    TypeError
        If the counts are not integers.
    ValueError
        If the shapes are not one (S, A), or not 0 <= successes <= visits; the message names the
        place.

    Examples
    --------
    >>> Counts(visits=[[3, 1]], successes=[[1, 2]])
    Traceback (most recent call last):
    ...
    ValueError: successes[0, 1] must lie between 0 and visits[0, 1] = 1, got 2
    """

    visits: Integers
    successes: Integers

    def __post_init__(self) -> None:
        for name in ("visits", "successes"):
            table = np.asarray(getattr(self, name)).view()
            table.setflags(write=False)
            object.__setattr__(self, name, table)
            if table.dtype.kind not in "iu":
                raise TypeError(f"{name} must hold integers, got {table.dtype}")
        if self.visits.ndim != 2 or self.visits.shape != self.successes.shape:
            raise ValueError(
                f"visits and successes must have one shape (S, A), "
                f"got {self.visits.shape} and {self.successes.shape}"
            )
        wrong = (self.successes < 0) | (self.successes > self.visits)
        if wrong.any():
            s, a = np.argwhere(wrong)[0]
            raise ValueError(
                f"successes[{s}, {a}] must lie between 0 and visits[{s}, {a}] = "
                f"{self.visits[s, a]}, got {self.successes[s, a]}"
            )

    @classmethod
    def from_log(cls, log: Log, n_states: int, n_actions: int) -> Self:
        """Count the rows of a log.

        Parameters
        ----------
        log
            The decisions to count.
        n_states, n_actions
            Shape of the tables, S and A.

        Raises
        ------
        ValueError
            If the log holds a state >= S or an action >= A; the message names the row.
        """
        shape = (index(n_states), index(n_actions))
        for name, limit in zip(("state", "action"), shape, strict=True):
            column = getattr(log, name)
            if column.max() >= limit:
                row = int(np.argmax(column >= limit))
                raise ValueError(f"{name}[{row}] must be below {limit}, got {column[row]}")
        pair = np.ravel_multi_index((log.state, log.action), shape)
        visits, successes = (
            np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
            for pairs in (pair, pair[log.success])
        )
        return cls(visits, successes)
