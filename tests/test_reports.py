"""A report says what the diagnosis says, within 80 columns; its page is safe and needs nothing."""

import dataclasses
import itertools
import math
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from sc_utils import figures
from sc_utils.diagnosis import (
    Caution,
    Choice,
    Diagnosis,
    Estimate,
    StateReport,
    ThresholdReport,
    diagnose,
)
from sc_utils.logs import Log
from sc_utils.reports import as_html, as_text
from sc_utils.tallies import Tally

NAN = math.nan
UNKNOWN = Estimate(NAN, 0.0, math.inf)


def state(name: str, value: float = 0.2) -> StateReport:
    return StateReport(name, 1200, 0.25, Estimate(value, value - 0.05, value + 0.1), 0.0312)


def step(threshold: float, alignment: Estimate | None = None) -> ThresholdReport:
    found = alignment or Estimate(0.9, 0.8, 0.95)
    return ThresholdReport(
        threshold, 0.5, Estimate(0.2, 0.1, 0.3), 1.5, found, Estimate(0.03, 0.01, 0.05)
    )


PLAIN = Diagnosis(
    episodes=1200,
    decisions=3400,
    skipped=0,
    n_states=2,
    n_actions=3,
    single=False,
    graded=False,
    confidence=0.95,
    success_rate=Estimate(0.25, 0.2256, 0.2755),
    influence=Estimate(0.2, 0.12, 0.29),
    p_value=0.0004,
    detectable=True,
    judged=1.0,
    pooled=Estimate(0.3, 0.28, 0.324),
    balanced=None,
    floor=Estimate(0.27, 0.26, 0.28),
    deterministic=None,
    mean_return=None,
    states=(state("left"), state("right", 0.1)),
    sweep=(),
    best=None,
    needed=((0.1, 4100), (0.2, 1020)),
    cautions=(Caution("drift", "The two halves of the log differ."),),
)
GOLDEN = """\
1,200 episodes, 3,400 decisions, 2 states, 3 actions.

INFLUENCE DETECTED
What is done matters in this log. One more round of imitating its successes
raises the success rate by 20% of itself (95% interval 12% to 29%), to first
order: from 25.0% to about 30.0%.

                   estimate   95% interval
Success rate          25.0%   22.6% to 27.6%
    The share of the episodes that succeed.
Influence              0.20   0.12 to 0.29
    The gain of one more round of exact imitation, to first order: 0.1 is 10%
    of the success rate. An estimate may fall below 0, the truth cannot. A log
    without influence shows as much with probability < 0.001.
After one round       30.0%   28.0% to 32.4%
    The success rate times 1 + influence, at most 100%. The interval allows for
    the errors of both.
At least              27.0%   26.0% to 28.0%
    What one round of exact imitation reaches even where first order promises
    too much. It may lie above the line before, as gains of several decisions
    multiply.

WHERE THE INFLUENCE IS
The states with the largest share of the influence. Those that come first tend
to look better than they are: the p-values allow for the number of states, the
intervals do not.
  state  decisions  success  influence      interval      p
  left       1,200      25%       0.20  0.15 to 0.30  0.031
  right      1,200      25%       0.10  0.05 to 0.20  0.031

HOW MANY EPISODES IT TAKES
To notice such an influence in states like these, with a chance of 80%.
  influence         episodes  more than here
  0.1                  4,100           2,900
  0.2 (found here)     1,020               0

BE CAREFUL
- drift: The two halves of the log differ.
"""
NASTY = [
    "<script>alert(1)</script>",
    "& \"quotes\" 'and' $x^2$ <!-- --> ]]>",
    "\u4e2d\u6587" * 30,
    "\x1b[31mred\x07",
    "right\u202eleft",
    "\n",
    "",
    "{brace}",
    "e\u0301" * 40,
    "\ud800",
]
CASES = {
    "plain": PLAIN,
    "nothing found": dataclasses.replace(
        PLAIN,
        detectable=False,
        p_value=0.4,
        influence=Estimate(-0.01, 0, 0.06),
        pooled=Estimate(0.25, 0.25, 0.265),
        floor=Estimate(0.25, 0.25, 0.26),
        cautions=(),
    ),
    "no success": dataclasses.replace(
        PLAIN,
        detectable=False,
        p_value=1.0,
        success_rate=Estimate(0, 0, 0.003),
        influence=UNKNOWN,
        pooled=Estimate(NAN, NAN, NAN),
        floor=Estimate(NAN, NAN, NAN),
        states=(),
        needed=(),
    ),
    "one action": dataclasses.replace(
        PLAIN, detectable=False, p_value=1.0, influence=Estimate(0, 0, 0), needed=()
    ),
    "no room": dataclasses.replace(
        PLAIN, influence=Estimate(3.1, 2, 5), pooled=Estimate(1, 0.7, 1), needed=((3.1, 200),)
    ),
    "all succeed": dataclasses.replace(PLAIN, success_rate=Estimate(1, 0.997, 1)),
    "unique": dataclasses.replace(
        PLAIN,
        single=True,
        n_actions=None,
        detectable=False,
        p_value=1.0,
        influence=UNKNOWN,
        judged=0.0,
        balanced=UNKNOWN,
        deterministic=Estimate(1.4, 1.2, 1.6),
        states=(dataclasses.replace(state("x"), influence=UNKNOWN, p_value=1.0),),
        needed=(),
    ),
    "returns": dataclasses.replace(
        PLAIN,
        sweep=(step(-1, Estimate(NAN, -1, 1)), *(step(k / 3) for k in range(14))),
        mean_return=Estimate(1.7, 1.6, 1.8),
        best=Choice(2.5, Estimate(0.03, 0.01, 0.05), Estimate(0.02, 0.01, 0.03)),
    ),
    "huge and nasty": dataclasses.replace(
        PLAIN,
        episodes=10**10,
        decisions=10**12,
        n_states=500,
        n_actions=10**7,
        skipped=1,
        states=tuple(map(state, [*NASTY, *map(str, range(490))])),
        cautions=(Caution("coverage", " ".join(NASTY) + "x" * 300),),
    ),
}
EVERY = pytest.mark.parametrize("diagnosis", CASES.values(), ids=CASES)
NO_BREAK = (
    ("no success", "NOTHING TO IMITATE", "No episode of this log succeeds"),
    ("all succeed", "NOTHING TO GAIN", "Every episode"),
    ("unique", "CANNOT TELL", "came more than once"),
    ("one action", "NOTHING TO CHOOSE", "always the same"),
    ("nothing found", "NO DETECTABLE INFLUENCE", "up to 6.0% of the success rate"),
    ("plain", "INFLUENCE DETECTED", "by 20% of itself"),
    ("no room", "INFLUENCE DETECTED", "more than 100%: rely on the floor"),
)


def columns(line: str) -> int:
    """Columns of a terminal, by Unicode."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in line)
    return len(line) + wide - sum(unicodedata.combining(c) != 0 for c in line)


def test_a_small_diagnosis_to_the_letter() -> None:
    assert as_text(PLAIN) == GOLDEN


@EVERY
def test_the_text_fits_a_terminal(diagnosis: Diagnosis) -> None:
    text = as_text(diagnosis)
    assert max(map(columns, text.splitlines())) <= 80
    assert all(c.isprintable() or c == "\n" for c in text)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert not re.search(r"\b(nan|inf|None)\b", text)


@EVERY
def test_our_own_words_are_ascii(diagnosis: Diagnosis) -> None:
    safe = dataclasses.replace(diagnosis, states=(state("s"),), cautions=())
    assert as_text(safe).isascii()


@pytest.mark.parametrize(("case", "headline", "words"), NO_BREAK, ids=[c[0] for c in NO_BREAK])
def test_the_verdict_comes_first(case: str, headline: str, words: str) -> None:
    lines = as_text(CASES[case]).splitlines()
    assert headline in lines[:4]
    assert words in " ".join(lines[2:9])
    assert f"<h2>{headline.capitalize()}</h2>" in as_html(CASES[case])


def test_a_long_table_ends_after_ten_rows_and_says_so() -> None:
    text, page = as_text(CASES["huge and nasty"]), as_html(CASES["huge and nasty"])
    assert "\n  and 490 more\n" in text
    assert "<p>and 490 more</p>" in page
    assert page.count('<th scope="row">') == 4 + 10 + 2  # numbers, states, episodes
    assert "1 malformed line left out." in " ".join(text.split())


def test_thresholds_are_thinned_from_the_first_to_the_last() -> None:
    text = as_text(CASES["returns"])
    (table,) = re.findall(r"^  return +kept .*?\n  and .*?\n", text, re.DOTALL | re.MULTILINE)
    shown = [line.split()[0] for line in table.splitlines()[1:-1]]
    assert len(shown) == 10
    assert (shown[0], shown[-1]) == ("-1.00", "4.33")
    assert table.endswith("  and 5 more\n")
    assert "not known" in table
    assert re.search(r"^  4.33 +50% +1.50 +0.90 +0.030 \(0.010 to 0.050\)$", table, re.MULTILINE)
    words = " ".join(text.split())
    assert "2.50 looks best" in words
    assert "gains 0.030 (0.010 to 0.050)" in words


def test_what_is_not_known_is_left_out() -> None:
    text = as_text(CASES["unique"])
    assert re.search(r"^Influence +not known   0 to no limit$", text, re.MULTILINE)
    assert re.search(r"^Exact verifier +1\.40   1\.20 to 1\.60$", text, re.MULTILINE)
    for left_out in ("After one round", "At least", "Balanced", "Compared", "WHERE", "HOW MANY"):
        assert left_out not in text


@pytest.mark.parametrize("case", ["no success", "all succeed"])
def test_where_all_end_alike_only_the_rate_is_told(case: str) -> None:
    text = as_text(CASES[case])
    assert "Success rate" in text
    assert "drift" in text
    for left_out in ("Influence ", "After one round", "WHERE", "HOW MANY"):
        assert left_out not in text


def test_states_counted_alike_and_the_share_that_was_judged() -> None:
    found = dataclasses.replace(
        PLAIN, single=True, judged=0.9, balanced=Estimate(0.31, 0.2, 0.4), needed=((4.0, 9),)
    )
    assert re.search(r"^Balanced +0\.31   0\.20 to 0\.40$", as_text(found), re.MULTILINE)
    assert re.search(r"^Compared +90%$", as_text(found), re.MULTILINE)
    assert "HOW MANY" not in as_text(found)  # 5 times 25% is more than there is
    assert "Balanced" not in as_text(dataclasses.replace(found, n_states=1))


def test_a_mean_of_weights_is_not_called_a_success_rate() -> None:
    text = as_text(dataclasses.replace(PLAIN, graded=True, mean_return=Estimate(1.7, 1.6, 1.8)))
    assert re.search(r"^Mean outcome +25\.0%   22\.6% to 27\.6%$", text, re.MULTILINE)
    assert "0% is the least outcome" in text
    assert "succeed" not in text
    assert re.search(r"^  state +decisions +outcome ", text, re.MULTILINE)
    assert "success rate" not in text.lower()


def test_a_state_alone_is_not_told_twice() -> None:
    alone = dataclasses.replace(PLAIN, n_states=1, states=PLAIN.states[:1])
    assert "WHERE THE INFLUENCE IS" in as_text(alone)  # several decisions an episode
    assert "WHERE" not in as_text(dataclasses.replace(alone, single=True))


def test_few_episodes_are_not_promised() -> None:
    found = dataclasses.replace(PLAIN, needed=((0.1, 99), (0.2, 100)))
    assert re.search(r"^  0\.1 +< 100 +0$", as_text(found), re.MULTILINE)
    assert re.search(r"^  0\.2 \(found here\) +100 +0$", as_text(found), re.MULTILINE)


def test_an_end_above_zero_is_not_shown_as_zero() -> None:
    shaky = dataclasses.replace(PLAIN, influence=Estimate(1.2, 1e-300, 3.1))
    assert " 1.2   above 0 to 3.1\n" in as_text(shaky)


@pytest.mark.parametrize("rate", [0.9996, 1 - 1e-7, 1e-7])
def test_only_all_is_all(rate: float) -> None:
    found = dataclasses.replace(PLAIN.states[0], success_rate=rate)
    text = as_text(dataclasses.replace(PLAIN, states=(found,)))
    (shown,) = re.findall(r"^  left +1,200 +(\S+)%", text, re.MULTILINE)
    assert 0 < float(shown) < 100


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1, 1e5, 1e9])
@pytest.mark.parametrize("shift", [0, -3e8])
def test_returns_of_every_size_fit(size: float, shift: float) -> None:
    returns = [shift + size * x for x in np.random.default_rng(1).normal([0, 1, 2], 3, (400, 3)).T]
    won = np.arange(1200) % 2 == 0
    log = Log(np.arange(1200), np.zeros(1200, int), np.repeat([0, 1, 2], 400), won)
    found = diagnose(Tally.from_log(log, returns=np.concatenate(returns)))
    assert max(map(columns, as_text(found).splitlines())) <= 80


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_the_level_is_that_of_the_diagnosis(confidence: float) -> None:
    found = dataclasses.replace(PLAIN, confidence=confidence)
    level = f"{100 * confidence:g}% interval"
    assert f"estimate   {level}\n" in as_text(found)
    assert f">{level}</th>" in as_html(found)


class Elements(HTMLParser):
    """The elements of a page: what is opened is closed, and names are unique."""

    VOID = frozenset({"meta", "link", "br", "!doctype"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser.seen


@EVERY
def test_the_page_is_whole_and_safe(diagnosis: Diagnosis) -> None:
    page = as_html(diagnosis)
    page.encode("utf-8")
    found = elements(page)
    tags = {tag for tag, _ in found}
    assert {"html", "title", "main", "h1", "h2", "table", "caption", "svg"} <= tags
    assert not tags & {"script", "img", "iframe", "object", "image", "form", "a"}
    names = [attrs["id"] for _, attrs in found if "id" in attrs]
    assert len(names) == len(set(names))
    for _, attrs in found:
        assert not [name for name in attrs if name.startswith("on") or name in ("src", "srcset")]
        for name in ("href", "xlink:href"):
            target = attrs.get(name, "#")
            assert target is not None
            assert target == "data:," or target.removeprefix("#") in ["", *names]
    assert [attrs["lang"] for tag, attrs in found if tag == "html"] == ["en"]
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in found if tag == "th")
    assert all(attrs.get("aria-label") for tag, attrs in found if tag == "svg")
    assert not re.search(r"https?://(?!www\.w3\.org/(2000/svg|1999/xlink))", page)


def test_names_of_the_log_are_shown_not_obeyed() -> None:
    page = as_html(CASES["huge and nasty"])
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "(blank)" in page


@EVERY
def test_text_and_page_say_the_same(diagnosis: Diagnosis) -> None:
    text = as_text(diagnosis)
    page = re.sub(r"<[^>]*>", " ", as_html(diagnosis))
    for number in re.findall(r"^[A-Z][a-z ]+?  +(\S+%?)   ", text, re.MULTILINE):
        assert number in page


def test_every_ink_of_a_figure_has_its_twin_by_night() -> None:
    page = as_html(CASES["returns"])
    day, night = re.findall(r":root \{ ([^}]*) \}", page)
    for ink, name in figures.AS_PROPERTY.items():
        assert f"{name}: {ink}" in day
        assert f"{name}: {figures.BY_NIGHT[ink]}" in night
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not [ink for ink in figures.BY_NIGHT if ink in drawn]
    assert set(re.findall(r"var\((--\w+)\)", drawn)) <= set(figures.AS_PROPERTY.values())


def test_the_same_diagnosis_is_the_same_page() -> None:
    assert as_html(CASES["returns"]) == as_html(CASES["returns"])


def test_what_cannot_be_drawn_is_counted() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    figures.draw_intervals(axes, ["$a", "b"], [1, NAN], [0, NAN], [2, NAN])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$a", "b"]
    assert figures.inline(figure, "one", "a < b").startswith("<svg ")
    assert 'aria-label="a &lt; b"' in figures.inline(figure, "one", "a < b")


@pytest.mark.parametrize("successes", list(itertools.product([False, True], repeat=3)))
def test_the_smallest_logs_are_reported(successes: tuple[bool, ...]) -> None:
    log = Log(np.arange(3), np.zeros(3, int), np.array([0, 1, 1]), np.array(successes))
    found = diagnose(Tally.from_log(log))
    assert max(map(columns, as_text(found).splitlines())) <= 80
    elements(as_html(found))


def test_the_page_on_running_shows_what_the_command_prints(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    report_page = (root / "chapters/running.md").read_text("utf-8")
    section = report_page.partition("## Report on a log of your own\n")[2].partition("\n## ")[0]
    ((name, code),) = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", section, re.M | re.S)
    (tmp_path / name).write_text(code)
    (commands,) = re.findall(r"^```bash\n(.*?)^```$", section, re.M | re.S)
    (output,) = re.findall(r"^```text\n(.*?)^```$", section, re.M | re.S)
    printed = ""
    for command in commands.splitlines():
        words = [sys.executable, *command.split()[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        printed += done.stdout
    assert printed.rstrip("\n") == output.rstrip("\n")
    elements((tmp_path / "report.html").read_text("utf-8"))
