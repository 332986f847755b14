"""Reading and counting a log of a million rows: CSV, JSON lines, Parquet; a tenth of the target.

The target for 10^7 rows is a minute and 2 GB of memory.
"""

import csv
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bench.race import Finish, table
from sc_utils.logs import Log
from sc_utils.readers import read_tally

N_ROWS = 10**6
SECONDS, GIGABYTES = 6.0, 2.0


def finishes() -> list[Finish]:
    """Read one log in three formats, each in a process of its own, to be weighed."""
    log = a_log()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for ending, write in WRITERS.items():
            path = Path(folder) / f"log{ending}"
            write(log, path)
            child = subprocess.run(
                [sys.executable, "-m", "bench.logs", str(path)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            seconds, gigabytes = map(float, child.stdout.split())
            course = f"1e6 rows of {ending[1:]}"
            found += [
                Finish(course, "6 s", seconds, SECONDS, SECONDS / seconds, 1),
                Finish(
                    f"{course}, {gigabytes:.2f} GB", "2 GB", seconds, seconds,
                    GIGABYTES / gigabytes, 1,
                ),
            ]  # fmt: skip
    return found


def a_log() -> Log:
    """Draw episodes of five decisions, with 64 states and 4 actions."""
    rng = np.random.default_rng(1)
    return Log(
        episode=np.repeat(np.arange(N_ROWS // 5), 5),
        state=rng.integers(64, size=N_ROWS),
        action=rng.integers(4, size=N_ROWS),
        success=np.repeat(rng.random(N_ROWS // 5) < 0.3, 5),
    )


def write_csv(log: Log, path: Path) -> None:
    """Write the rows as a table."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(vars(log))
        writer.writerows(zip(*(column.tolist() for column in vars(log).values()), strict=True))


def write_json(log: Log, path: Path) -> None:
    """Write an object per row."""
    columns = [column.tolist() for column in vars(log).values()]
    with path.open("w") as file:
        for row in zip(*columns, strict=True):
            file.write(json.dumps(dict(zip(vars(log), row, strict=True))) + "\n")


def write_parquet(log: Log, path: Path) -> None:
    """Write the columns."""
    parquet.write_table(pa.table(vars(log)), path)


WRITERS: dict[str, Callable[[Log, Path], None]] = {
    ".csv": write_csv,
    ".jsonl": write_json,
    ".parquet": write_parquet,
}


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(table(finishes()))
    else:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        read_tally(sys.argv[1])
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(usage.ru_utime - before, usage.ru_maxrss / 2**20)
