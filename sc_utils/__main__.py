"""The command line: a log in, a report out.

It knows no statistics; it only connects those who read, those who conclude and those who write.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sc_utils.diagnosis import diagnose
from sc_utils.readers import UnreadableLog, read_tally
from sc_utils.reports import as_html, as_text

__all__ = ["main"]

BAD_INPUT = 2
INTERRUPTED = 130  # as shells have it: 128 + SIGINT
ROLES = ("episode", "state", "action", "success", "return", "prompt", "sample")

EXAMPLE = """\
the log, one row per decision, with the outcome of its episode in each:

  episode,state,action,success
  1,start,left,0
  1,door,push,0
  2,start,right,1

or one row per answer of a language model:

  {"prompt": "2 + 2 =", "sample": "4", "success": true}

A column 'return' may stand beside 'success', or in its place. Rows may be in
any order, files of any size. Formats: .csv, .tsv, .jsonl (each also .gz) and
.parquet.

examples:

  python -m sc_utils report rollouts.csv
  python -m sc_utils report rollouts.parquet --state obs_id --html report.html
  python -m sc_utils report episodes.jsonl.gz --threshold 200 --skip-bad

exit codes: 0 done; 2 the log could not be read, and the last line says why;
130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code.

    Parameters
    ----------
    arguments
        What stands after ``python -m sc_utils``; by default, what stood there.
    """
    options = _parser().parse_args(arguments)
    try:
        return _report(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # who reads has seen enough, as in `... | head`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 # nothing is flushed on exit
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}")
    except (UnreadableLog, ModuleNotFoundError) as error:
        return _refuse(str(error))


def _report(options: argparse.Namespace) -> int:
    # Said before a long file is read, not after it.
    if options.html is not None and not options.html.parent.is_dir():
        return _refuse(f"{options.html.parent}: no such directory")
    tally = read_tally(
        options.log,
        skip_bad=options.skip_bad,
        threshold=options.threshold,
        columns={role: name for role in ROLES if (name := getattr(options, role)) is not None},
    )
    diagnosis = diagnose(tally, confidence=options.confidence)
    print(as_text(diagnosis), end="", flush=True)
    if options.html is not None:  # last, so that a full disk does not take the report along
        options.html.write_text(as_html(diagnosis), encoding="utf-8")
    return 0


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sc_utils", description="Success conditioning, applied to your data."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    report = commands.add_parser(
        "report",
        help="say what another round of imitating the successes of a log would give",
        description="Read a log of rollouts, and say what another round of imitating its\n"
        "successes would give, and where.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument("log", metavar="LOG", type=Path, help="the file")
    report.add_argument("--html", metavar="FILE", type=Path, help="also write a page with figures")
    report.add_argument(
        "--skip-bad", action="store_true", help="leave malformed lines out, and count them"
    )
    report.add_argument(
        "--threshold",
        metavar="T",
        type=_finite,
        help="an episode succeeds if its return is at least T; 'success' is not read",
    )
    report.add_argument(
        "--confidence",
        metavar="C",
        type=_share,
        default=0.95,
        help="of the intervals (default: %(default)s)",
    )
    columns = report.add_argument_group("columns, if they have other names in your file")
    for role in ROLES:
        columns.add_argument(f"--{role}", metavar="COLUMN", help=f"the column for '{role}'")
    return parser


def _finite(text: str) -> float:
    number = float(text)
    if not abs(number) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text}")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
