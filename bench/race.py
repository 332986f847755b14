"""Races: our function and its peers take turns in one run, on one core, in CPU time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import process_time


@dataclass(frozen=True)
class Finish:
    """One peer's result: seconds of CPU per call, and how many times ours the target asks for."""

    course: str
    peer: str
    ours: float
    theirs: float
    ratio: float
    target: float

    @property
    def missed(self) -> bool:
        """Whether the ratio falls short of the target."""
        return self.ratio < self.target


def race(
    course: str,
    ours: Callable[[], object],
    peers: Mapping[str, tuple[Callable[[], object], float]],
    *,
    rounds: int = 15,
    turn: float = 0.02,
    budget: float = 10.0,
) -> list[Finish]:
    """Time `ours` against every peer.

    Everyone goes once untimed. Then, in every round, each calls its function for at least `turn`
    seconds. A ratio is the median over rounds of theirs to ours *in that round*, so that whatever
    else the machine is doing falls on both.

    Parameters
    ----------
    peers : mapping
        Name -> (function, target ratio).
    budget : float
        Start no further round after so many seconds.
    """
    runners = [ours, *(function for function, _ in peers.values())]
    for runner in runners:
        runner()
    times: list[list[float]] = []
    start = process_time()
    while not times or (len(times) < rounds and process_time() - start < budget):
        times.append([_seconds_per_call(runner, turn) for runner in runners])
    return [
        Finish(
            course,
            peer,
            ours=median(row[0] for row in times),
            theirs=median(row[k] for row in times),
            ratio=median(row[k] / row[0] for row in times),
            target=target,
        )
        for k, (peer, (_, target)) in enumerate(peers.items(), start=1)
    ]


def table(finishes: list[Finish]) -> str:
    """Lay out results as text, one line per peer."""
    head = f"{'course':34} {'peer':28} {'ours':>10} {'peer':>10} {'ratio':>8} {'target':>7}"
    lines = [
        f"{f.course:34} {f.peer:28} {_readable(f.ours):>10} {_readable(f.theirs):>10} "
        f"{f.ratio:8.3g} {f.target:7g}{'  MISSED' if f.missed else ''}"
        for f in finishes
    ]
    return "\n".join([head, "-" * len(head), *lines])


def _seconds_per_call(function: Callable[[], object], turn: float) -> float:
    calls, start = 0, process_time()
    while True:
        function()
        calls += 1
        elapsed = process_time() - start
        if elapsed >= turn:
            return elapsed / calls


def _readable(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
