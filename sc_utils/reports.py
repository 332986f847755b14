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
from sc_utils.diagnosis import Diagnosis, Estimate, StateReport

__all__ = ["as_html", "as_text"]

WIDTH = 80
"""Columns of a terminal."""
NAMES = 17
"""Columns for the names of numbers."""
MOST = 10
"""Rows of a table; a line says how many more there are."""


class _Number(NamedTuple):
    """A number of the report: what it is called, its unit (how it is written), what it means."""

    name: str
    found: Estimate
    write: "_Writer"
    meaning: str


class _Table(NamedTuple):
    """A table of the report: rows of words, the first of which names the row."""

    title: str
    meaning: str
    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
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
        many more there are. What the log does not determine is left out, or ``not known``.

    Examples
    --------
    >>> from sc_utils import Log, Tally, diagnose
    >>> won = [False] * 4 + [True] * 4
    >>> answers = Log(range(8), [0] * 8, [0] * 4 + [1] * 4, won)
    >>> print(as_text(diagnose(Tally.from_log(answers))).splitlines()[0])
    8 episodes, 8 decisions, 1 state, 2 actions.
    """
    headline, words = _verdict(diagnosis)
    lines = [*_wrap(_what_was_read(diagnosis), ""), ""]
    lines += [headline.upper(), *_wrap(words, ""), ""]
    lines.append(f"{'':{NAMES}}{'estimate':>10}   {_share(diagnosis.confidence)} interval")
    for name, found, write, meaning in _numbers(diagnosis):
        lines.append(f"{name:{NAMES}}{_best(found, write):>10}   {_span(found, write)}".rstrip())
        lines += _wrap(meaning, "    ")
    for table, _ in _tables(diagnosis):
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
    >>> won = [False] * 4 + [True] * 4
    >>> answers = Log(range(8), [0] * 8, [0] * 4 + [1] * 4, won)
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
    for table, draw in _tables(diagnosis):
        body += _table_section(table, draw(diagnosis) if draw else "")
    if diagnosis.cautions:
        body += ["<section>", "<h2>Be careful</h2>", "<ul>"]
        for caution in diagnosis.cautions:
            kind, text = escape(caution.kind), escape(_clean(caution.text))
            body.append(f"<li><strong>{kind}</strong>: {text}</li>")
        body += ["</ul>", "</section>"]
    body.append("</main>")
    title = f"<title>{escape(headline)} \u2013 diagnosis of a log</title>"
    head = [*HEAD, title, f"<style>\n{_looks()}\n</style>", "</head>"]
    return "\n".join([*head, "<body>", *body, "</body>", "</html>", ""])


# What is said


def _what_was_read(diagnosis: Diagnosis) -> str:
    """Say how large the log is."""
    parts = [
        _many(diagnosis.episodes, "episode"),
        _many(diagnosis.decisions, "decision"),
        _many(diagnosis.n_states, "state"),
    ]
    if diagnosis.n_actions is not None:
        parts.append(_many(diagnosis.n_actions, "action"))
    size = ", ".join(parts) + "."
    if diagnosis.skipped:
        size += f" {_many(diagnosis.skipped, 'malformed line')} left out."
    return size


def _verdict(diagnosis: Diagnosis) -> tuple[str, str]:
    """Return the verdict in a few words, and in a sentence or two."""
    rate, influence = diagnosis.success_rate.value, diagnosis.influence
    if not rate > 0:
        return (
            "Nothing to imitate",
            "No episode of this log succeeds. Another round has nothing to learn from: collect"
            " more episodes, or count as a success what does happen.",
        )
    if rate >= 1:
        return (
            "Nothing to gain",
            "Every episode of this log succeeds, so no choice can be told from another by its"
            " success.",
        )
    if math.isnan(influence.value):
        return (
            "Cannot tell",
            "It takes a state where an action came more than once and two visits succeeded, but"
            " there is none. Whether actions matter, or only luck, cannot be told from it.",
        )
    if not influence.high > 0:
        return (
            "Nothing to choose",
            "Wherever visits can be compared, the action was always the same, or the outcome was:"
            " imitation has nothing to choose by.",
        )
    if diagnosis.detectable:
        return "Influence detected", _promise(diagnosis)
    return (
        "No detectable influence",
        "In this log successes and failures act alike, as far as one can see. It does not exclude"
        f" that one more round gains up to {_share(influence.high, _decimals(influence))} of the"
        f" {_rate_name(diagnosis).lower()}, to first order: the high end of a"
        f" {_share(diagnosis.confidence)} interval.",
    )


def _promise(diagnosis: Diagnosis) -> str:
    """Say what one more round gains."""
    now, then, influence = diagnosis.success_rate, diagnosis.pooled, diagnosis.influence
    gain = (
        f"What is done matters in this log. One more round of imitating its successes raises the"
        f" {_rate_name(diagnosis).lower()} by {_best(influence, _share)} of itself"
        f" ({_share(diagnosis.confidence)} interval {_span(influence, _share)}), to first order"
    )
    if now.value * (1 + influence.value) >= 1:
        return f"{gain}. That would be more than 100%: rely on the floor below, 'at least'."
    return f"{gain}: from {_best(now, _share)} to about {_best(then, _share)}."


def _rate_name(diagnosis: Diagnosis) -> str:
    return "Mean outcome" if diagnosis.graded else "Success rate"


def _numbers(diagnosis: Diagnosis) -> list[_Number]:
    """List the numbers about the whole log."""
    rate, influence = diagnosis.success_rate, diagnosis.influence
    name, told = _rate_name(diagnosis), "The share of the episodes that succeed."
    if diagnosis.graded:
        told = "Scaled: 0% is the least outcome, 100% the largest."
    numbers = [_Number(name, rate, _share, told)]
    if diagnosis.mean_return is not None:
        numbers.append(_Number("Mean return", diagnosis.mean_return, _plain, "Of an episode."))
    if not 0 < rate.value < 1:
        return numbers
    known = not math.isnan(influence.value)
    numbers.append(
        _Number(
            "Influence",
            influence,
            _plain,
            "The gain of one more round of exact imitation, to first order: 0.1 is 10% of the"
            f" {name.lower()}."
            + known
            * (
                " An estimate may fall below 0, the truth cannot. A log without influence shows as"
                f" much with probability {_chance(diagnosis.p_value)}."
            ),
        )
    )
    if known:
        numbers += [
            _Number(
                "After one round",
                diagnosis.pooled,
                _share,
                f"The {name.lower()} times 1 + influence, at most 100%. The interval allows for"
                " the errors of both.",
            ),
            _Number(
                "At least",
                diagnosis.floor,
                _share,
                "What one round of exact imitation reaches even where first order promises too"
                " much. "
                + (
                    "In truth never more than the line before; estimates may cross."
                    if diagnosis.single
                    else "It may lie above the line before, as gains of several decisions multiply."
                ),
            ),
        ]
    if known and diagnosis.balanced is not None and diagnosis.n_states > 1:
        numbers.append(
            _Number(
                "Balanced",
                diagnosis.balanced,
                _plain,
                "The mean influence of the states (prompts) with a success, all counted alike. In"
                " the influence above, a state counts by its successes.",
            )
        )
    if diagnosis.deterministic is not None:
        numbers.append(
            _Number(
                "Exact verifier",
                diagnosis.deterministic,
                _plain,
                "The influence, if the same answer to a prompt is always judged alike: then one"
                " exact round solves every prompt that can be solved.",
            )
        )
    if known and diagnosis.judged < 0.995:
        numbers.append(
            _Number(
                "Compared",
                Estimate(diagnosis.judged, math.nan, math.nan),
                _share,
                "How much of the influence lies where actions and successes came twice, and can be"
                " compared. The rest is taken to be alike.",
            )
        )
    return numbers


def _tables(diagnosis: Diagnosis) -> list[tuple[_Table, "_Draw | None"]]:
    """List the tables that have rows, each with what draws it."""
    tables: list[tuple[_Table, _Draw | None]] = [
        (_by_state(diagnosis), _draw_states),
        (_by_threshold(diagnosis), _draw_sweep),
        (_by_gain(diagnosis), None),
    ]
    return [(table, draw) for table, draw in tables if table.rows]


def _judged(diagnosis: Diagnosis) -> list[StateReport]:
    """Return the states of which the log says something."""
    if not 0 < diagnosis.success_rate.value < 1:
        return []
    return [state for state in diagnosis.states if not math.isnan(state.influence.value)]


def _by_state(diagnosis: Diagnosis) -> _Table:
    same = diagnosis.single and diagnosis.n_states == 1  # the influence of the whole log
    kept = "outcome" if diagnosis.graded else "success"
    rows = [
        (
            _cut(state.state, 18),
            f"{state.decisions:,}",
            _share(state.success_rate),
            _best(state.influence, _plain),
            _span(state.influence, _plain),
            _chance(state.p_value),
        )
        for state in _judged(diagnosis)[: 0 if same else MOST]
    ]
    return _Table(
        "Where the influence is",
        "The states with the largest share of the influence. Those that come first tend to look"
        " better than they are: the p-values allow for the number of states, the intervals do not.",
        "One row a state",
        ("state", "decisions", kept, "influence", "interval", "p"),
        rows,
        len(diagnosis.states) - len(rows),
    )


def _by_threshold(diagnosis: Diagnosis) -> _Table:
    steps = diagnosis.sweep
    n = len(steps)
    shown = sorted({round(k * (n - 1) / (MOST - 1)) for k in range(MOST) if n})  # evenly spread
    rows = [
        (
            _plain(step.threshold),
            _share(step.success_rate),
            _plain(step.amplification),
            _plain(step.alignment.value, 2),
            _with_span(step.gain, _plain),
        )
        for step in (steps[k] for k in shown)
    ]
    return _Table(
        "If success were a return of at least ...",
        "Gain: what one round on the episodes kept adds to the mean return, to first order. It is"
        " large where the choice of actions speaks loudly to the threshold (amplification), and for"
        " the same actions as to the return (alignment, from -1 to 1)." + _advice(diagnosis),
        "One row a threshold",
        ("return", "kept", "ampl.", "alignment", "gain"),
        rows,
        n - len(rows),
    )


def _advice(diagnosis: Diagnosis) -> str:
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
    rate, here = diagnosis.success_rate.value, diagnosis.influence.value
    rows = [
        (
            f"{gain:.3g}" + " (found here)" * (gain == here),
            _count(episodes),
            f"{max(episodes - diagnosis.episodes, 0):,}",
        )
        for gain, episodes in diagnosis.needed
        if rate * (1 + gain) <= 1  # beyond there is no room
    ]
    return _Table(
        "How many episodes it takes",
        "To notice such an influence in states like these, with a chance of 80%.",
        "One row an influence",
        ("influence", "episodes", "more than here"),
        rows,
        0,
    )


# How it is written

_Writer = Callable[..., str]
_Draw = Callable[[Diagnosis], str]


def _plain(x: float, decimals: int | None = None) -> str:
    """Write a number, to three significant digits unless decimals are given."""
    if math.isnan(x):
        return "not known"
    if math.isinf(x):
        return "no limit" if x > 0 else "-no limit"
    if x == 0:
        return "0"
    if abs(x) >= 1e7 or (abs(x) < 1e-6 and decimals is None):
        return f"{x:.4g}"
    if decimals is None:
        decimals = 2 - math.floor(math.log10(abs(x)))
    text = f"{x:,.{max(decimals, 0)}f}"
    return text if any(c in "123456789" for c in text) else text.removeprefix("-")


def _share(x: float, decimals: int | None = None) -> str:
    """Write a share as a percentage, to three digits; only 1 itself is 100%."""
    if not math.isfinite(x):
        return _plain(x)
    if decimals is not None:
        return _plain(100 * x, decimals - 2) + "%"
    text = _plain(100 * x)
    if 0 < x < 1 and float(text) >= 100:
        text = _plain(100 * x, -math.floor(math.log10(1 - x)))
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def _decimals(estimate: Estimate) -> int | None:
    """Return the decimals that show two significant digits of the interval's width."""
    width = estimate.high - estimate.low
    if not 1e-6 < width < math.inf:
        return None
    return max(1 - math.floor(math.log10(width)), 0)


def _best(estimate: Estimate, write: _Writer) -> str:
    return write(estimate.value, _decimals(estimate))


def _span(estimate: Estimate, write: _Writer) -> str:
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    low, high = (write(x, _decimals(estimate)) for x in (estimate.low, estimate.high))
    if estimate.low > 0 and not any(c in "123456789" for c in low):
        low = "above 0"
    return f"{low} to {high}"


def _with_span(estimate: Estimate, write: _Writer) -> str:
    """Write an estimate with its interval in brackets."""
    span = _span(estimate, write)
    return f"{_best(estimate, write)} ({span})" if span else _best(estimate, write)


def _chance(p: float) -> str:
    """Write a p-value."""
    if math.isnan(p):
        return "not known"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _count(n: int) -> str:
    """Write a number of episodes; the theory of large logs says nothing of small ones."""
    return "< 100" if n < 100 else f"{n:,}"


def _many(n: int, unit: str) -> str:
    return f"{n:,} {unit}" if n == 1 else f"{n:,} {unit}s"


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
    head = ("number", "estimate", f"{_share(diagnosis.confidence)} interval")
    rows = []
    for name, found, write, meaning in _numbers(diagnosis):
        rows += [
            f'<tr class="number"><th scope="row">{name}</th><td>{_best(found, write)}</td>'
            f"<td>{_span(found, write)}</td></tr>",
            f'<tr><td colspan="3" class="meaning">{escape(meaning)}</td></tr>',
        ]
    caption = "Each number, and below it what it means"
    return _section("The log as a whole", _draw_rates(diagnosis), "", caption, head, rows)


def _table_section(table: _Table, picture: str) -> list[str]:
    """Show a table under its title, with its picture if it has one."""
    rows = []
    for first, *others in table.rows:
        cells = "".join(f"<td>{escape(cell).replace(' (', '<br>(')}</td>" for cell in others)
        rows.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    lines = _section(table.title, picture, table.meaning, table.caption, table.head, rows)
    if table.more:
        lines.insert(-1, f"<p>and {table.more:,} more</p>")
    return lines


def _section(
    title: str, picture: str, meaning: str, caption: str, head: Sequence[str], rows: list[str]
) -> list[str]:
    name = title.split()[0].lower()  # no two begin alike
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    return [
        "<section>",
        f'<h2 id="{name}">{escape(title)}</h2>',
        picture,
        f"<p>{escape(meaning)}</p>" if meaning else "",
        f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0">',
        f"<table><caption>{caption}</caption>",
        f"<thead><tr>{heads}</tr></thead>",
        "<tbody>",
        *rows,
        "</tbody></table></div>",
        "</section>",
    ]


# Its pictures


def _draw_rates(diagnosis: Diagnosis) -> str:
    """Draw the success rate before and after a round."""
    rates = [x for x in _numbers(diagnosis) if x.write is _share and not math.isnan(x.found.low)]
    words = "; ".join(f"{x.name} {_with_span(x.found, _share)}" for x in rates)
    return _intervals("rates", [(x.name, x.found) for x in rates], _share, words)


def _draw_states(diagnosis: Diagnosis) -> str:
    """Draw the influence of the first states; by its place, if its name cannot be drawn."""
    first = _judged(diagnosis)[:MOST]
    names = [_cut(state.state, 18) for state in first]
    cases = [
        (name if figures.can_draw(name) else f"no. {k + 1}", state.influence)
        for k, (name, state) in enumerate(zip(names, first, strict=True))
    ]
    words = f"Influence of {_many(len(first), 'state')}, with intervals; in the first, {names[0]},"
    words += f" it is {_with_span(first[0].influence, _plain)}"
    return _intervals("states", cases, lambda x: f"{x:.4g}", words)


def _intervals(name: str, cases: list[tuple[str, Estimate]], write: _Writer, words: str) -> str:
    found = [x for _, x in cases]
    with style.context(figures.STYLE):
        figure = Figure(figsize=(4.2, 0.7 + 0.3 * len(cases)))
        axes = figure.add_subplot()
        figures.draw_intervals(
            axes,
            [label for label, _ in cases],
            [x.value for x in found],
            [x.low for x in found],
            [x.high for x in found],
        )
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda x, _: write(x))
        return _figure(figure, name, words + ".")


def _draw_sweep(diagnosis: Diagnosis) -> str:
    """Draw alignment and gain against the threshold."""
    steps = diagnosis.sweep
    words = f"Alignment and gain of {_many(len(steps), 'threshold')}, with intervals."
    with style.context(figures.STYLE):
        figure = Figure(figsize=(4.2, 4.0))
        panels = figure.subplots(2, 1, sharex=True)
        for axes, name in zip(panels, ("alignment", "gain"), strict=True):
            axes.axhline(0, color=figures.MUTED, linewidth=0.8)
            columns = zip(*(vars(getattr(step, name)).values() for step in steps), strict=True)
            figures.draw_band(axes, [step.threshold for step in steps], *columns)
            axes.set(title=name)
        panels[-1].set(xlabel="kept: a return of at least")
        return _figure(figure, "sweep", words)


def _figure(figure: Figure, name: str, words: str) -> str:
    return f"<figure>{figures.inline(figure, name, words)}</figure>"


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
svg { display: block; width: 100%; max-width: 30rem; height: auto; }
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
