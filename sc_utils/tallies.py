"""A log of any size, counted: how often each action was taken, by outcome and group of episodes.

The memory of a tally does not grow with the log. Episodes fall into 64 groups at random, 32 in each
half of the log. Any statistic can be computed again without one of the groups, which gives it a
variance that knows of revisits (the jackknife), or from either half, which shows drift.

Nothing here knows files, or statistics.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sc_utils.logs import Log
from sc_utils.probabilities import Array, as_array, first, place

__all__ = ["Tally"]

GROUPS = 64  # half of them for each half of the log
MOST_LEVELS = 32  # of returns; episodes are split by success besides
MOST_CELLS = 2**26  # of the table of decisions: a quarter of a gigabyte
ROWS_AT_ONCE = 65_536

Integers = NDArray[np.signedinteger]
Keys = NDArray[np.uint64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Tally:
    """Decisions by state, action, outcome and group of episodes. All arrays are read-only.

    Attributes
    ----------
    states
        Labels of the states (or prompts), in order of appearance.
    actions
        Labels of the actions (or answers), in order of appearance; None if there were too many to
        keep apart.
    state, action
        Indices into `states` and `actions` of each pair that occurs, shape (P,), ordered by state,
        then by action. Where `actions` is None, the pairs are the states, and `action` is 0.
    success
        What each outcome is worth as a success, shape (B,), in [0, 1]: 0 and 1 where the log says
        who succeeded; else its return, scaled so that the least is 0 and the largest 1.
    returns
        The return of each outcome, shape (B,), ascending; None if the log has none. More than 32
        different returns are put into bins of equally many episodes; a bin has their mean.
    counts
        Decisions by group, pair and outcome of the episode, shape (G, P, B), integers.
    episodes
        Episodes by group and outcome, shape (G, B), integers. The first half of the groups began in
        the first half of the log.
    skipped
        Malformed lines that were left out.
    single
        Whether every episode is one decision.

    Raises
    ------
    TypeError
        If counts, episodes or indices are not integers.
    ValueError
        If shapes do not fit, a count is negative, an index has no label, a pair occurs twice, an
        outcome is not in [0, 1] or not finite, or returns descend; the message names the place.

    Examples
    --------
    >>> log = Log(episode=[0, 0, 1], state=[5, 6, 5], action=[1, 1, 0], success=[True, True, False])
    >>> tally = Tally.from_log(log)
    >>> tally.states, tally.actions, tally.state.tolist(), tally.action.tolist()
    (('5', '6'), ('1', '0'), [0, 0, 1], [0, 1, 0])
    >>> tally.counts.sum(axis=0).tolist(), tally.episodes.sum(axis=0).tolist()
    ([[0, 1], [1, 0], [0, 1]], [1, 1])
    """

    states: tuple[str, ...]
    actions: tuple[str, ...] | None
    state: Integers
    action: Integers
    success: Array
    returns: Array | None
    counts: Integers
    episodes: Integers
    skipped: int = 0
    single: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "states", tuple(self.states))
        if self.actions is not None:
            object.__setattr__(self, "actions", tuple(self.actions))
        for name in ("state", "action", "counts", "episodes"):
            self._freeze(name, _as_counts(getattr(self, name), name))
        self._freeze("success", as_array(self.success, "success"))
        if self.returns is not None:
            self._freeze("returns", as_array(self.returns, "returns"))
        self._check_shapes()
        self._check_pairs()
        self._check_outcomes()

    def _freeze(self, name: str, values: NDArray[Any]) -> None:
        array = values.view()
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _check_shapes(self) -> None:
        P, B = np.size(self.state), np.size(self.success)
        if self.counts.ndim != 3 or 0 in self.counts.shape or len(self.counts) % 2:
            raise ValueError(
                f"counts must have shape (G, P, B) with G even, got {self.counts.shape}"
            )
        G = len(self.counts)
        wanted: dict[str, tuple[int, ...]] = {
            "state": (P,), "action": (P,), "success": (B,), "returns": (B,),
            "counts": (G, P, B), "episodes": (G, B),
        }  # fmt: skip
        for name, shape in wanted.items():
            values = getattr(self, name)
            if values is not None and values.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {values.shape}")

    def _check_pairs(self) -> None:
        n_actions = 1 if self.actions is None else len(self.actions)
        for name, limit in (("state", len(self.states)), ("action", n_actions)):
            wrong = getattr(self, name) >= limit
            if wrong.any():
                p = first(wrong)
                raise ValueError(
                    f"{place(name, p)} must be below {limit}, got {getattr(self, name)[p]}"
                )
        code = self.state.astype(np.int64) * n_actions + self.action
        again = np.append(False, code[1:] <= code[:-1])
        if again.any():
            p = first(again)
            raise ValueError(
                f"pairs must be ordered by state, then by action, each once: pair {p[0]} is "
                f"({self.state[p]}, {self.action[p]})"
            )

    def _check_outcomes(self) -> None:
        outside = (self.success < 0) | (self.success > 1)
        if outside.any():
            b = first(outside)
            raise ValueError(f"{place('success', b)} must lie in [0, 1], got {self.success[b]:.6g}")
        if self.returns is None:
            return
        if not np.isfinite(self.returns).all():
            b = first(~np.isfinite(self.returns))
            raise ValueError(f"{place('returns', b)} must be finite, got {self.returns[b]}")
        if (np.diff(self.returns) < 0).any():
            raise ValueError(f"returns must ascend, got {self.returns.tolist()}")

    @classmethod
    def from_log(cls, log: Log, returns: ArrayLike | None = None) -> Self:
        """Count the rows of a log.

        Parameters
        ----------
        log
            The decisions to count. States and actions are labelled by their numbers.
        returns
            The return of each row's episode, shape (N,): the same in all its rows.

        Raises
        ------
        TypeError
            If the returns are not real numbers.
        ValueError
            If there is not one finite return per row, or an episode has two; the message names the
            row.

        Examples
        --------
        >>> log = Log(episode=[0, 1, 2], state=[0, 0, 0], action=[0, 1, 1], success=[False] * 3)
        >>> Tally.from_log(log, returns=[1.5, 2.5, 2.5]).episodes.sum(axis=0).tolist()
        [1, 2]
        """
        Y = None if returns is None else _returns_of(log, returns)
        outcomes = Outcomes.of_success()
        if Y is not None:
            begins = np.append(True, log.episode[1:] != log.episode[:-1])
            outcomes = Outcomes.of_returns(Y[begins], log.success[begins])
        counting = Counting(outcomes)
        for block in _blocks(log, Y):
            counting.add(block)
        return cls(**counting.columns())


def _as_counts(values: ArrayLike, name: str) -> Integers:
    """Return an array of integers, none of them negative."""
    array: Integers = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got {array.dtype}")
    if array.size and array.min() < 0:
        where = first(array < 0)
        raise ValueError(f"{place(name, where)} must not be negative, got {array[where]}")
    return array


# What is counted, block by block


class Column(NamedTuple):
    """A column of labels: the different ones, and which of them each row has."""

    labels: list[str]
    code: NDArray[np.intp]


class Block(NamedTuple):
    """Some rows of a log.

    `keys` are those of the block's episodes, each once, and `episode` says which is whose. `late`
    says of each row whether it stands in the second half of the log.
    """

    keys: Keys
    episode: NDArray[np.intp]
    state: Column
    action: Column
    success: Booleans | None
    returns: Array | None
    late: Booleans


class Contradiction(ValueError):
    """An episode with two outcomes."""

    def __init__(self, key: int) -> None:
        super().__init__(f"the episode with key {key} has two outcomes")
        self.key = key


def keys_of(names: Iterable[str]) -> Keys:
    """Return 64 bits per name of an episode, the same in every process and on every machine.

    Two of 10^7 names share their bits with probability 3e-6.
    """
    names = list(names)
    try:
        numbers = list(map(int, names))
        if list(map(str, numbers)) == names and max(numbers, default=0) < 2**63:
            return keys_of_numbers(np.array(numbers, np.int64))
    except (ValueError, OverflowError):
        pass  # some are not numbers
    return np.array([_key(name) for name in names], np.uint64)


def _key(name: str) -> int:
    if name.isdecimal() and name.isascii() and len(name) <= 18 and (name[0] != "0" or name == "0"):
        return _scrambled(int(name))
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _scrambled(number: int) -> int:
    """Splitmix's finaliser, a permutation of 64 bits (Steele, Lea and Flood 2014)."""
    mask = 2**64 - 1
    x = (number + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def keys_of_numbers(numbers: NDArray[Any]) -> Keys:
    """Return the keys of the numbers' decimal names."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    odd = np.flatnonzero((numbers < 0) | (numbers >= 10**18))
    x[odd] = [_key(str(number)) for number in numbers[odd].tolist()]
    return x


def _returns_of(log: Log, returns: ArrayLike) -> Array:
    """Return one finite number per row, checked to be the same in all rows of an episode."""
    Y = as_array(returns, "returns")
    if Y.shape != log.episode.shape:
        raise ValueError(f"returns must have shape {log.episode.shape}, got {Y.shape}")
    if not np.isfinite(Y).all():
        where = first(~np.isfinite(Y))
        raise ValueError(f"{place('returns', where)} must be finite, got {Y[where]}")
    torn = np.flatnonzero((log.episode[1:] == log.episode[:-1]) & (Y[1:] != Y[:-1]))
    if torn.size:
        row = int(torn[0])
        raise ValueError(
            f"episode {log.episode[row]} has two returns: returns[{row}] is {Y[row]:.6g}, "
            f"returns[{row + 1}] is {Y[row + 1]:.6g}"
        )
    return Y


def _blocks(log: Log, returns: Array | None) -> Iterable[Block]:
    N = log.episode.size
    for start in range(0, N, ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, N))
        numbers, episode = np.unique(log.episode[rows], return_inverse=True)
        yield Block(
            keys_of_numbers(numbers),
            episode,
            _column(log.state[rows]),
            _column(log.action[rows]),
            log.success[rows],
            None if returns is None else returns[rows],
            2 * np.arange(rows.start, rows.stop) >= N,
        )


def _column(values: Integers) -> Column:
    """Name the numbers, in order of appearance."""
    numbers, begin, code = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(begin)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return Column([str(n) for n in numbers[order].tolist()], rank[code])


@dataclass(frozen=True, eq=False)
class Outcomes:
    """How the outcomes of episodes are told apart.

    Attributes
    ----------
    success, returns
        Of each outcome, as in `Tally`.
    edges
        The least return of each bin; None where returns do not matter.
    table
        The outcome by bin and success, shape (n_bins, 2).
    """

    success: Array
    returns: Array | None
    edges: Array | None
    table: Integers

    @classmethod
    def of_success(cls) -> Self:
        """Tell successes from failures."""
        return cls(np.array([0.0, 1.0]), None, None, np.array([[0, 1]]))

    @classmethod
    def of_returns(cls, returns: Array, success: Booleans | None = None) -> Self:
        """Tell the returns of episodes apart, or those of equally many; and successes, if given.

        Raises
        ------
        ValueError
            If no success is given, and all returns are the same.
        """
        least, largest = returns.min(), returns.max()
        edges = np.unique(returns)
        binned = edges.size > MOST_LEVELS
        if binned:
            split = np.sort(returns)[np.arange(MOST_LEVELS) * returns.size // MOST_LEVELS]
            edges = np.unique(split)
        code = 2 * (np.searchsorted(edges, returns, "right") - 1)
        code += 0 if success is None else success
        used, level, size = np.unique(code, return_inverse=True, return_counts=True)
        centre = edges[used // 2]
        if binned:
            centre = np.bincount(level, returns - centre[level]) / size + centre
        order = np.lexsort((used, centre))
        table = np.zeros(2 * edges.size, np.intp)
        table[used[order]] = np.arange(used.size)
        if success is None:
            if least == largest:
                raise ValueError(
                    f"all episodes have the same return, {least:.6g}: none is better than another"
                )
            worth = np.clip((centre - least) / (largest - least), 0, 1)
        else:
            worth = (used % 2).astype(np.float64)
        return cls(worth[order], centre[order], edges, table.reshape(-1, 2))

    def levels(self, success: Booleans | None, returns: Array | None) -> NDArray[np.intp]:
        """Return the outcome of each row."""
        won: Any = 0 if success is None else success.astype(np.intp)
        if self.edges is None or returns is None:
            return np.asarray(self.table[0][won], np.intp)
        return np.asarray(
            self.table[np.searchsorted(self.edges, returns, "right") - 1, won], np.intp
        )


class Episodes:
    """The episodes of a log: their keys, outcomes, and in which half of the log they begin.

    They take 17 bytes each, or 10 if there are no returns; their rows may be anywhere.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Keys, Booleans, Any, Any]] = []
        self._loose = self._settled = 0
        self._early: Keys | None = None

    @property
    def empty(self) -> bool:
        """Whether there are none yet."""
        return not self._parts

    def add(self, block: Block) -> None:
        """Note the episodes of a block.

        Raises
        ------
        Contradiction
            If an episode has two outcomes; it may be noticed later.
        """
        n = block.episode.size
        begin = np.empty(block.keys.size, np.intp)
        begin[block.episode[::-1]] = np.arange(n)[::-1]  # the last to be written is the first row
        for column in (block.success, block.returns):
            if column is not None:
                torn = column != column[begin][block.episode]
                if torn.any():
                    raise Contradiction(int(block.keys[block.episode[first(torn)]]))
        success, returns = (None if c is None else c[begin] for c in (block.success, block.returns))
        self._parts.append((block.keys, block.late[begin], success, returns))
        self._loose += block.keys.size
        if self._loose > self._settled + 2**20:
            self.settle()

    def settle(self) -> tuple[Keys, Booleans, Any, Any]:
        """Return keys in increasing order, whether late, success and returns, by episode."""
        if len(self._parts) != 1 or self._loose:
            keys = np.concatenate([part[0] for part in self._parts])
            order = np.argsort(keys, kind="stable")  # the first to come stays the first
            keys = keys[order]
            begins = np.append(True, keys[1:] != keys[:-1])
            settled: list[Any] = [keys[begins]]
            for k in (1, 2, 3):
                if self._parts[0][k] is None:
                    settled.append(None)
                    continue
                column = np.concatenate([part[k] for part in self._parts])[order]
                torn = ~begins[1:] & (column[1:] != column[:-1])
                if k > 1 and torn.any():
                    raise Contradiction(int(keys[first(torn)]))
                settled.append(column[begins])
            self._parts = [tuple(settled)]
            self._settled, self._loose = settled[0].size, 0
        return self._parts[0]

    def late(self, block: Block) -> Booleans:
        """Return whether each episode of a block that was added began in the second half."""
        if not block.late.any():
            return np.zeros(block.keys.size, bool)
        if self._early is None:  # all that began in the first half have been added by now
            keys, late, _, _ = self.settle()
            self._early = keys[~late]
        if not self._early.size:
            return np.ones(block.keys.size, bool)
        where = np.searchsorted(self._early, block.keys)
        missing: Booleans = self._early[np.minimum(where, self._early.size - 1)] != block.keys
        return missing


class Counting:
    """A tally in the making.

    Parameters
    ----------
    outcomes
        How they are told apart.
    episodes
        Those of the log, if they have all been added; else each block adds its own.
    """

    def __init__(self, outcomes: Outcomes, episodes: Episodes | None = None) -> None:
        self._outcomes = outcomes
        self._episodes, self._known = episodes or Episodes(), episodes is not None
        self._states: dict[str, int] = {}
        self._actions: dict[str, int] | None = {}
        self._pairs: dict[int, int] = {}  # 2^32 s + a: the row of the table; or s, if only states
        self._table = np.zeros((16, GROUPS, outcomes.success.size), np.int32)
        self.rows = 0

    @property
    def most_pairs(self) -> int:
        """How many pairs the table may hold."""
        return MOST_CELLS // (GROUPS * self._outcomes.success.size)

    def add(self, block: Block) -> None:
        """Count the rows of a block.

        Raises
        ------
        Contradiction
            If an episode has two outcomes; it may be noticed later.
        ValueError
            If there are more states than the table can hold.
        """
        if not self._known:
            self._episodes.add(block)
        group = _groups(block.keys, self._episodes.late(block))[block.episode]
        pair = self._pairs_of(block)
        level = self._outcomes.levels(block.success, block.returns)
        self.rows += pair.size
        if self.rows >= 2**31 and self._table.dtype != np.int64:
            self._table = self._table.astype(np.int64)
        cell = np.ravel_multi_index((pair, group, level), self._table.shape)
        np.add.at(self._table.reshape(-1), cell, 1)

    def columns(self, *, skipped: int = 0, single: bool | None = None) -> dict[str, Any]:
        """Return the arguments of the tally.

        Raises
        ------
        Contradiction
            If an episode has two outcomes.
        """
        keys, late, success, returns = self._episodes.settle()
        level = self._outcomes.levels(success, returns)
        B = self._outcomes.success.size
        episodes = np.bincount(_groups(keys, late) * B + level, minlength=GROUPS * B)
        codes = np.fromiter(self._pairs, np.int64, len(self._pairs))
        order = np.argsort(codes)
        state, action = codes[order], np.zeros_like(codes)
        if self._actions is not None:
            state, action = state >> 32, state & (2**32 - 1)
        return {
            "states": tuple(self._states),
            "actions": None if self._actions is None else tuple(self._actions),
            "state": state,
            "action": action,
            "success": self._outcomes.success,
            "returns": self._outcomes.returns,
            "counts": self._table[order].transpose(1, 0, 2),
            "episodes": episodes.reshape(GROUPS, B),
            "skipped": skipped,
            "single": self.rows == keys.size if single is None else single,
        }

    def _pairs_of(self, block: Block) -> NDArray[np.intp]:
        """Return the row of the table that each row of the block is counted in."""
        code = _numbered(self._states, block.state)
        if len(self._states) > self.most_pairs:
            raise ValueError(
                f"more than {self.most_pairs} different states, such as "
                f"{list(self._states)[self.most_pairs]!r}: too many to count"
            )
        if self._actions is not None:
            action = _numbered(self._actions, block.action)
            both, inverse = np.unique((code << 32) + action, return_inverse=True)
            if len(self._pairs) + both.size > self.most_pairs:
                # Perhaps: most of them may be known already.
                new = sum(pair not in self._pairs for pair in both.tolist())
                if len(self._pairs) + new > self.most_pairs:
                    self._forget_actions()
        if self._actions is None:
            both, inverse = np.unique(code, return_inverse=True)
        rows = np.array([self._pairs.setdefault(c, len(self._pairs)) for c in both.tolist()])
        self._make_room(len(self._pairs))
        return np.asarray(rows[inverse], np.intp)

    def _forget_actions(self) -> None:
        """Add up the actions of each state."""
        old = self._table
        state = np.fromiter(self._pairs, np.int64, len(self._pairs)) >> 32
        self._table = np.zeros((16, *old.shape[1:]), old.dtype)
        self._pairs = {int(s): k for k, s in enumerate(np.unique(state))}
        self._make_room(len(self._pairs))
        np.add.at(self._table, [self._pairs[s] for s in state.tolist()], old[: state.size])
        self._actions = None

    def _make_room(self, n_pairs: int) -> None:
        if n_pairs > len(self._table):
            larger = np.zeros((2 * n_pairs, *self._table.shape[1:]), self._table.dtype)
            larger[: len(self._table)] = self._table
            self._table = larger


def _numbered(known: dict[str, int], column: Column) -> NDArray[np.int64]:
    """Return each row's place among all labels so far, in order of appearance."""
    places = [known.setdefault(label, len(known)) for label in column.labels]
    return np.array(places, np.int64)[column.code]


def _groups(keys: Keys, late: Booleans) -> NDArray[np.intp]:
    half = GROUPS // 2
    return (keys % np.uint64(half)).astype(np.intp) + half * late
