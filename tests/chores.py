"""What the tests of sweeps have computed elsewhere: worker processes import it by name."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np


def draw(n: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Draws of several kinds, and some of a generator spawned from the given one."""
    child = rng.spawn(2)[1]
    return (*rng.normal(size=n), rng.random(), *child.gamma(0.3, size=n), child.random())


def refuse(n: int, rng: np.random.Generator) -> float:
    """Refuse the case 5; slow down what comes after."""
    if n == 5:
        raise ValueError("five is right out")
    time.sleep(0.1 * (n > 5))
    return rng.random()


def fail_at_first(case: tuple[str, int], rng: np.random.Generator) -> tuple[float, ...]:
    """Use the generator, then fail at the first attempt."""
    values = draw(3, rng)
    attempt = Path(case[0]) / f"attempt-{case[1]}"
    if not attempt.exists():
        attempt.touch()
        raise OSError("not at the first attempt")
    return values


def where(n: int, rng: np.random.Generator) -> tuple[int, int]:
    time.sleep(0.02)
    return os.getpid(), threading.get_ident()


def leave_mark(case: tuple[str, int, str], rng: np.random.Generator) -> tuple[float, ...]:
    """Leave a file when the case begins and one when it ends; die in the middle if told so.

    It dies when ten cases have ended, and their results have had time to arrive.
    """
    folder, k, fate = Path(case[0]), case[1], case[2]
    values = draw(3, rng)
    (folder / f"begun-{k}-{time.time_ns()}").touch()
    if fate == "dies" or (fate == "dies once" and not (folder / "death").exists()):
        deadline = time.monotonic() + 20
        while len(list(folder.glob("ended-*"))) < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        arrived = [path.name.split("-")[1] for path in folder.glob("ended-*")]
        time.sleep(0.5)
        if not (folder / "death").exists():
            (folder / "death").write_text(" ".join(arrived))
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    (folder / f"ended-{k}-{time.time_ns()}").touch()
    return values
