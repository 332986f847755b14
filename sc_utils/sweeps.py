"""Sweeps: one function of a case and a generator, evaluated at many cases, wherever there is room.

In this process, in threads, in processes or on a cluster: the numbers are the same to the last bit,
because each case has a generator of its own. All that is asked of the outside is Python's interface
`concurrent.futures.Executor`, which Dask, MPI and others offer as well.
"""

import pickle
import reprlib
import sys
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np

from sc_utils.probabilities import as_generator
from sc_utils.progress import Bar, progress_bar

__all__ = ["sweep"]

Case = TypeVar("Case")
Result = TypeVar("Result")

IN_FLIGHT = 4096  # cases handed to the executor at a time: enough for any cluster, few for a memory


def sweep(
    function: Callable[[Case, np.random.Generator], Result],
    cases: Iterable[Case],
    *,
    rng: np.random.Generator,
    executor: Executor | None = None,
) -> list[Result]:
    """Evaluate ``function(case, child_rng)`` for every case.

    The k-th case gets the generator ``rng.spawn(n)[k]``, wherever and however often it is
    evaluated. Two runs from the same seed therefore agree bit by bit whatever the executor, as long
    as `function` computes with its two arguments only and leaves the case as it was.

    A sweep that takes longer than two seconds shows a progress bar in a terminal and in a notebook.

    Parameters
    ----------
    function
        What is computed. A process pool can use it if the other processes can import it: define it
        in a module, not in a notebook or inside another function.
    cases
        What varies: numbers, tuples, anything that can be pickled. To hand one out takes a good
        part of a millisecond in a pool of processes and several on a cluster; a case should take
        longer than that.
    rng
        Source of randomness; it spawns as many generators as there are cases.
    executor
        Where to compute: by default here, one case after the other; else a
        `concurrent.futures.Executor`, such as ``ProcessPoolExecutor()`` or the ``get_executor()``
        of a Dask client. It is not shut down.

    Returns
    -------
    list
        The results, in the order of the cases.

    Raises
    ------
    TypeError
        If `rng` is not a generator, `executor` is not an executor, or a process pool cannot import
        `function`.
    Exception
        What `function` raises, or ``BrokenProcessPool`` if a case kills the process that evaluates
        it, again and again. A note names the case, and cases that wait are cancelled. Whatever ends
        a sweep early has an attribute `results`: a dictionary from the index of each case that has
        finished to its result.

    Examples
    --------
    >>> def mean(n, rng):
    ...     return round(float(rng.normal(size=n).mean()), 3)
    >>> sweep(mean, [10, 1000, 100_000], rng=np.random.default_rng(1))
    [-0.035, 0.007, 0.003]

    Notes
    -----
    A process pool breaks when one of its processes is killed, and takes down every case that was
    handed to it. Those cases, and those to come, go on in a new pool with the same settings; a case
    whose result has arrived is not evaluated again. If the new pool breaks too, the cases it took
    down are evaluated in a third, one at a time; a case that breaks that one is the culprit, and
    ends the sweep. No case is ever moved to this process, which it could take down as well.

    Dask does likewise by itself: it moves the cases of a dead worker to another. When four workers
    have died on which the same case was running or next in line, it ends the sweep with
    `distributed.scheduler.KilledWorker`; the case that is named may be the neighbour of the
    culprit.
    """
    rng = as_generator(rng)
    _check_executor(executor, function)
    kind = type(rng.bit_generator)
    table = list(cases)
    seeds = rng.bit_generator.seed_seq.spawn(len(table))  # type: ignore[attr-defined]
    with progress_bar(len(table), "case") as bar:
        work = _Work(function, table, seeds, kind, bar)
        try:
            if executor is None:
                work.run_here()
            else:
                work.run_to_the_end(executor)
        except BaseException as error:
            error.results = work.results  # type: ignore[attr-defined]
            raise
    return [work.results[k] for k in range(len(table))]


def _evaluate(
    function: Callable[[Case, np.random.Generator], Result],
    case: Case,
    seed: np.random.SeedSequence,
    kind: Callable[[np.random.SeedSequence], np.random.BitGenerator],
) -> Result:
    # The seed is copied: who spawns from a generator changes it, and a case may have to be redone.
    return function(case, np.random.Generator(kind(deepcopy(seed))))


@dataclass
class _Work(Generic[Case, Result]):
    """The cases of a sweep, and what is known of them so far."""

    function: Callable[[Case, np.random.Generator], Result]
    cases: list[Case]
    seeds: list[np.random.SeedSequence]
    kind: Callable[[np.random.SeedSequence], np.random.BitGenerator]
    bar: Bar
    results: dict[int, Result] = field(default_factory=dict)

    def task(self, k: int) -> Callable[[], Result]:
        return partial(_evaluate, self.function, self.cases[k], self.seeds[k], self.kind)

    def take(self, k: int, get: Callable[[], Result]) -> None:
        """Store the result of case k, or say that its exception is its."""
        try:
            self.results[k] = get()
        except BrokenExecutor:
            raise  # not its doing, as far as we know
        except Exception as error:
            self.name(k, error)
            raise
        self.bar.update()

    def name(self, k: int, error: Exception, what: str = "") -> None:
        error.add_note(f"in case {k}{what}: {reprlib.repr(self.cases[k])}")

    def run_here(self) -> None:
        for k in range(len(self.cases)):
            self.take(k, self.task(k))

    def run_to_the_end(self, executor: Executor) -> None:
        """Evaluate every case, in new pools of processes if the given one breaks."""
        waiting = deque(range(len(self.cases)))
        with ExitStack() as pools:
            while waiting:
                lost = self.run(executor, waiting, IN_FLIGHT)
                for at_a_time in (IN_FLIGHT, 1):
                    if lost:
                        executor = pools.enter_context(_renewed(executor))
                        lost = self.run(executor, deque(lost), at_a_time)

    def run(self, executor: Executor, waiting: deque[int], at_a_time: int) -> list[int]:
        """Evaluate the waiting cases; if a pool breaks, stop and return those that it took down."""
        done: SimpleQueue[Future[Result]] = SimpleQueue()
        running: dict[Future[Result], int] = {}
        lost: list[int] = []
        try:
            while running or (waiting and not lost):
                while waiting and not lost and len(running) < at_a_time:
                    future = _submitted(executor, self.task(waiting[0]))
                    running[future] = waiting.popleft()
                    future.add_done_callback(done.put)
                future = done.get()
                k = running.pop(future)
                try:
                    self.take(k, future.result)
                except BrokenExecutor as error:
                    if not isinstance(executor, ProcessPoolExecutor):
                        raise  # with nothing known of it, it cannot be replaced
                    if at_a_time == 1:
                        self.name(k, error, ", which kills any process that takes it up")
                        raise
                    lost.append(k)
        finally:
            for future, k in running.items():
                if not future.cancel() and future.done() and not future.exception():
                    self.results[k] = future.result()
        return sorted(lost)


def _submitted(executor: Executor, task: Callable[[], Result]) -> "Future[Result]":
    """Return the future of a task; it has failed already if the executor is broken."""
    try:
        return executor.submit(task)
    except BrokenExecutor as error:
        future: Future[Result] = Future()
        future.set_exception(error)
        return future


def _renewed(executor: Executor) -> ProcessPoolExecutor:
    """Return a pool with the settings of a broken one, which the standard library keeps private."""
    executor.shutdown()  # nothing runs in it any more
    settings: Any = executor
    return ProcessPoolExecutor(
        settings._max_workers,
        mp_context=settings._mp_context,
        initializer=settings._initializer,
        initargs=settings._initargs,
        max_tasks_per_child=settings._max_tasks_per_child,
    )


def _check_executor(executor: Executor | None, function: Callable[..., Any]) -> None:
    """Refuse what is no executor, and a function that a pool of processes cannot import."""
    if not (executor is None or isinstance(executor, Executor)):
        raise TypeError(
            f"executor must be a concurrent.futures.Executor, such as ProcessPoolExecutor() or "
            f"get_executor() of a Dask client, got {executor!r}"
        )
    if isinstance(executor, ProcessPoolExecutor) and (reason := _hidden(function, executor)):
        raise TypeError(
            f"the processes of a pool cannot import {function!r}: {reason}; define it at the top "
            f"level of a module, a file of its own"
        )


def _hidden(function: Callable[..., Any], pool: ProcessPoolExecutor) -> str | None:
    """Say why the processes of a pool cannot import a function; None if they can."""
    try:
        pickle.dumps(function)
    except Exception as error:  # which one depends on what is wrong
        return str(error)
    settings: Any = pool
    copied = settings._mp_context.get_start_method() == "fork"  # they have it without importing it
    home = getattr(getattr(function, "func", function), "__module__", None)  # partial(f).func is f
    at_a_prompt = home == "__main__" and not hasattr(sys.modules[home], "__file__")
    return "it is defined in a notebook or at a prompt" if at_a_prompt and not copied else None
