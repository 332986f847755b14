"""Run every race, print one table, and fail if a target is missed."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # idle BLAS threads spin, and their time would count

import argparse
import sys

from bench import engine, logs, sampling, trust_region
from bench.race import table

parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
parser.add_argument("--long", action="store_true", help="add a grid of a million states (minutes)")
arguments = parser.parse_args()

finishes = [*engine.finishes(), *sampling.finishes(), *logs.finishes(), *trust_region.finishes()]
if arguments.long:
    finishes += engine.long_finishes()
print(table(finishes))
missed = [finish for finish in finishes if finish.missed]
if missed:
    sys.exit(f"{len(missed)} of {len(finishes)} targets missed")
