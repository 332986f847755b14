"""Logs in files: every format gives the tally of the log itself, and says what is wrong where."""

import csv
import gc
import gzip
import io
import json
import re
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from sc_utils import readers, tallies
from sc_utils.logs import Log
from sc_utils.readers import MalformedLine, UnreadableLog, read_tally
from sc_utils.tallies import Tally
from tests.strategies import logs_with_returns

HEAD = "episode,state,action,success\n"
ROW = {"episode": 1, "state": "s", "action": "a", "success": True}


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def columns_of(log, returns=None):
    columns = {name: getattr(log, name).tolist() for name in vars(log)}
    return columns if returns is None else columns | {"return": returns.tolist()}


def as_csv(columns):
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def as_json(columns):
    rows = zip(*columns.values(), strict=True)
    return "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows).encode()


def as_parquet(columns):
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file, row_group_size=5)
    return file.getvalue()


def as_categories(columns):
    table = pa.table(columns)
    state = table["state"].cast(pa.string()).combine_chunks()
    labels = pa.array([*sorted(set(state.to_pylist()), reverse=True), "unused"])
    codes = pa.array([labels.to_pylist().index(s) for s in state.to_pylist()])
    coded = table.set_column(
        table.schema.get_field_index("state"),
        "state",
        pa.DictionaryArray.from_arrays(codes, labels),
    )
    file = io.BytesIO()
    parquet.write_table(coded, file)
    return file.getvalue()


FORMATS = {
    "log.csv": as_csv,
    "log.CSV.gz": lambda c: gzip.compress(as_csv(c)),
    "log.tsv": lambda c: as_csv(c).replace(b",", b"\t"),
    "semicolons.csv": lambda c: as_csv(c).replace(b",", b";"),
    "bom.csv": lambda c: b"\xef\xbb\xbf" + as_csv(c),
    "unix.csv": lambda c: as_csv(c).replace(b"\r\n", b"\n"),
    "cut.csv": lambda c: as_csv(c).removesuffix(b"\r\n"),
    "log.jsonl": as_json,
    "log.ndjson.gz": lambda c: gzip.compress(as_json(c)),
    "crlf.jsonl": lambda c: as_json(c).replace(b"\n", b"\r\n"),
    "log.parquet": as_parquet,
    "categories.pq": as_categories,
}


def assert_same(ours, theirs):
    for name in vars(theirs):
        a, b = vars(ours)[name], vars(theirs)[name]
        if isinstance(b, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            assert a == b, name


# Identities: a log that is written and read is the log


@pytest.mark.parametrize("name", FORMATS)
@given(drawn=logs_with_returns(), at_once=st.sampled_from([1, 3, 65_536]))
def test_every_format_gives_the_tally_of_the_log(tmp_path_factory, name, drawn, at_once):
    log, returns = drawn
    folder = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "ROWS_AT_ONCE", at_once)
        path = write(folder / name, FORMATS[name](columns_of(log)))
        assert_same(read_tally(path), Tally.from_log(log))
        path = write(folder / name, FORMATS[name](columns_of(log, returns)))
        assert_same(read_tally(path), Tally.from_log(log, returns))
        won = Log(log.episode, log.state, log.action, returns >= 0.1)
        assert_same(read_tally(path, threshold=0.1), Tally.from_log(won, returns))


@given(drawn=logs_with_returns(), data=st.data())
def test_the_rows_of_an_episode_may_be_apart(tmp_path_factory, drawn, data):
    log, _ = drawn
    order = data.draw(st.permutations(range(log.state.size)))
    columns = {k: np.array(v)[order].tolist() for k, v in columns_of(log).items()}
    tally = read_tally(write(tmp_path_factory.mktemp("logs") / "a.csv", as_csv(columns)))
    whole = Tally.from_log(log)
    half = tallies.GROUPS // 2
    fold = lambda x: x[:half] + x[half:]  # noqa: E731
    np.testing.assert_array_equal(fold(tally.episodes), fold(whole.episodes))
    s, a = np.array(tally.states, int)[tally.state], np.array(tally.actions, int)[tally.action]
    place = np.lexsort((a, s))
    s, a = np.array(whole.states, int)[whole.state], np.array(whole.actions, int)[whole.action]
    np.testing.assert_array_equal(
        fold(tally.counts)[:, place], fold(whole.counts)[:, np.lexsort((a, s))]
    )


def test_an_episode_belongs_to_the_half_in_which_it_begins(tmp_path):
    rows = [f"{e},s,a,1" for e in (0, 0, 0, 1, 0, 0, 2, 1)]
    tally = read_tally(write(tmp_path / "a.csv", HEAD + "\n".join(rows)))
    assert tally.episodes[:32].sum() == 2
    assert tally.counts[:32].sum() == 7


def test_a_return_alone_is_scaled(tmp_path):
    text = "episode,state,action,return\n1,s,a,-1\n2,s,a,1\n3,s,b,3\n"
    tally = read_tally(write(tmp_path / "a.csv", text))
    assert tally.success.tolist() == [0, 0.5, 1]
    assert tally.returns.tolist() == [-1, 1, 3]


# Prompts


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_each_answer_to_a_prompt_is_an_episode(tmp_path, kind):
    columns = {
        "prompt": ["2+2", "2+2", "a\nb", "2+2"],
        "sample": ["4", "", 'é, "4"\r\nx', "4"],
        "success": [True, False, False, True],
    }
    make = {".csv": as_csv, ".jsonl": as_json, ".parquet": as_parquet}[kind]
    tally = read_tally(write(tmp_path / f"p{kind}", make(columns)))
    assert tally.states == ("2+2", "a\nb")
    assert tally.actions == ("4", "", 'é, "4"\r\nx')
    assert tally.single
    assert tally.episodes.sum() == 4
    log = Log(np.arange(4), [0, 0, 1, 0], [0, 1, 2, 0], columns["success"])
    np.testing.assert_array_equal(tally.counts.sum(axis=0), Tally.from_log(log).counts.sum(axis=0))


def test_columns_are_named(tmp_path):
    path = write(tmp_path / "a.csv", "question;answer;ok;prompt\nq;a;yes;z\nq;b;No;z\n")
    tally = read_tally(path, columns={"prompt": "question", "sample": "answer", "success": "ok"})
    assert (tally.states, tally.actions) == (("q",), ("a", "b"))


def test_long_answers_are_cut_and_told_apart(tmp_path):
    answers = ["x" * 100_000 + end for end in "ab"] + ["y" * 200_000]
    columns = {"prompt": ["q"] * 3, "sample": answers, "success": [1, 0, 1]}
    tally = read_tally(write(tmp_path / "a.csv", as_csv(columns)))
    assert len(set(tally.actions)) == 3
    assert max(map(len, tally.actions)) <= readers.LONGEST_LABEL


@pytest.mark.parametrize(
    "word", ["1", "1.0", "true", "True", " TRUE ", "yes", "0", "0.0", "false", "False", "no", "No"]
)
def test_words_for_success(tmp_path, word):
    tally = read_tally(write(tmp_path / "a.csv", f"{HEAD}1,s,a,{word}\n"))
    won = word.strip().lower() in ("1", "1.0", "true", "yes")
    assert tally.episodes.sum(axis=0).tolist() == ([0, 1] if won else [1, 0])


def test_values_that_python_takes_for_equal_stay_apart(tmp_path):
    rows = [ROW | {"episode": k, "state": v} for k, v in enumerate([1, 1.0, True, "1", "true"])]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert read_tally(write(tmp_path / "a.jsonl", text)).states == ("1", "1.0", "true")


# Malformed lines

CSV_LINES = [
    ("2,s,a,maybe", "success must be 0 or 1 (true or false, yes or no), got 'maybe'"),
    ("2,s,a,0.7", "got '0.7'; a graded outcome is a return"),
    ("2,s,a,", "success must be 0 or 1 (true or false, yes or no), got ''"),
    ("2,s,a,nan", "success must be 0 or 1 (true or false, yes or no), got 'nan'"),
    ("2,s,a", "the header has 4 fields, got 3"),
    ("2,s,a,1,1", "the header has 4 fields, got 5"),
    (",s,a,1", "episode is empty"),
    ("2,,a,1", "state is empty"),
    ("2,s,,1", "action is empty"),
    (b"2,caf\xe9,a,1", r"state is not UTF-8: b'caf\xe9'"),
    ("2,s\0,a,1", r"state holds a NUL character: 's\x00'"),
    ('2,"s"s,a,1', "cannot be read: ',' expected after '\"'"),
]
JSON_LINES = [
    ("[1, 2]", "must be a JSON object, such as {...}, got '[1, 2]'"),
    ("3", "must be a JSON object, such as {...}, got '3'"),
    ('{"episode": 1', "not JSON (Expecting ',' delimiter, column 14)"),
    ("{} {}", "not JSON (Extra data, column 4)"),
    ("[" * 100_000, "not to be read as JSON: maximum recursion depth exceeded"),
    (json.dumps({"episode": 1, "action": 2, "success": 1}), "the key 'state' is missing, got"),
    (json.dumps(ROW | {"state": None}), "state is null"),
    (json.dumps(ROW | {"state": [1, 2]}), "state must be text or a number, got [1, 2]"),
    (json.dumps(ROW | {"action": {"x": 1}}), "action must be text or a number, got {'x': 1}"),
    (json.dumps(ROW | {"state": float("nan")}), "state must be finite, got nan"),
    (json.dumps(ROW | {"success": None}), "success is null"),
    (json.dumps(ROW | {"success": 2}), "success must be 0 or 1 (true or false, yes or no), got 2"),
    (json.dumps(ROW | {"success": 0.5}), "got 0.5; a graded outcome is a return"),
    (json.dumps(ROW | {"state": "\ud800"}), r"state is not UTF-8"),
    (b'{"episode": 1, "state": "\xff", "action": 1, "success": 1}', r"not UTF-8: b'\xff'"),
]


@pytest.mark.parametrize("at_once", [1, 2, 65_536])
@pytest.mark.parametrize(
    ("kind", "line", "reason"),
    [(".csv", *case) for case in CSV_LINES] + [(".jsonl", *case) for case in JSON_LINES],
)
def test_a_malformed_line_is_refused_or_skipped(tmp_path, monkeypatch, kind, line, reason, at_once):
    monkeypatch.setattr(readers, "ROWS_AT_ONCE", at_once)
    line = line if isinstance(line, bytes) else line.encode()
    good = [json.dumps(ROW | {"episode": k}).encode() for k in range(3)]
    if kind == ".csv":
        good = [b"%d,s,a,1" % k for k in range(3)]
    head = [HEAD.strip().encode()] if kind == ".csv" else []
    lines = [*head, good[0], b"", line, good[1], line, good[2]]
    path = write(tmp_path / f"bad{kind}", b"\n".join(lines))
    with pytest.raises(MalformedLine) as caught:
        read_tally(path)
    assert str(caught.value).startswith(f"{path}, line {len(head) + 3}: ")
    assert reason in str(caught.value)
    tally = read_tally(path, skip_bad=True)
    assert (tally.skipped, tally.episodes.sum()) == (2, 3)
    assert tally.states == ("s",)


def test_line_numbers_allow_for_line_breaks_in_quotes(tmp_path):
    text = HEAD + '1,"a\nb",x,1\n2,"a\r\nb",x,1\n\n3,c,x,maybe\n'
    with pytest.raises(MalformedLine, match="line 7: success"):
        read_tally(write(tmp_path / "a.csv", text))


def test_a_quote_that_is_never_closed(tmp_path):
    path = write(tmp_path / "a.csv", HEAD + '1,s,a,1\n2,s,"a,1\n3,s,a,1\n4,s,a,1\n')
    with pytest.raises(MalformedLine, match="line 3: cannot be read: unexpected end of data"):
        read_tally(path)
    assert read_tally(path, skip_bad=True).skipped == 3  # all that the quote has swallowed


def test_what_is_skipped_leaves_no_trace(tmp_path):
    path = write(tmp_path / "a.csv", HEAD + "1,odd,b,maybe\n2,s,a,1\n3,s,b,0\n")
    tally = read_tally(path, skip_bad=True)
    assert (tally.states, tally.actions) == (("s",), ("a", "b"))


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1_0", "x", ""])
def test_a_return_is_a_finite_number(tmp_path, value):
    path = write(tmp_path / "a.csv", f"episode,state,action,return\n1,s,a,0\n2,s,a,{value}\n")
    with pytest.raises(MalformedLine, match=f"line 3: return must be .*{value!r}"):
        read_tally(path)
    write(path, f"episode,state,action,return\n1,s,a,0\n2,s,a,{value}\n3,s,a,1\n")
    tally = read_tally(path, skip_bad=True)
    assert (tally.skipped, tally.episodes.sum()) == (1, 2)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array(["s", None]), "row 2: state is null"),
        (pa.array([0.0, float("nan")]), "row 2: state must be finite, got nan"),
        (pa.array([b"s", b"\xff"]), "row 2: state is not UTF-8"),
        (pa.array([[1], [2]]), "column 'state' must not be nested, got list<"),
    ],
)
def test_parquet_rows_that_say_nothing(tmp_path, column, reason):
    table = pa.table({"episode": [1, 2], "state": column, "action": [0, 0], "success": [1, 1]})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UnreadableLog, match=re.escape(reason)):
        read_tally(tmp_path / "a.parquet")


# Episodes with two outcomes


@pytest.mark.parametrize("at_once", [1, 65_536])
@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("head", "ends", "message"),
    [
        ("success", "10", "episode '7' has two outcomes: it succeeds (line 3) and fails (line 5)"),
        ("return", "12", "it has the return 1.0 (line 3) and has the return 2.0 (line 5)"),
    ],
)
def test_an_episode_with_two_outcomes_is_refused(
    tmp_path, monkeypatch, head, ends, message, skip_bad, at_once
):
    monkeypatch.setattr(readers, "ROWS_AT_ONCE", at_once)
    text = f"episode,state,action,{head}\n1,s,a,1\n7,s,a,{ends[0]}\n2,s,a,0\n7,s,a,{ends[1]}\n"
    with pytest.raises(UnreadableLog, match=re.escape(message)):
        read_tally(write(tmp_path / "a.csv", text), skip_bad=skip_bad)


# Files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.jsonl", b"\n\n", "a.jsonl has no rows"),
        ("a.csv", b"\n\n", "has no header"),
        ("a.csv", HEAD.encode(), "a.csv has no rows"),
        ("a.csv", b"ep,obs\n1,2\n", "no column 'episode'; its columns are 'ep', 'obs'. Name yours"),
        ("a.csv", b"episode,state,action\n1,2,3\n", "neither a column 'success' nor 'return'"),
        ("a.csv", b"episode,state,state,action,success\n1,2,3,4,1\n", "has 2 columns 'state'"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0", "is not a text file in UTF-8"),
        ("a.csv", HEAD.encode("utf-16"), "is encoded in UTF-16; save it as UTF-8"),
        ("a.jsonl", b"\x80\x02}q\0", "line 1: not JSON"),
        ("a.jsonl", b"[\n" + json.dumps(ROW).encode() + b"\n]\n", "a.jsonl, line 1: not JSON"),
        ("a.csv.gz", HEAD.encode(), "is a damaged or truncated gzip archive"),
        ("a.csv.gz", gzip.compress(HEAD.encode() * 99)[:-12], "truncated gzip archive"),
        ("a.parquet", b"PAR1 but not really", "is not a readable Parquet file"),
        ("a.parquet", as_parquet({k: [v] for k, v in ROW.items()})[:-20], "readable Parquet file"),
        ("a.txt", b"x", "a.txt must end in .csv, .tsv"),
        ("a", b"x", "a must end in .csv, .tsv"),
        ("a.parquet.gz", b"x", "must end in .csv, .tsv"),
        ("a.csv", (HEAD + "1,s,a,x\n2,s,a,x\n").encode(), "line 2: success"),
        (
            "a.csv",
            b"episode,state,action,return\n1,s,a,2\n2,s,a,2\n",
            "all episodes have the same return, 2: none is better than another; name a threshold",
        ),
    ],
)
def test_a_file_that_is_no_log_is_refused(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(UnreadableLog, match=re.escape(message)) as caught:
        read_tally(path)
    assert str(path) in str(caught.value)


def test_nothing_left(tmp_path):
    path = write(tmp_path / "a.csv", HEAD + "1,s,a,x\n2,s,a,x\n")
    message = f"{path} has no rows left without its 2 malformed lines: {path}, line 2: success"
    with pytest.raises(UnreadableLog, match=re.escape(message)):
        read_tally(path, skip_bad=True)


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_tally(tmp_path / "a.csv")
    with pytest.raises(IsADirectoryError):
        read_tally(tmp_path)


def test_a_threshold_needs_returns(tmp_path):
    with pytest.raises(UnreadableLog, match="no column 'return'"):
        read_tally(write(tmp_path / "a.csv", HEAD + "1,s,a,1\n"), threshold=1.0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"reward": "x"}, "columns must name some of episode, state, .*got 'reward'"),
        ({"prompt": "x", "state": "y"}, "columns were named for prompt, state"),
        ({"success": "won"}, "no column 'won'"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        read_tally(write(tmp_path / "a.csv", HEAD + "1,s,a,1\n"), columns=columns)


def test_too_many_states_name_the_column(tmp_path, monkeypatch):
    monkeypatch.setattr(tallies, "MOST_CELLS", 50 * tallies.GROUPS * 2)
    text = HEAD + "".join(f"{k},{k},a,1\n" for k in range(60))
    with pytest.raises(UnreadableLog, match="more than 50 different states.*'state' the right"):
        read_tally(write(tmp_path / "a.csv", text))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    message = "needs pyarrow: pip install 'sc-utils[parquet]'"
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
        read_tally(write(tmp_path / "a.parquet", b"PAR1"))


@pytest.mark.parametrize("end", ["1", "maybe"])
def test_the_settings_of_python_are_left_as_they_were(tmp_path, end):
    before = csv.field_size_limit()
    with suppress(MalformedLine):
        read_tally(write(tmp_path / "a.csv", f"{HEAD}1,s,a,{end}\n"))
    assert csv.field_size_limit() == before
    assert gc.isenabled()


# Memory


def peak(path: Path) -> int:
    tracemalloc.start()
    read_tally(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(readers, "ROWS_AT_ONCE", 1000)
    head = HEAD if kind == ".csv" else ""
    row = "7,{k},a,1\n" if kind == ".csv" else json.dumps(ROW).replace('"s"', "{k}") + "\n"
    piece = "".join(row.replace("{k}", str(k % 20)) for k in range(4000))
    small = write(tmp_path / f"small{kind}", head + piece * 3)
    large = write(tmp_path / f"large{kind}", head + piece * 24)
    peak(small)  # what is imported and cached is not counted
    assert peak(large) < 1.2 * peak(small)
