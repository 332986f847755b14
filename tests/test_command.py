"""The command: a log in, a report out; bad input is one line on standard error and exit code 2."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios

import numpy as np
import pytest

import sc_utils.__main__ as command
from sc_utils import progress, readers
from sc_utils.__main__ import main
from sc_utils.environments import bandit
from sc_utils.sampling import sample_log

HEAD = "episode,state,action,success\n"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    rows = sample_log(bandit([0.2, 0.8]), [[0.5, 0.5]], 400, rng=np.random.default_rng(1))
    columns = zip(rows.episode, rows.state, rows.action, rows.success, strict=True)
    path = tmp_path_factory.mktemp("logs") / "log.csv"
    path.write_text(HEAD + "".join(f"{e},{s},{a},{int(ok)}\n" for e, s, a, ok in columns))
    return path


def run(*arguments, **settings):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sc_utils", *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=300, **settings,
    )  # fmt: skip


def test_a_report_as_a_reader_gets_it(log, tmp_path):
    page = tmp_path / "report.html"
    done = run("report", log, "--html", page)
    assert (done.returncode, done.stderr) == (0, "")
    assert "400 episodes, 400 decisions, 1 state" in done.stdout
    assert page.read_text("utf-8").lstrip().lower().startswith("<!doctype html>")


def test_the_hash_seed_does_not_matter(log):
    outputs = {
        run("report", log, env=os.environ | {"PYTHONHASHSEED": seed}).stdout for seed in "12"
    }
    assert len(outputs) == 1


def test_bad_input_is_one_line_and_code_2(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(HEAD + "1,s,a,1\n2,s,a,maybe\n")
    done = run("report", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {path}, line 3: success must be 0 or 1 (true or false, yes or no), got 'maybe'\n"
    )


def test_a_reader_who_leaves_early(log):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        process = subprocess.run(
            [sys.executable, "-m", "sc_utils", "report", str(log)],
            check=False, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=300,
        )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")


def test_an_interrupt(tmp_path, monkeypatch, capsys):
    def interrupted(*_args, **_kwargs):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command, "read_tally", interrupted)
    assert main(["report", "a.csv"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


# In this process


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "missing.csv: No such file or directory"),
        ("", None, ": Is a directory"),
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", HEAD.encode(), "a.csv has no rows"),
        ("a.csv", b"ep,success\n1,1\n", "no column 'episode'; its columns are 'ep', 'success'"),
        ("a.csv", bytes(range(256)), "not a text file in UTF-8"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00", "truncated gzip"),
        ("a.parquet", b"PAR1", "not a readable Parquet file"),
        ("a.jsonl", b"{}{", "a.jsonl, line 1: not JSON"),
    ],
)
def test_what_cannot_be_read(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert main(["report", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_bad_lines_are_skipped_and_counted(tmp_path, capsys, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text(HEAD + "1,s,a,1\n2,s,a,maybe\n3,s\n4,s,b,0\n")
    seen = []
    monkeypatch.setattr(
        command, "diagnose", lambda tally, **_: seen.append(tally) or diagnose(tally)
    )
    from sc_utils.diagnosis import diagnose

    assert main(["report", str(path), "--skip-bad"]) == 0
    assert seen[0].skipped == 2
    assert re.search(r"\b2\b.*\bskipped|\bskipped\b.*\b2\b|2 .*lines", capsys.readouterr().out)


def test_options_reach_those_whom_they_concern(tmp_path, monkeypatch, capsys):
    calls = {}
    monkeypatch.setattr(command, "read_tally", lambda path, **k: calls.update(k, path=path) or 7)
    monkeypatch.setattr(command, "diagnose", lambda tally, **k: calls.update(k, tally=tally) or 8)
    monkeypatch.setattr(command, "as_text", lambda diagnosis: f"text of {diagnosis}")
    monkeypatch.setattr(command, "as_html", lambda diagnosis: f"page of {diagnosis}")
    page = tmp_path / "p.html"
    options = ["--threshold", "-1.5", "--confidence", "0.9", "--html", str(page)]
    roles = ("episode", "state", "action", "success", "return", "prompt", "sample")
    named = [word for role in roles for word in (f"--{role}", f"my {role}")]
    assert main(["report", "x.csv", *options, *named]) == 0
    assert capsys.readouterr().out == "text of 8"
    assert page.read_text() == "page of 8"
    assert (calls["threshold"], calls["confidence"], calls["tally"]) == (-1.5, 0.9, 7)
    assert calls["columns"] == {role: f"my {role}" for role in roles}
    assert calls["skip_bad"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "COMMAND"),
        (["report"], "LOG"),
        (["report", "a.csv", "--threshold", "nan"], "must be a finite number, got nan"),
        (["report", "a.csv", "--threshold", "x"], "--threshold"),
        (["report", "a.csv", "--confidence", "95"], "must lie between 0 and 1, got 95"),
    ],
)
def test_options_that_make_no_sense(capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        main(options)
    assert message in capsys.readouterr().err


def test_where_no_page_can_be_written_it_is_said_before_reading(log, tmp_path, capsys):
    assert main(["report", str(log), "--html", str(tmp_path / "no" / "p.html")]) == 2
    assert capsys.readouterr() == ("", f"error: {tmp_path / 'no'}: no such directory\n")


@pytest.mark.parametrize("arguments", [["--help"], ["report", "--help"]])
def test_the_help(capsys, arguments):
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    if len(arguments) > 1:
        for word in ("--skip-bad", "examples:", "episode,state,action,success", "exit codes"):
            assert word in text


def test_the_example_of_the_help_is_a_log(tmp_path):
    text = re.sub(r"(?m)^  ", "", command.EXAMPLE)
    csv_text = re.search(r"episode,state.*?\n\n", text, re.DOTALL)
    json_text = re.search(r"\{.*\}", text)
    assert csv_text
    assert json_text
    (tmp_path / "a.csv").write_text(csv_text.group())
    (tmp_path / "a.jsonl").write_text(json_text.group())
    assert readers.read_tally(tmp_path / "a.csv").episodes.sum() == 2
    assert readers.read_tally(tmp_path / "a.jsonl").single


# Progress


def test_a_bar_in_a_terminal_and_none_elsewhere(log, monkeypatch, capfd):
    monkeypatch.setattr(progress, "SECONDS_WITHOUT_BAR", 0.0)
    readers.read_tally(log)
    assert capfd.readouterr().err == ""
    screen, keyboard = pty.openpty()
    termios.tcsetwinsize(screen, (24, 80))
    with os.fdopen(keyboard, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        readers.read_tally(log)
        terminal.flush()
        shown = ""
        while select.select([screen], [], [], 0.5)[0]:
            shown += os.read(screen, 10_000).decode()
    os.close(screen)
    assert "line" in shown
    assert "100%" in shown
