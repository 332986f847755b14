"""A diagnosis in words: as plain text for a terminal, as one page of HTML for a browser.

Both say the same in the same order, from the same lists: the verdict; each number with its interval
and what it means; where the influence is; what each threshold would do; how many episodes would
settle it; and what to be careful about. The text has at most 80 columns, and no characters beyond
ASCII but those of the log's own names. The page needs nothing but itself: no script, no other file,
no other host.
"""

import math
import unicodedata
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sc_utils import figures
from sc_utils.diagnosis import Diagnosis, Estimate, StateReport, ThresholdReport

__all__ = ["as_html", "as_text"]

WIDTH = 80
"""Columns of a terminal."""
MOST = 10
"""Rows of a table; a line says how many more there are."""


class _Number(NamedTuple):
    """A number of the report: what it is called, how it is written, what it means."""

    name: str
    value: str
    interval: str
    meaning: str


class _Table(NamedTuple):
    """A table of the report: rows of words, the first of which names the row."""

    title: str
    meaning: str
    caption: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    more: int


def as_text(diagnosis: Diagnosis) -> str:
    """Write a diagnosis as plain text, at most 80 columns wide, the verdict first.

    Parameters
    ----------
    diagnosis
        What `diagnose` found.

    Returns
    -------
    str
        The report, ending in a newline. Names from the log that are too long are cut, and what
        cannot be printed in them becomes a question mark; tables end after ten rows and say how
        many more there are. A number that the log does not determine is ``not known``.

    Examples
    --------
    >>> from sc_utils import Log, Tally, diagnose
    >>> answers = Log(range(8), [0] * 8, [0] * 4 + [1] * 4, [0, 0, 0, 0, 1, 1, 1, 1])
    >>> print(as_text(diagnose(Tally.from_log(answers))).splitlines()[0])
    8 episodes, 8 decisions, 1 state, 2 actions.
    """
    headline, words = _verdict(diagnosis)
    lines = [*_wrap(_what_was_read(diagnosis), ""), ""]
    lines += [headline.upper(), *_wrap(words, ""), ""]
    column = max(len(number.name) for number in _numbers(diagnosis)) + 2
    lines.append(f"{'':{column}}{'estimate':>10}   {_share(diagnosis.confidence)} interval")
    for number in _numbers(diagnosis):
        lines.append(f"{number.name:{column}}{number.value:>10}   {number.interval}".rstrip())
        lines += _wrap(number.meaning, "    ")
    for list_rows, _ in PARTS:
        table = list_rows(diagnosis)
        if not table.rows:
            continue
        lines += ["", table.title.upper(), *_wrap(table.meaning, ""), *_columns(table)]
        lines += [f"  and {table.more:,} more"] * (table.more > 0)
    if diagnosis.cautions:
        lines += ["", "BE CAREFUL"]
    for caution in diagnosis.cautions:
        first, *others = _wrap(f"{caution.kind}: {_clean(caution.text)}", "  ")
        lines += ["-" + first[1:], *others]
    return "\n".join(lines) + "\n"


def as_html(diagnosis: Diagnosis) -> str:
    """Write a diagnosis as one page of HTML, with figures for light and for dark screens.

    Parameters
    ----------
    diagnosis
        What `diagnose` found.

    Returns
    -------
    str
        A whole document, to be stored in UTF-8. It contains no script and asks no other file or
        host for anything, and forbids itself to; names from the log are shown, never obeyed.

    Examples
    --------
    >>> from sc_utils import Log, Tally, diagnose
    >>> answers = Log(range(8), [0] * 8, [0] * 4 + [1] * 4, [0, 0, 0, 0, 1, 1, 1, 1])
    >>> page = as_html(diagnose(Tally.from_log(answers)))
    >>> page.startswith("<!doctype html>"), "<script" in page
    (True, False)
    """
    headline, words = _verdict(diagnosis)
    body = [
        "<header>",
        "<h1>Diagnosis of a log</h1>",
        f"<p>{escape(_what_was_read(diagnosis))}</p>",
        "</header>",
        "<main>",
        '<section class="verdict">',
        f"<h2>{escape(headline)}</h2>",
        f"<p>{escape(words)}</p>",
        "</section>",
        *_rates_section(diagnosis),
    ]
    for list_rows, draw in PARTS:
        table = list_rows(diagnosis)
        if table.rows:
            body += _table_section(table, draw(diagnosis))
    if diagnosis.cautions:
        body += ["<section>", "<h2>Be careful</h2>", "<ul>"]
        for caution in diagnosis.cautions:
            kind, text = escape(caution.kind), escape(_clean(caution.text))
            body.append(f"<li><strong>{kind}</strong>: {text}</li>")
        body += ["</ul>", "</section>"]
    body.append("</main>")
    title = f"<title>{escape(headline)} \u2013 diagnosis of a log</title>"
    return "\n".join(
        [
            *HEAD,
            title,
            "<style>",
            _looks(),
            "</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


# What is said


def _what_was_read(diagnosis: Diagnosis) -> str:
    """Say how large the log is."""
    unit = "prompt" if diagnosis.single and diagnosis.n_actions is None else "state"
    parts = [
        _many(diagnosis.episodes, "episode"),
        _many(diagnosis.decisions, "decision"),
        _many(diagnosis.n_states, unit),
    ]
    if diagnosis.n_actions is not None:
        parts.append(_many(diagnosis.n_actions, "action"))
    size = ", ".join(parts) + "."
    if diagnosis.skipped:
        size += f" {_many(diagnosis.skipped, 'malformed line')} left out."
    return size


def _verdict(diagnosis: Diagnosis) -> tuple[str, str]:
    """Return the verdict in a few words, and in a sentence or two."""
    now, then = diagnosis.success_rate, diagnosis.pooled
    level = f"{_share(diagnosis.confidence)} interval"
    if not now.value > 0:
        return (
            "Nothing to imitate",
            "No episode of this log succeeds. Another round has nothing to learn from: collect"
            " more episodes, or count as a success what does happen.",
        )
    if now.value >= 1:
        return (
            "Nothing to gain",
            "Every episode of this log succeeds, so no choice can be told from another by its"
            " success.",
        )
    if math.isnan(diagnosis.influence.value):
        return (
            "Cannot tell",
            "Nothing in this log was done twice where it could succeed and fail. Whether actions"
            " matter, or only the luck of the outcome, cannot be told from visits that cannot be"
            " compared.",
        )
    if diagnosis.detectable:
        return (
            "Influence detected",
            "What is done matters to success in this log. One more round of imitating its"
            f" successes should raise the success rate from {_share(now.value)} to about"
            f" {_share(then.value)} ({level} {_span(then, _share)}), to first order.",
        )
    return (
        "No detectable influence",
        "In this log successes and failures act alike, as far as one can see. If there is influence"
        f" all the same, one more round raises the success rate from {_share(now.value)} to"
        f" {_share(then.high, _decimals(then))} at most ({level} {_span(then, _share)}), to first"
        " order.",
    )


def _numbers(diagnosis: Diagnosis) -> list[_Number]:
    """List the numbers about the whole log."""
    rate, influence = diagnosis.success_rate, diagnosis.influence
    found = [
        _number("Success rate", rate, _share, "The share of the episodes that succeed."),
        _number(
            "Influence",
            influence,
            _plain,
            "How much better the actions of successes are than those of everybody: the relative"
            " gain of one more round, to first order. An estimate may fall below 0, the truth"
            f" cannot. Without any influence a log shows as much with probability"
            f" {_chance(diagnosis.p_value)}.",
        ),
        _number(
            "After one round",
            diagnosis.pooled,
            _share,
            "The success rate after another round of exact imitation, to first order: the success"
            " rate times 1 + influence.",
        ),
    ]
    found.append(
        _number(
            "At least",
            diagnosis.floor,
            _share,
            "A floor of the success rate after one round of exact imitation, which holds beyond"
            " first order.",
        )
    )
    if diagnosis.balanced is not None:
        found.append(
            _number(
                "Balanced gain",
                diagnosis.balanced,
                _share,
                "The mean relative gain of the prompts that were solved, all counted alike. A"
                " pooled loss hardly sees a prompt that hardly ever succeeds.",
            )
        )
    if diagnosis.deterministic is not None:
        found.append(
            _number(
                "Exact verifier",
                diagnosis.deterministic,
                _plain,
                "The influence, if the verifier always judges an answer alike: then one exact"
                " round solves every prompt that was solved once.",
            )
        )
    if diagnosis.mean_return is not None:
        found.append(
            _number(
                "Mean return",
                diagnosis.mean_return,
                _plain,
                "Of an episode; what the gains below are added to.",
            )
        )
    if diagnosis.judged < 0.995:
        found.append(
            _Number(
                "Compared",
                _share(diagnosis.judged),
                "",
                "The share of the influence's weight that lies where two visits can be compared."
                " The rest is taken to be alike.",
            )
        )
    return found


def _by_state(diagnosis: Diagnosis) -> _Table:
    rows = [
        (
            _cut(state.state, 18),
            f"{state.decisions:,}",
            _share(state.success_rate),
            _plain(state.influence.value),
            _span(state.influence, _plain),
            _chance(state.p_value),
        )
        for state in diagnosis.states[:MOST]
    ]
    return _Table(
        "Where the influence is",
        "The states, those with the largest share of the influence first. Each p-value allows for"
        " the number of states.",
        "One row a state",
        ("state", "decisions", "success", "influence", "interval", "p"),
        rows,
        len(diagnosis.states) - len(rows),
    )


def _by_threshold(diagnosis: Diagnosis) -> _Table:
    shown = _spread(diagnosis.sweep)
    rows = [
        (
            _plain(step.threshold),
            _share(step.success_rate),
            _plain(step.influence.value),
            _plain(step.amplification),
            _with_span(step.alignment, _plain),
            _with_span(step.gain, _plain),
        )
        for step in shown
    ]
    return _Table(
        "If success were a return of at least ...",
        "Amplification: how many times as loudly the choice speaks to the threshold as to the"
        " return itself. Alignment: whether both speak for the same actions, from -1 to 1. Gain:"
        " what one round on the kept episodes adds to the mean return, to first order."
        + _best(diagnosis),
        "One row a threshold",
        ("return", "kept", "infl.", "ampl.", "alignment", "gain"),
        rows,
        len(diagnosis.sweep) - len(rows),
    )


def _best(diagnosis: Diagnosis) -> str:
    """Say what choosing the best threshold would honestly gain."""
    best = diagnosis.best
    if best is None:
        return ""
    return (
        f" {_plain(best.threshold)} looks best; chosen on one half of the episodes and measured on"
        f" the other, the best gains {_with_span(best.gain, _plain)}. Weighting each episode by its"
        f" return, without a threshold, gains {_with_span(best.faithful, _plain)}."
    )


def _by_gain(diagnosis: Diagnosis) -> _Table:
    rows = [
        (_share(gain), _count(episodes), _missing(episodes - diagnosis.episodes))
        for gain, episodes in diagnosis.needed
    ]
    return _Table(
        "How many episodes it takes",
        "To notice that another round would gain so much of the success rate, with a chance of"
        " 80%.",
        "One row a relative gain",
        ("relative gain", "episodes", "more than here"),
        rows,
        0,
    )


# How it is written

_Writer = Callable[..., str]


def _number(name: str, estimate: Estimate, write: _Writer, meaning: str) -> _Number:
    value = write(estimate.value, _decimals(estimate))
    return _Number(name, value, _span(estimate, write), meaning)


def _plain(x: float, decimals: int | None = None) -> str:
    """Write a number, to three significant digits unless decimals are given."""
    if math.isnan(x):
        return "not known"
    if math.isinf(x):
        return "no limit" if x > 0 else "-no limit"
    if decimals is None:
        decimals = 2 - math.floor(math.log10(abs(x))) if x else 0
    text = f"{x:,.{max(decimals, 0)}f}"
    return text.removeprefix("-") if not any(c in "123456789" for c in text) else text


def _share(x: float, decimals: int | None = None) -> str:
    """Write a share as a percentage; only 1 itself is 100%."""
    if not math.isfinite(x):
        return _plain(x)
    if decimals is None:
        text = _plain(100 * x)
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = _plain(100 * x, decimals - 2)
    return text + "%"


def _decimals(estimate: Estimate) -> int | None:
    """Return the decimals that show two significant digits of the interval's width."""
    width = estimate.high - estimate.low
    if not 0 < width < math.inf:
        return None
    return min(max(1 - math.floor(math.log10(width)), 0), 8)


def _span(estimate: Estimate, write: _Writer) -> str:
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    decimals = _decimals(estimate)
    low = write(estimate.low, decimals)
    if estimate.low > 0 and not any(c in "123456789" for c in low):
        low = write(estimate.low)  # above zero, and be it by little
    return f"{low} to {write(estimate.high, decimals)}"


def _with_span(estimate: Estimate, write: _Writer) -> str:
    """Write an estimate with its interval in brackets."""
    span = _span(estimate, write)
    value = write(estimate.value, _decimals(estimate))
    return f"{value} ({span})" if span else value


def _chance(p: float) -> str:
    """Write a p-value."""
    if math.isnan(p):
        return "not known"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _count(n: float) -> str:
    return f"{n:,.0f}" if math.isfinite(n) else "no number will do"


def _missing(n: float) -> str:
    return "none" if n <= 0 else _count(n)


def _many(n: int, unit: str) -> str:
    return f"{n:,} {unit}" if n == 1 else f"{n:,} {unit}s"


def _spread(steps: Sequence[ThresholdReport]) -> list[ThresholdReport]:
    """Return at most `MOST` of the steps, from the first to the last, evenly spread."""
    if len(steps) <= MOST:
        return list(steps)
    return [steps[round(k * (len(steps) - 1) / (MOST - 1))] for k in range(MOST)]


def _clean(text: str) -> str:
    """Keep what can be printed: no line breaks, no codes that move the cursor or turn the text."""
    return "".join(" " if c.isspace() else c if c.isprintable() else "?" for c in text)


def _wide(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    double = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + double - sum(unicodedata.combining(c) > 0 for c in text)


def _cut(text: str, columns: int) -> str:
    """Return the beginning of a name from the log that fits, with dots where more would follow."""
    name = _clean(text).strip() or "(blank)"
    if _wide(name) <= columns:
        return name
    while _wide(name) > columns - 3:
        name = name[:-1]
    return name + "..."


def _wrap(text: str, indent: str) -> list[str]:
    """Break a text into lines of at most `WIDTH` columns."""
    lines, line = [], indent
    for word in text.split():
        if line.strip() and _wide(line) + _wide(word) >= WIDTH:
            lines.append(line.rstrip())
            line = indent
        line += _cut(word, WIDTH - len(indent) - 1) + " "
    return [*lines, line.rstrip()]


def _columns(table: _Table) -> list[str]:
    """Write the rows of a table below its head: names to the left, numbers to the right."""
    rows = [table.head, *table.rows]
    widths = [max(_wide(row[k]) for row in rows) for k in range(len(table.head))]
    lines = []
    for row in rows:
        first = row[0] + " " * (widths[0] - _wide(row[0]))
        cells = [
            " " * (n - _wide(cell)) + cell for cell, n in zip(row[1:], widths[1:], strict=True)
        ]
        lines.append("  " + "  ".join([first, *cells]))
    return lines


# The page


def _rates_section(diagnosis: Diagnosis) -> list[str]:
    """Show the numbers about the whole log, with a picture of the success rates."""
    level = _share(diagnosis.confidence)
    lines = [
        "<section>",
        '<h2 id="numbers">The log as a whole</h2>',
        *_draw_rates(diagnosis),
        '<div class="scroll" role="region" aria-labelledby="numbers" tabindex="0">',
        "<table>",
        "<caption>Each number, and below it what it means</caption>",
        "<thead><tr>"
        '<th scope="col">number</th>'
        '<th scope="col">estimate</th>'
        f'<th scope="col">{level} interval</th>'
        "</tr></thead>",
        "<tbody>",
    ]
    for number in _numbers(diagnosis):
        lines += [
            f'<tr class="number"><th scope="row">{number.name}</th><td>{number.value}</td>'
            f"<td>{number.interval}</td></tr>",
            f'<tr><td colspan="3" class="meaning">{escape(number.meaning)}</td></tr>',
        ]
    return [*lines, "</tbody>", "</table>", "</div>", "</section>"]


def _table_section(table: _Table, picture: list[str]) -> list[str]:
    """Show a table under its title, with its picture if it has one."""
    name = escape(table.title.split()[0].lower())  # no two begin alike
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    lines = [
        "<section>",
        f'<h2 id="{name}">{escape(table.title)}</h2>',
        *picture,
        f"<p>{escape(table.meaning)}</p>",
        f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0">',
        "<table>",
        f"<caption>{table.caption}</caption>",
        f"<thead><tr>{heads}</tr></thead>",
        "<tbody>",
    ]
    for row in table.rows:
        cells = "".join(f"<td>{escape(cell).replace(' (', '<br>(')}</td>" for cell in row[1:])
        lines.append(f'<tr><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    lines += ["</tbody>", "</table>", "</div>"]
    lines += [f"<p>and {table.more:,} more</p>"] * (table.more > 0)
    return [*lines, "</section>"]


# Its pictures


def _draw_rates(diagnosis: Diagnosis) -> list[str]:
    """Draw the success rate before and after a round."""
    cases = [
        ("now", diagnosis.success_rate),
        ("after one round", diagnosis.pooled),
        ("at least", diagnosis.floor),
    ]
    known = [(name, x) for name, x in cases if math.isfinite(x.value)]
    words = "Success rates: " + "; ".join(f"{name} {_with_span(x, _share)}" for name, x in known)
    with style.context(figures.STYLE):
        figure = Figure(figsize=(4.8, 0.75 + 0.35 * len(known)))
        axes = figure.add_subplot()
        figures.draw_intervals(axes, *_columns_of(known))
        axes.set(xlabel="success rate")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda x, _: _share(x))
        return _figure(figure, "rates", words + ".")


def _draw_states(diagnosis: Diagnosis) -> list[str]:
    """Draw the influence of the first states."""
    first = diagnosis.states[:MOST]
    cases = [(_short(state, k), state.influence) for k, state in enumerate(first)]
    top = first[0]
    words = f"Influence of {_many(len(first), 'state')}, with intervals; in the first, " + (
        f"{_cut(top.state, 40)}, it is {_with_span(top.influence, _plain)}."
    )
    with style.context(figures.STYLE):
        figure = Figure(figsize=(4.8, 0.7 + 0.3 * len(cases)))
        axes = figure.add_subplot()
        figures.draw_intervals(axes, *_columns_of(cases))
        axes.axvline(0, color=figures.MUTED, linewidth=0.8)
        axes.set(xlabel="influence")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return _figure(figure, "states", words)


def _draw_sweep(diagnosis: Diagnosis) -> list[str]:
    """Draw alignment and gain against the threshold."""
    steps = diagnosis.sweep
    x = [step.threshold for step in steps]
    best = max(steps, key=lambda step: _or(step.gain.value, -math.inf))
    words = (
        f"Alignment and gain of {_many(len(steps), 'threshold')}, with intervals; the largest gain,"
        f" {_with_span(best.gain, _plain)}, is at {_plain(best.threshold)}."
    )
    with style.context(figures.STYLE):
        figure = Figure(figsize=(4.8, 4.4))
        panels = figure.subplots(2, 1, sharex=True)
        for axes, name in zip(panels, ("alignment", "gain"), strict=True):
            axes.axhline(0, color=figures.MUTED, linewidth=0.8)
            columns = zip(*(vars(getattr(step, name)).values() for step in steps), strict=True)
            figures.draw_band(axes, x, *columns)
            axes.set(title=name)
        panels[-1].set(xlabel="kept: a return of at least")
        return _figure(figure, "sweep", words)


def _draw_nothing(_: Diagnosis) -> list[str]:
    return []


def _columns_of(
    cases: Sequence[tuple[str, Estimate]],
) -> tuple[list[str], list[float], list[float], list[float]]:
    """Return names, estimates, and the ends of their intervals."""
    found = [x for _, x in cases]
    values, low, high = [x.value for x in found], [x.low for x in found], [x.high for x in found]
    return [name for name, _ in cases], values, low, high


def _short(state: StateReport, place: int) -> str:
    """Name a state in a figure: by its place in the table, if its name cannot be drawn."""
    name = _cut(state.state, 18)
    return name if name.strip() and figures.can_draw(name) else f"no. {place + 1}"


def _or(x: float, otherwise: float) -> float:
    return otherwise if math.isnan(x) else x


def _figure(figure: Figure, name: str, words: str) -> list[str]:
    return ["<figure>", figures.inline(figure, name, words), "</figure>"]


PARTS = ((_by_state, _draw_states), (_by_threshold, _draw_sweep), (_by_gain, _draw_nothing))
"""The tables, in order, and what draws each."""

HEAD = (
    "<!doctype html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    # Should a name from a log ever get past the escaping, the browser obeys it no more than we do.
    '<meta http-equiv="Content-Security-Policy"'
    " content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">",
    '<link rel="icon" href="data:,">',
)

LOOKS = """\
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 42rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
header p, caption, .meaning { color: var(--muted); }
.verdict { border-left: 0.3rem solid var(--accent); padding-left: 1rem; margin-top: 1.5rem; }
.verdict h2 { margin: 0; font-size: 1.5rem; }
figure { margin: 1rem 0; }
svg { display: block; width: 100%; max-width: 34rem; height: auto; }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0.25rem 0; font-size: 0.9rem; }
th, td { padding: 0.35rem 0.5rem; border-bottom: 1px solid var(--faint); text-align: right;
  vertical-align: top; overflow-wrap: normal; }
td { white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; overflow-wrap: anywhere; min-width: 7rem; }
.number th, .number td { border-bottom: none; padding-bottom: 0; }
td.meaning { text-align: left; padding: 0 0 0.5rem; font-size: 0.9rem; white-space: normal; }
@media (max-width: 30rem) {
  .number td { white-space: normal; }
  th, td { padding: 0.3rem 0.25rem; }
}"""


def _looks() -> str:
    """Return the style sheet, with the inks by day and by night."""
    day = "; ".join(f"{name}: {ink}" for ink, name in figures.AS_PROPERTY.items())
    night = "; ".join(
        f"{name}: {figures.BY_NIGHT[ink]}" for ink, name in figures.AS_PROPERTY.items()
    )
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {night} }} }}"
    return f":root {{ color-scheme: light dark; {day} }}\n{dark}\n{LOOKS}"
