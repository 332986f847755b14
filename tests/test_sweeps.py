"""Sweeps: the same numbers wherever they are computed, and nothing lost when a worker dies."""

import logging
import os
import re
import select
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from concurrent.futures.thread import BrokenThreadPool
from contextlib import contextmanager, redirect_stderr
from multiprocessing import get_context
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker
from tqdm import TMonitor

import sc_utils.sweeps
from sc_utils.sweeps import sweep
from tests.chores import draw, fail_at_first, leave_mark, refuse, where

ROOT = Path(__file__).resolve().parent.parent
SIZES = [3, 0, 7, 1, 4, 4, 2, 9, 5, 1]
# Processes that are not copies of this one, in which Dask has threads, and start quickly.
FRESH = get_context("forkserver")
FRESH.set_forkserver_preload(["sc_utils.sweeps", "tests.chores"])
EXECUTORS = ["here", "threads", "processes", "dask"]


def seeded():
    return np.random.default_rng(20260118175)


@pytest.fixture(scope="module")
def client():
    """A real cluster on this computer: a scheduler, and two worker processes with a thread each.

    A case may kill one worker; Dask's own default is three.
    """
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="localhost:0",  # any free port; None would take 8787
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def executor(request):
    if request.param == "here":
        yield None
    elif request.param == "dask":
        yield request.getfixturevalue("client").get_executor()
    else:
        make = {
            "threads": lambda: ThreadPoolExecutor(3),
            "processes": lambda: ProcessPoolExecutor(2, FRESH),
        }
        with make[request.param]() as pool:
            yield pool


everywhere = pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
where_workers_die = pytest.mark.parametrize("executor", ["processes", "dask"], indirect=True)


def run(arguments, folder):
    """Run Python somewhere."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# Identities


@everywhere
def test_the_numbers_do_not_depend_on_where_they_are_computed(executor):
    """Bit by bit those of the generators that NumPy spawns, in the order of the cases."""
    results = sweep(draw, SIZES, rng=seeded(), executor=executor)
    expected = [draw(n, child) for n, child in zip(SIZES, seeded().spawn(10), strict=True)]
    assert results == expected
    assert len(set(map(str, results))) == 10


@everywhere
def test_no_case_is_an_empty_list(executor):
    assert sweep(draw, [], rng=seeded(), executor=executor) == []


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox, np.random.PCG64DXSM])
def test_the_children_are_of_the_kind_of_the_parent(kind):
    rng = np.random.Generator(kind(7))
    children = np.random.Generator(kind(7)).spawn(2)
    assert sweep(draw, iter([2, 5]), rng=rng) == [draw(2, children[0]), draw(5, children[1])]


def test_a_case_that_is_redone_gets_the_same_generator():
    """Although `draw` spawns from its generator, which changes the seed sequence in there."""
    seed = np.random.SeedSequence(1)
    once, again = (sc_utils.sweeps._evaluate(draw, 3, seed, np.random.PCG64) for _ in range(2))
    assert once == again


def test_two_sweeps_from_one_generator_differ():
    rng = seeded()
    assert sweep(draw, SIZES, rng=rng) != sweep(draw, SIZES, rng=rng)


@pytest.mark.parametrize(
    ("executor", "n_threads"),
    [("here", 1), ("threads", 3), ("processes", 2), ("dask", 2)],
    indirect=["executor"],
)
def test_the_work_is_done_where_it_is_said_to_be(executor, n_threads):
    places = set(sweep(where, range(30), rng=seeded(), executor=executor))
    assert len(places) == n_threads
    at_home = {process for process, _ in places} == {os.getpid()}
    assert at_home == (n_threads in (1, 3))


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_few_cases_are_handed_out_at_a_time(at_a_time, monkeypatch):
    monkeypatch.setattr(sc_utils.sweeps, "IN_FLIGHT", at_a_time)

    class Watched(ThreadPoolExecutor):
        running, most = 0, 0

        def submit(self, *call):
            self.running += 1
            self.most = max(self.most, self.running)
            future = super().submit(*call)
            future.add_done_callback(self.count)
            return future

        def count(self, future):
            self.running -= 1

    with Watched(2) as pool:
        results = sweep(draw, SIZES, rng=seeded(), executor=pool)
    assert results == sweep(draw, SIZES, rng=seeded())
    assert pool.most == at_a_time


# Workers that fail and workers that die


def test_dask_may_try_again_and_gets_the_same_numbers(client, tmp_path):
    cases = [(str(tmp_path), k) for k in range(6)]
    with pytest.raises(OSError, match="not at the first attempt"):
        sweep(fail_at_first, [(str(tmp_path), -1)], rng=seeded(), executor=client.get_executor())
    results = sweep(fail_at_first, cases, rng=seeded(), executor=client.get_executor(retries=1))
    assert results == [draw(3, child) for child in seeded().spawn(6)]


def evaluations(folder):
    return Counter(int(path.name.split("-")[1]) for path in folder.glob("begun-*"))


@where_workers_die
def test_a_death_loses_nothing_and_what_had_finished_is_not_done_again(executor, tmp_path):
    cases = [(str(tmp_path), k, "dies once" if k == 3 else "") for k in range(30)]
    results = sweep(leave_mark, cases, rng=seeded(), executor=executor)
    assert results == [draw(3, child) for child in seeded().spawn(30)]
    finished = (tmp_path / "death").read_text().split()
    times = evaluations(tmp_path)
    assert len(finished) >= 10
    assert {times[int(k)] for k in finished} == {1}
    assert times[3] == 2
    assert set(times) == set(range(30))


@pytest.mark.parametrize(
    ("executor", "error", "note"),
    [
        (
            "processes",
            BrokenProcessPool,
            r"in case 3, which kills any process that takes it up: \('/",
        ),
        # Dask suspects the cases next in line on a worker that died, too.
        ("dask", KilledWorker, r"in case \d+: \('/"),
    ],
    indirect=["executor"],
)
def test_a_case_that_kills_its_worker_ends_the_sweep(executor, error, note, tmp_path):
    cases = [(str(tmp_path), k, "dies" if k == 3 else "") for k in range(20)]
    with pytest.raises(error) as caught:
        sweep(leave_mark, cases, rng=seeded(), executor=executor)
    assert len(caught.value.__notes__) == 1
    assert re.match(note, caught.value.__notes__[0])
    children = seeded().spawn(20)
    results = caught.value.results
    assert len(results) >= 10
    assert results == {k: draw(3, children[k]) for k in results}
    assert evaluations(tmp_path)[3] in (2, 3)


def test_the_new_pool_has_the_settings_of_the_broken_one(tmp_path):
    context = get_context("spawn")
    pool = ProcessPoolExecutor(3, context, tuple, ([5],), max_tasks_per_child=7)
    new = sc_utils.sweeps._renewed(pool)
    for name in (
        "_max_workers",
        "_mp_context",
        "_initializer",
        "_initargs",
        "_max_tasks_per_child",
    ):
        assert getattr(new, name) == getattr(pool, name)
    assert (new._max_workers, new._mp_context, new._max_tasks_per_child) == (3, context, 7)
    assert (new._initializer, new._initargs) == (tuple, ([5],))


def test_a_pool_that_is_broken_from_the_start_is_replaced(tmp_path):
    with ProcessPoolExecutor(1, FRESH) as pool:
        with pytest.raises(BrokenProcessPool):
            pool.submit(os._exit, 1).result()
        results = sweep(draw, SIZES, rng=seeded(), executor=pool)
    assert results == sweep(draw, SIZES, rng=seeded())


def test_an_executor_that_cannot_be_replaced_says_that_it_broke(caplog):
    with (
        ThreadPoolExecutor(1, initializer=float, initargs=("one",)) as pool,
        pytest.raises(BrokenThreadPool) as caught,
    ):
        sweep(draw, SIZES, rng=seeded(), executor=pool)
    assert caught.value.results == {}
    assert "could not convert" in caplog.text


# Exceptions


@everywhere
def test_an_exception_names_its_case_and_keeps_what_had_finished(executor):
    with pytest.raises(ValueError, match="five is right out") as caught:
        sweep(refuse, [1, 2, 5, *range(6, 40)], rng=seeded(), executor=executor)
    assert caught.value.__notes__ == ["in case 2: 5"]
    results = caught.value.results
    expected = [child.random() for child in seeded().spawn(37)]
    assert len(results) < 30  # those that were waiting did not run
    assert results == {k: expected[k] for k in results}


def test_an_exception_cancels_the_cases_that_wait():
    evaluated = []

    def noted(n, rng):
        evaluated.append(n)
        return refuse(n, rng)

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="five"):
        sweep(noted, [1, 2, 5, *range(6, 40)], rng=seeded(), executor=pool)
    assert evaluated[:3] == [1, 2, 5]
    assert len(evaluated) < 10


def test_an_interruption_keeps_what_had_finished():
    def interrupted(n, rng):
        if n == 3:
            raise KeyboardInterrupt
        return n

    with pytest.raises(KeyboardInterrupt) as caught:
        sweep(interrupted, range(5), rng=seeded())
    assert caught.value.results == {0: 0, 1: 1, 2: 2}


# The bar


@contextmanager
def terminal():
    """Make standard error a pseudo-terminal; give a function that reads what it shows by now."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))

    def shown():
        text = b""
        while select.select([master], [], [], 0.05)[0]:
            text += os.read(master, 10_000)
        return text.decode()

    with os.fdopen(slave, "w") as stderr, redirect_stderr(stderr):
        yield shown
    os.close(master)


def test_the_bar_comes_after_two_seconds():
    assert sc_utils.progress.SECONDS_WITHOUT_BAR == 2


@pytest.mark.parametrize("executor", ["here", "threads"], indirect=True)
def test_the_bar_comes_late_and_not_at_all_for_a_short_sweep(executor, monkeypatch):
    monkeypatch.setattr(sc_utils.progress, "SECONDS_WITHOUT_BAR", 0.6)
    begun = time.monotonic()

    def look(n, rng):
        time.sleep(0.2)
        return time.monotonic() - begun, shown()

    with terminal() as shown:
        views = sweep(look, range(8), rng=seeded(), executor=executor)
        assert "".join(text for seconds, text in views if seconds < 0.6) == ""
        everything = "".join(text for _, text in views) + shown()
        assert re.search(r"\r *\d\d%\|.*\| [1-7]/8 \[", everything)
        assert re.search(r"\r100%\|.*\| 8/8 \[.*case/s\]\r?\n$", everything)
        sweep(draw, SIZES, rng=seeded(), executor=executor)
        assert shown() == ""
    assert not [thread for thread in threading.enumerate() if isinstance(thread, TMonitor)]


def test_the_bar_is_closed_when_an_exception_ends_the_sweep(monkeypatch):
    monkeypatch.setattr(sc_utils.progress, "SECONDS_WITHOUT_BAR", 0.0)
    with terminal() as shown:
        with pytest.raises(ValueError, match="five"):
            sweep(lambda n, rng: time.sleep(0.15) or refuse(n, rng), [1, 2, 5, 6], rng=seeded())
        assert shown().endswith("\n")
    assert not sc_utils.progress.Bar._instances


def test_no_bar_where_nobody_looks(capfd, monkeypatch):
    monkeypatch.setattr(sc_utils.progress, "SECONDS_WITHOUT_BAR", 0.0)
    sweep(lambda n, rng: time.sleep(0.15), range(3), rng=seeded())
    assert capfd.readouterr() == ("", "")


# Refusals


@pytest.mark.parametrize(
    ("rng", "executor", "message"),
    [
        (1, None, "rng must be a numpy.random.Generator, such as np.random.default_rng(1), got 1"),
        (None, None, "rng must be a numpy.random.Generator"),
        (seeded(), 4, "executor must be a concurrent.futures.Executor, such as"),
        (seeded(), "processes", "of a Dask client, got 'processes'"),
        (seeded(), ProcessPoolExecutor, "got <class 'concurrent.futures.process.ProcessPoolE"),
    ],
)
def test_a_wrong_argument_is_refused(rng, executor, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        sweep(draw, SIZES, rng=rng, executor=executor)


def test_a_function_that_processes_cannot_import_is_refused():
    with ProcessPoolExecutor(1, FRESH) as pool:
        with pytest.raises(TypeError, match=r"lambda.*; define it at the top level of"):
            sweep(lambda n, rng: n, SIZES, rng=seeded(), executor=pool)
        assert sweep(draw, SIZES, rng=seeded(), executor=pool) == sweep(draw, SIZES, rng=seeded())


@pytest.mark.parametrize(
    ("method", "outcome"),
    [("spawn", "it is defined in a notebook or at a prompt"), ("fork", "it is done")],
)
def test_a_function_from_a_prompt_is_refused_where_it_is_missing(method, outcome):
    program = f"""
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
import numpy as np
from sc_utils.sweeps import sweep
def function(n, rng):
    return n
with ProcessPoolExecutor(1, get_context("{method}")) as pool:
    try:
        for f in (function, partial(function)):
            sweep(f, range(3), rng=np.random.default_rng(1), executor=pool)
        print("it is done")
    except TypeError as error:
        print(error)
"""
    done = run(["-c", program], ROOT)
    assert outcome in done.stdout, done.stderr


def test_a_client_of_dask_is_not_its_executor(client):
    with pytest.raises(TypeError, match=r"get_executor\(\) of a Dask client, got <Client"):
        sweep(draw, SIZES, rng=seeded(), executor=client)


# The page that explains sweeps


@pytest.fixture(scope="module")
def listings(tmp_path_factory):
    """The files that the page on running the book shows, where they can be run; what it prints."""
    page = (ROOT / "chapters/running.md").read_text("utf-8")
    section = page.partition("## Sweeps that outgrow one machine\n")[2].partition("\n## ")[0]
    folder = tmp_path_factory.mktemp("listings")
    for name, code in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", section, re.M | re.S):
        (folder / name).write_text(code)
    assert section.count("```python") == len(list(folder.iterdir())) == 4
    (output,) = re.findall(r"^```text\n(.*?)^```$", section, re.M | re.S)
    return folder, output


@pytest.mark.parametrize("name", ["here.py", "processes.py", "cluster.py"])
def test_what_the_page_shows_prints_what_the_page_says(name, listings):
    folder, output = listings
    done = run([name], folder)
    assert (done.stdout, done.stderr, done.returncode) == (output, "", 0)
