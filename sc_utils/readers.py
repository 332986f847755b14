"""Logs in files: CSV, JSON lines or Parquet, read in pieces and counted as they come.

What cannot be read is refused with its file, its line and the reason. Python's own `csv` and `json`
read the text; Parquet needs pyarrow. A file may be larger than the memory.
"""

import csv
import gc
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from io import TextIOWrapper
from itertools import islice
from math import isfinite
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sc_utils.progress import Bar, progress_bar
from sc_utils.tallies import (
    Block,
    Column,
    Contradiction,
    Counting,
    Episodes,
    Outcomes,
    Tally,
    keys_of,
    keys_of_numbers,
)

__all__ = ["MalformedLine", "UnreadableLog", "read_tally"]

ROWS_AT_ONCE = 65_536
BYTES_AT_ONCE = 2**24
LONGEST_FIELD = 10**7  # of a CSV file, in characters; Python's own limit is 131,072
LONGEST_LABEL = 80  # what is longer is cut, and told apart by its fingerprint
OUTCOMES = {
    "1": True, "1.0": True, "true": True, "yes": True,
    "0": False, "0.0": False, "false": False, "no": False,
}  # fmt: skip
LINE_BREAK = re.compile(r"\r\n|\r|\n")

Integers = NDArray[np.signedinteger]


class UnreadableLog(ValueError):
    """A file that holds no log that could be counted; the message names the file and the reason."""


class MalformedLine(UnreadableLog):
    """A line of a log that says nothing clear; the message names file, line, value and reason."""


def read_tally(
    path: str | PathLike[str],
    *,
    skip_bad: bool = False,
    threshold: float | None = None,
    columns: Mapping[str, str] | None = None,
) -> Tally:
    """Count a log in a file: ``.csv``, ``.tsv``, ``.jsonl`` (each also ``.gz``), or ``.parquet``.

    A row is a decision, with columns *episode*, *state*, *action* and the outcome of the episode:
    *success* (0 or 1, true or false, yes or no), *return* (a number), or both. The rows of an
    episode may be anywhere. Or a row is an answer of a language model, with columns *prompt*,
    *sample* (the answer) and its outcome; then each row is an episode.

    Parameters
    ----------
    path
        The file.
    skip_bad
        Leave malformed lines out, and count them in `Tally.skipped`.
    threshold
        The return from which on an episode succeeds; a column *success* is then not read.
    columns
        What the columns are called in the file, if not by these names: ``{"state": "obs"}``.

    Returns
    -------
    Tally
        The same whenever, and on whatever machine, the file is read.

    Raises
    ------
    OSError
        If the file cannot be opened.
    MalformedLine
        At a line that cannot be read, unless they are skipped.
    UnreadableLog
        If a column is missing or there twice, an episode has two outcomes (skipping lines does not
        help), no row is left, or the file is not what its name says.
    ModuleNotFoundError
        If the file is Parquet and pyarrow is not installed.

    Notes
    -----
    With returns, a file is read twice: first for the outcomes, whose quantiles are the levels of
    the tally. In memory there are 10 bytes per episode (18 with returns), besides labels and
    counts.
    """
    source = _Source.opened(Path(path), columns or {}, threshold)
    passes = 1 if "return" not in source.names else 2
    try:
        with _long_fields(), _no_cycles(), _bar(passes * source.n_lines) as shown:
            return _count(source, skip_bad, shown)
    except Contradiction as error:
        raise UnreadableLog(_both_outcomes(source, error.key, skip_bad)) from None


def _count(source: "_Source", skip_bad: bool, shown: Bar) -> Tally:
    outcomes, episodes = Outcomes.of_success(), None
    if "return" in source.names:
        episodes = Episodes()
        for part in source.parts(_Complaints(source, skip_bad), shown):
            episodes.add(part.block)
        if not episodes.empty:
            outcomes = _outcomes_of(source, episodes)
    complaints = _Complaints(source, skip_bad)
    counting = Counting(outcomes, episodes)
    for part in source.parts(complaints, shown):
        try:
            counting.add(part.block)
        except Contradiction:
            raise
        except ValueError as error:
            name = source.names["prompt" if source.prompts else "state"]
            raise UnreadableLog(f"{source.path}: {error}; is {name!r} the right column?") from None
    if not counting.rows:
        raise UnreadableLog(f"{source.path} {complaints.nothing_left()}")
    single = True if source.prompts else None
    return Tally(**counting.columns(skipped=complaints.skipped, single=single))


def _bar(n_lines: int) -> Bar:
    return progress_bar(n_lines, "line", unit_scale=True)


def _outcomes_of(source: "_Source", episodes: Episodes) -> Outcomes:
    _, _, success, returns = episodes.settle()
    try:
        return Outcomes.of_returns(returns, success)
    except ValueError as error:
        raise UnreadableLog(
            f"{source.path}: {error}; name a threshold, or a column that says who succeeded"
        ) from None


def _both_outcomes(source: "_Source", key: int, skip_bad: bool) -> str:
    """Say where an episode has two outcomes: the file is read once more, up to there."""
    before: tuple[bool | None, float | None, int] | None = None
    for part in source.parts(_Complaints(source, skip_bad), None):
        block = part.block
        for row in np.flatnonzero((block.keys == key)[block.episode]).tolist():
            won = None if block.success is None else bool(block.success[row])
            earned = None if block.returns is None else float(block.returns[row])
            now = (won, earned, int(part.lines[row]))
            before = before or now
            if now[:2] != before[:2]:
                name, unit = part.names[block.episode[row]], source.unit
                ways = [
                    ("succeeds" if w else "fails")
                    if won != before[0] and source.threshold is None
                    else f"has the return {y!r}"
                    for w, y, _ in (before, now)
                ]
                places = [f"({unit} {line})" for _, _, line in (before, now)]
                return (
                    f"{source.path}: episode {name!r} has two outcomes: it "
                    f"{ways[0]} {places[0]} and {ways[1]} {places[1]}"
                )
    raise AssertionError("the file has changed while it was read")


# A file: its columns, and its rows in pieces


class _Values(NamedTuple):
    """A column of a piece: its different values, in order of appearance, and which each row has."""

    different: list[Any]
    code: NDArray[np.intp]

    @classmethod
    def of(cls, cells: list[Any]) -> "_Values":
        kinds = set(map(type, cells))
        if len(kinds) > 1 or not kinds <= {str, int, float, bool}:  # 1 == 1.0 == True
            return cls(cells, np.arange(len(cells)))
        different = list(dict.fromkeys(cells))
        if len(different) == len(cells):
            return cls(different, np.arange(len(cells)))
        place = dict(zip(different, range(len(different)), strict=True))
        return cls(different, np.fromiter(map(place.__getitem__, cells), np.intp, len(cells)))

    def at(self, rows: NDArray[np.intp]) -> "_Values":
        return _Values.of([self.different[k] for k in self.code[rows].tolist()])


class _Piece(NamedTuple):
    """Rows of a file: their columns, and the line on which each begins."""

    columns: list[_Values]
    lines: Integers


class _Part(NamedTuple):
    """Rows that have been understood; `names` are those of the episodes that `block.keys` has."""

    block: Block
    lines: Integers
    names: list[str]


class _Format(NamedTuple):
    """A kind of file: how to find its columns, count its lines, and read them."""

    found: "Callable[[Path], list[str]]"
    count: "Callable[[Path], int]"
    pieces: "Callable[[Path, Sequence[str], _Complaints, int], Iterator[_Piece]]"
    unit: str = "line"
    head: int = 0  # lines before the first row


@dataclass
class _Complaints:
    """What is done about malformed lines, and how many there were."""

    source: "_Source"
    skip_bad: bool
    skipped: int = 0
    first: str = ""

    def refuse(self, line: int, reason: str, n_lines: int = 1) -> None:
        message = f"{self.source.path}, {self.source.unit} {line}: {reason}"
        if not self.skip_bad:
            raise MalformedLine(message)
        self.first = self.first or message
        self.skipped += n_lines

    def nothing_left(self) -> str:
        if self.skipped:
            return f"has no rows left without its {self.skipped} malformed lines: {self.first}"
        return "has no rows"


@dataclass(frozen=True)
class _Source:
    """A file, and which of its columns plays which role."""

    path: Path
    format: _Format
    names: Mapping[str, str]  # role -> column
    n_lines: int
    at_once: int
    threshold: float | None

    @classmethod
    def opened(cls, path: Path, columns: Mapping[str, str], threshold: float | None) -> "_Source":
        with path.open("rb"):  # refuses what is not there, or is a directory
            size = path.stat().st_size
        if not path.is_file():
            raise UnreadableLog(f"{path} is not a regular file; save it first: it is read twice")
        if not size:
            raise UnreadableLog(f"{path} is empty")
        kind = _format_of(path)
        with _damage_named(path):
            n_lines = kind.count(path)
            names = _roles(path, kind.found(path), columns, threshold)
        at_once = min(ROWS_AT_ONCE, 1 + BYTES_AT_ONCE * n_lines // size)
        return cls(path, kind, names, n_lines, at_once, threshold)

    @property
    def unit(self) -> str:
        return self.format.unit

    @property
    def prompts(self) -> bool:
        return "prompt" in self.names

    def parts(self, complaints: _Complaints, shown: Bar | None) -> Iterator[_Part]:
        """Read the file; each part has at least one row."""
        rows = line = 0
        with _damage_named(self.path):
            names = list(self.names.values())
            for piece in self.format.pieces(self.path, names, complaints, self.at_once):
                if piece.lines.size:
                    part = self._understood(piece, complaints, rows)
                    if part.lines.size:
                        yield part
                    rows += part.lines.size
                    if shown is not None:
                        shown.update(int(piece.lines[-1]) - line)
                    line = int(piece.lines[-1])
        if shown is not None:
            shown.update(self.n_lines - line)

    def _understood(self, piece: _Piece, complaints: _Complaints, rows_before: int) -> _Part:
        read: dict[str, Any] = {}
        reasons: dict[int, str] = {}
        for role, values in zip(self.names, piece.columns, strict=True):
            read[role], wrong = _READ[role](values.different, self.names[role])
            for k, reason in wrong.items():
                for row in np.flatnonzero(values.code == k).tolist():
                    reasons.setdefault(row, reason)
        for row in sorted(reasons):
            complaints.refuse(int(piece.lines[row]), reasons[row])
        if reasons:
            kept = np.delete(np.arange(piece.lines.size), list(reasons))
            good = _Piece([values.at(kept) for values in piece.columns], piece.lines[kept])
            return self._understood(good, complaints, rows_before)
        codes = {role: v.code for role, v in zip(self.names, piece.columns, strict=True)}
        n = piece.lines.size
        state, action = ("prompt", "sample") if self.prompts else ("state", "action")
        if self.prompts:
            names, episode = [], np.arange(n)
            keys = keys_of_numbers(np.arange(rows_before, rows_before + n))
        else:
            names, episode = read["episode"], codes["episode"]
            keys = keys_of(names)
        success: NDArray[np.bool_] | None = None
        returns: NDArray[np.float64] | None = None
        if "success" in read:
            success = np.array(read["success"], np.bool_)[codes["success"]]
        if "return" in read:
            returns = np.array(read["return"], np.float64)[codes["return"]]
        if self.threshold is not None and returns is not None:
            success = returns >= self.threshold
        place = piece.lines - self.format.head - 1
        block = Block(
            keys,
            episode,
            Column(read[state], codes[state]),
            Column(read[action], codes[action]),
            success,
            returns,
            2 * place >= self.n_lines - self.format.head,
        )
        return _Part(block, piece.lines, names)


def _format_of(path: Path) -> _Format:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    ending = "".join(suffixes[-2:-1] if packed else suffixes[-1:])
    if ending in _FORMATS and not (packed and ending in (".parquet", ".pq")):
        return _FORMATS[ending]
    raise UnreadableLog(
        f"{path} must end in .csv, .tsv, .jsonl or .ndjson (each also with .gz), or in .parquet"
    )


def _roles(
    path: Path, found: list[str], columns: Mapping[str, str], threshold: float | None
) -> dict[str, str]:
    """Return the column of each role that the log has."""
    unknown = set(columns) - set(_READ)
    if unknown:
        raise ValueError(f"columns must name some of {', '.join(_READ)}, got {min(unknown)!r}")
    decisions, answers = {"episode", "state", "action"}, {"prompt", "sample"}
    named = set(columns)
    prompts = bool(named & answers) or (
        not named & decisions and "prompt" in found and "state" not in found
    )
    if named & answers and named & decisions:
        raise UnreadableLog(
            f"{path}: a log has either episode, state and action, or prompt and sample; columns "
            f"were named for {', '.join(sorted(named - {'success', 'return'}))}"
        )
    needed = ["prompt", "sample"] if prompts else ["episode", "state", "action"]
    if threshold is not None:
        needed.append("return")
    else:
        needed += [r for r in ("success", "return") if r in columns or r in found]
    names = {role: columns.get(role, role) for role in needed}
    listed = ", ".join(map(repr, found[:20])) + (", ..." if len(found) > 20 else "")
    for role, name in names.items():
        if name not in found:
            raise UnreadableLog(
                f"{path} has no column {name!r}; its columns are {listed}. "
                f"Name yours: --{role} COLUMN (in Python, columns={{{role!r}: 'COLUMN'}})"
            )
        if found.count(name) > 1:
            raise UnreadableLog(f"{path} has {found.count(name)} columns {name!r}: {listed}")
    if not {"success", "return"} & set(names):
        raise UnreadableLog(
            f"{path} has neither a column 'success' nor 'return'; its columns are {listed}. "
            f"Name yours: --success COLUMN (in Python, columns={{'success': 'COLUMN'}})"
        )
    return names


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into a message."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableLog(f"{path} is a damaged or truncated gzip archive: {error}") from None


# Values


class _Wrong(Exception):
    """A value that cannot be understood."""


def _labels(values: list[Any], name: str) -> tuple[list[str], dict[int, str]]:
    """Return values as labels, and what is wrong with some of them."""
    kinds = set(map(type, values))
    if kinds == {int}:
        return list(map(str, values)), {}
    if kinds == {str}:
        joined, lengths = "".join(values), list(map(len, values))
        plain = joined.isascii() and "\0" not in joined
        if plain and 0 < min(lengths) and max(lengths) <= LONGEST_LABEL:
            return values, {}
    return _each(_label, values, name, "")


def _answers(values: list[Any], name: str) -> tuple[list[str], dict[int, str]]:
    """Return answers as labels; an answer may be empty."""
    return _each(lambda value: "" if value == "" else _label(value), values, name, "")


def _successes(values: list[Any], name: str) -> tuple[list[bool], dict[int, str]]:
    return _each(_success, values, name, False)


def _returns(values: list[Any], name: str) -> tuple[list[float], dict[int, str]]:
    return _each(_return, values, name, 0.0)


def _each(
    read: Callable[[Any], Any], values: list[Any], name: str, blank: Any
) -> tuple[list[Any], dict[int, str]]:
    out, wrong = [], {}
    for k, value in enumerate(values):
        try:
            out.append(read(value))
        except _Wrong as reason:
            out.append(blank)
            wrong[k] = f"{name} {reason}"
    return out, wrong


_READ: dict[str, Callable[[list[Any], str], tuple[list[Any], dict[int, str]]]] = {
    "episode": _labels,
    "state": _labels,
    "action": _labels,
    "prompt": _labels,
    "sample": _answers,
    "success": _successes,
    "return": _returns,
}


def _label(value: Any) -> str:
    text = _plain(value)
    if not text:
        raise _Wrong("is empty")
    if "\0" in text:
        raise _Wrong(f"holds a NUL character: {_shown(value)}")
    try:
        bytes_ = text.encode()
    except UnicodeEncodeError:
        raise _Wrong(f"is not UTF-8: {_shown(value)}") from None
    if len(text) <= LONGEST_LABEL:
        return text
    return f"{text[: LONGEST_LABEL - 21]}... #{blake2b(bytes_, digest_size=8).hexdigest()}"


def _plain(value: Any) -> str:
    """Write a value as a text file has it."""
    if isinstance(value, str):
        return value
    if value is None:
        raise _Wrong("is null")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not isfinite(value):
        raise _Wrong(f"must be finite, got {value}")
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, list | dict | tuple):
        raise _Wrong(f"must be text or a number, got {_shown(value)}")
    return str(value)


def _success(value: Any) -> bool:
    text = _plain(value)
    outcome = OUTCOMES.get(text.strip().lower())
    if outcome is None:
        hint = "; a graded outcome is a return" if _is_number(text) else ""
        raise _Wrong(f"must be 0 or 1 (true or false, yes or no), got {_shown(value)}{hint}")
    return outcome


def _return(value: Any) -> float:
    text = _plain(value)
    if isinstance(value, bool) or not _is_number(text):
        raise _Wrong(f"must be a number, got {_shown(value)}")
    number = float(text)
    if not isfinite(number):
        raise _Wrong(f"must be finite, got {_shown(value)}")
    return number


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _shown(value: Any) -> str:
    if isinstance(value, str):  # bytes that are no UTF-8 have come as surrogates
        value = (
            value.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
            if not _surrogates(value)
            else value.encode("utf-8", "surrogateescape")
        )
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}... ({len(text)} characters)"


def _surrogates(text: str) -> bool:
    return any("\udc80" <= c <= "\udcff" for c in text) and not any(
        "\ud800" <= c < "\udc80" or "\udcff" < c <= "\udfff" for c in text
    )


# Text


def _opened(path: Path) -> IO[bytes]:
    packed = path.suffix.lower() == ".gz"
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _text(path: Path, newline: str) -> TextIOWrapper:
    """Open a text file; bytes that are no UTF-8 come as surrogates, to be complained of later."""
    return TextIOWrapper(_opened(path), "utf-8-sig", "surrogateescape", newline)


def _count_lines(path: Path) -> int:
    lines, last, returns = 0, b"", 0
    with _opened(path) as file:
        start = file.read(4)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UnreadableLog(f"{path} is encoded in UTF-16; save it as UTF-8")
        while block := start or file.read(2**16):
            lines, returns, start = lines + block.count(b"\n"), returns + block.count(b"\r"), b""
            last = block[-1:]
    lines = lines or returns
    return lines + (last not in (b"\n", b"\r", b""))


def _csv_reader(path: Path, file: TextIOWrapper) -> Any:
    with _text(path, "") as peeked:
        head = peeked.readline(10**6)
    delimiter = max(",;\t", key=head.count)
    return csv.reader(file, delimiter=delimiter, strict=True)


def _csv_found(path: Path) -> list[str]:
    try:
        with _text(path, "") as file:
            header: list[str] = next((row for row in _csv_reader(path, file) if row), [])
    except csv.Error as error:
        raise UnreadableLog(f"{path}, line 1: the header cannot be read: {error}") from None
    for name in header:
        if "\0" in name or _surrogates(name):
            raise UnreadableLog(f"{path} is not a text file in UTF-8: it begins {_shown(name)}")
    if not any(name.strip() for name in header):
        raise UnreadableLog(f"{path} has no header: its first line must name the columns")
    return [name.strip() for name in header]


def _csv_pieces(
    path: Path, names: Sequence[str], complaints: _Complaints, at_once: int
) -> Iterator[_Piece]:
    found = _csv_found(path)
    get = [itemgetter(found.index(name)) for name in names]
    with _text(path, "") as file:
        reader = _csv_reader(path, file)
        next(row for row in reader if row)
        trouble: csv.Error | None = None
        rows: list[list[str]] = [[]] * at_once
        while trouble or len(rows) == at_once:
            first, rows, trouble = reader.line_num + 1, [], None
            try:
                rows.extend(islice(reader, at_once))
            except csv.Error as error:
                trouble = error
            lines, following = _lines_of(rows, first, reader.line_num)
            good = _right_width(rows, lines, len(found), complaints)
            if good is not None:
                kept, lines = [rows[k] for k in good], lines[good]
            else:
                kept = rows
            yield _Piece([_Values.of(list(map(cell, kept))) for cell in get], lines)
            if trouble:
                lost = reader.line_num - following + 1
                complaints.refuse(following, f"cannot be read: {trouble}", lost)


def _lines_of(rows: list[list[str]], first: int, last: int) -> tuple[Integers, int]:
    """Return the line on which each row begins, and the next one after them."""
    if last - first + 1 == len(rows):
        return np.arange(first, last + 1), last + 1
    spans = [1 + sum(len(LINE_BREAK.findall(cell)) for cell in row) for row in rows]
    ends = first + np.cumsum([0, *spans])
    return ends[:-1], int(ends[-1])


def _right_width(
    rows: list[list[str]], lines: Integers, width: int, complaints: _Complaints
) -> NDArray[np.intp] | None:
    """Return which rows have as many fields as the header, None if all; blank lines are passed."""
    if set(map(len, rows)) <= {width}:
        return None
    for row, line in zip(rows, lines.tolist(), strict=True):
        if row and len(row) != width:
            complaints.refuse(line, f"the header has {width} fields, got {len(row)}")
    return np.array([k for k, row in enumerate(rows) if len(row) == width], np.intp)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let cells of a CSV file be long, such as a model's answers."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Let Python not look for cycles among a million rows that have none: it takes a third less."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            gc.enable()


_decode = json.JSONDecoder().decode


def _json_found(path: Path) -> list[str]:
    """Return the keys of the first object."""
    reason = ""
    with _text(path, "\n") as file:
        for line, text in enumerate(islice(file, 1000), start=1):
            if text.strip():
                try:
                    return list(_object(text))
                except _Wrong as wrong:
                    reason = reason or f", line {line}: {wrong}"
    if reason:
        raise MalformedLine(f"{path}{reason}")
    raise UnreadableLog(f"{path} has no rows")


def _object(text: str) -> dict[str, Any]:
    try:
        value = _decode(text.rstrip())
    except json.JSONDecodeError as error:
        raise _Wrong(
            f"not JSON ({error.msg}, column {error.colno}): {_shown(text.strip())}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"not to be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise _Wrong(f"must be a JSON object, such as {{...}}, got {_shown(text.strip())}")
    return value


def _json_pieces(
    path: Path, names: Sequence[str], complaints: _Complaints, at_once: int
) -> Iterator[_Piece]:
    get, first = [itemgetter(name) for name in names], 1
    with _text(path, "\n") as file:
        while texts := list(islice(file, at_once)):
            lines: Integers = np.arange(first, first + len(texts))
            first += len(texts)
            try:
                objects = list(map(_decode, texts))
                if set(map(type, objects)) != {dict}:
                    raise TypeError
                columns = [list(map(value, objects)) for value in get]
            except (ValueError, TypeError, KeyError, RecursionError):
                good = list(_good_objects(texts, lines.tolist(), names, complaints))
                lines = np.array([line for line, _ in good], np.intp)
                columns = [[value(row) for _, row in good] for value in get]
            yield _Piece(list(map(_Values.of, columns)), lines)


def _good_objects(
    texts: Iterable[str], lines: Iterable[int], names: Sequence[str], complaints: _Complaints
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Go through lines one by one, complaining of those that are no objects with all keys."""
    for text, line in zip(texts, lines, strict=True):
        if not text.strip():
            continue
        try:
            row = _object(text)
            for name in names:
                if name not in row:
                    raise _Wrong(f"the key {name!r} is missing, got {_shown(list(row))}")
        except _Wrong as reason:
            complaints.refuse(line, str(reason))
        else:
            yield line, row


# Parquet


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path}: reading Parquet needs pyarrow: pip install 'sc-utils[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UnreadableLog(f"{path} is not a readable Parquet file: {reason}") from None


def _parquet_found(path: Path) -> list[str]:
    with _parquet(path) as file:
        return [str(name) for name in file.schema_arrow.names]


def _parquet_count(path: Path) -> int:
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


def _parquet_pieces(
    path: Path, names: Sequence[str], complaints: _Complaints, at_once: int
) -> Iterator[_Piece]:
    with _parquet(path) as file:
        from pyarrow import types

        for name in names:
            kind = file.schema_arrow.field(name).type
            if types.is_nested(kind):
                raise UnreadableLog(f"{path}: column {name!r} must not be nested, got {kind}")
        row = 1
        for batch in file.iter_batches(at_once, columns=list(names)):
            columns = [_arrow_values(batch.column(name)) for name in names]
            yield _Piece(columns, np.arange(row, row + batch.num_rows))
            row += batch.num_rows


def _arrow_values(column: Any) -> _Values:
    if hasattr(column, "dictionary"):  # whose order is not that of appearance
        column = column.dictionary_decode()
    encoded = column.dictionary_encode()
    different = encoded.dictionary.to_pylist()
    if column.null_count:
        return _Values([*different, None], encoded.indices.fill_null(len(different)).to_numpy())
    return _Values(different, encoded.indices.to_numpy().astype(np.intp))


_CSV = _Format(_csv_found, _count_lines, _csv_pieces, head=1)
_JSON = _Format(_json_found, _count_lines, _json_pieces)
_PARQUET = _Format(_parquet_found, _parquet_count, _parquet_pieces, unit="row")
_FORMATS = {
    ".csv": _CSV, ".tsv": _CSV,
    ".jsonl": _JSON, ".ndjson": _JSON,
    ".parquet": _PARQUET, ".pq": _PARQUET,
}  # fmt: skip
