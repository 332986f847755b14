"""One look for every figure, by day and by night; finished numbers drawn into given axes.

A chapter calls `use_book_style` once and draws with the inks below, which are named after what they
mean. The site shows every figure in these inks on paper, and in their twins of `BY_NIGHT` when the
page is dark; everywhere else the first are seen. Eyes of every kind can tell the inks apart, and so
can a grey printer: beside its hue each has a lightness of its own. Where two meet in one figure,
a label, a marker or a dash still says the same as the colour.
"""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import ArrayLike, NDArray

PAPER = "#fffefc"
"""The ground; gaps between bars and rims around points."""
INK = "#23262b"
"""Words, and whatever has no ink of its own."""
MUTED = "#5a606a"
"""What stands back, such as axes, bounds and notes."""
FAINT = "#dddad2"
"""Grids, and areas behind a curve."""

BEHAVIOUR = "#545a63"
"""The behaviour policy, how it was before."""
SUCCESS = "#37886b"
"""Success, and the policy that imitates it."""
FAILURE = "#bf422a"
"""Failure, and what breaks."""
ACCENT = "#1a3f7d"
"""What the figure is about."""
RIVAL = "#bd8900"
"""What it is held against."""

BY_NIGHT = {
    PAPER: "#15181d",
    INK: "#dcdfe4",
    MUTED: "#a2a9b4",
    FAINT: "#373d46",
    BEHAVIOUR: "#bfc3c9",
    SUCCESS: "#b1f2ce",
    FAILURE: "#c65a28",
    ACCENT: "#6191d8",
    RIVAL: "#dd9e42",
}
"""Each ink's twin on a dark page."""
AS_PROPERTY = {
    PAPER: "--paper",
    INK: "--ink",
    MUTED: "--muted",
    FAINT: "--faint",
    BEHAVIOUR: "--behaviour",
    SUCCESS: "--success",
    FAILURE: "--failure",
    ACCENT: "--accent",
    RIVAL: "--rival",
}
"""Each ink's name in the style sheet of a page that holds figures within itself."""

CLOUD = 2000
"""More points than this are drawn as pixels; as outlines they would weigh megabytes."""

STYLE: dict[str, Any] = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(
        color=[ACCENT, SUCCESS, FAILURE, RIVAL, BEHAVIOUR],
        linestyle=["-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (9, 2))],
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.edgecolor": PAPER,
    "figure.facecolor": PAPER,
    "figure.figsize": (6.4, 3.4),
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so it is the same everywhere
    "font.size": 9.5,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "hatch.color": INK,
    "image.cmap": "cividis",
    "legend.edgecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "mathtext.fontset": "cm",  # the letters of the formulas in the text
    "patch.edgecolor": PAPER,
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "svg.hashsalt": "success-conditioning",  # the same figure is the same file
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


def use_book_style() -> None:
    """Draw like the book from here on; in a notebook, as drawings rather than as pixels."""
    style.use(STYLE)
    try:
        from IPython.core.getipython import get_ipython
        from matplotlib_inline.config import InlineBackend
    except ModuleNotFoundError:
        return
    shell = get_ipython()
    if shell is not None and "inline" in mpl.get_backend():
        notebook = InlineBackend.instance(parent=shell)
        notebook.shell = shell
        how: dict[str, Any] = {"bbox_inches": "tight", "metadata": {"Date": None}}
        notebook.print_figure_kwargs = how
        notebook.figure_formats = {"svg"}


def cloud(axes: Axes, x: ArrayLike, y: ArrayLike, *, color: str) -> PathCollection:
    """Draw many points, so light that their density shows.

    Parameters
    ----------
    axes
        Where to draw.
    x, y : array (n,)
        The points.
    color
        One of the inks.

    Returns
    -------
    PathCollection
        The points, as Matplotlib holds them.
    """
    points = axes.scatter(x, y, s=5, color=color, alpha=0.35, linewidths=0)
    points.set_rasterized(np.size(x) > CLOUD)
    return points


def draw_shift(axes: Axes, names: Sequence[str], before: ArrayLike, after: ArrayLike) -> None:
    """Draw one line per case from where a number was (open circle) to where it went (full circle).

    Parameters
    ----------
    axes
        Where to draw.
    names : sequence of n strings
        Of the cases, from top to bottom.
    before, after : array (n,)
        The number before and after; the latter is written beside its circle.
    """
    x, y = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    rows = np.arange(len(names))
    axes.hlines(rows, x, y, color=SUCCESS)
    axes.plot(x, rows, "o", color=BEHAVIOUR, markerfacecolor=PAPER, markersize=7, linestyle="none")
    axes.plot(y, rows, "o", color=SUCCESS, markersize=7, linestyle="none")
    for row, value in zip(rows, y, strict=True):
        axes.annotate(f"{value:.3f}", (value, row), (9, 0), textcoords="offset points", va="center")
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)


def draw_intervals(
    axes: Axes, names: Sequence[str], values: ArrayLike, low: ArrayLike, high: ArrayLike
) -> None:
    """Draw one line per case, an estimate on its interval; where one is unknown, nothing.

    Parameters
    ----------
    axes
        Where to draw.
    names : sequence of n strings
        Of the cases, from top to bottom; shown as they are, whatever is in them.
    values, low, high : array (n,)
        The estimates and the ends of their intervals.
    """
    middle, left, right = (np.asarray(x, dtype=float) for x in (values, low, high))
    rows = np.arange(len(names))
    axes.hlines(rows, left, right, color=ACCENT, linewidth=2.4)
    axes.plot(middle, rows, "o", color=ACCENT, markersize=6, linestyle="none")
    axes.set_yticks(rows, names)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)  # a dollar in a name is a dollar
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)


def draw_band(axes: Axes, x: ArrayLike, values: ArrayLike, low: ArrayLike, high: ArrayLike) -> None:
    """Draw an estimate as a curve in the band of its intervals.

    Parameters
    ----------
    axes
        Where to draw.
    x, values, low, high : array (n,)
        Abscissae, estimates, and the ends of their intervals.
    """
    axes.fill_between(x, low, high, color=FAINT, linewidth=0)
    axes.plot(x, values, "o-", color=ACCENT, markersize=4)


def can_draw(text: str) -> bool:
    """Whether the book's font has a glyph for every character.

    Examples
    --------
    >>> can_draw("na\u00efve"), can_draw("\u4e2d")
    (True, False)
    """
    font = get_font(findfont(STYLE["font.family"]))
    return all(font.get_char_index(ord(c)) for c in text)


def inline(figure: Figure, name: str, words: str) -> str:
    """Return a figure as an element of a page, in the page's inks of `AS_PROPERTY`.

    Parameters
    ----------
    figure
        What was drawn, within ``matplotlib.style.context(STYLE)``.
    name
        Unique in the page; all names within the drawing begin with it.
    words
        What the figure shows, for who cannot see it.

    Returns
    -------
    str
        An ``<svg>`` element that grows and shrinks with its place.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub("|".join(AS_PROPERTY), lambda ink: f"var({AS_PROPERTY[ink[0]]})", svg)
    (size,) = re.findall(r' (viewBox="[^"]*")', svg[: svg.index(">")])
    opening = f'<svg {size} role="img" aria-label="{escape(words)}" fill="var(--ink)"'
    return re.sub(
        r"<svg [^>]*>",
        lambda _: opening + ' xmlns:xlink="http://www.w3.org/1999/xlink">',
        svg,
        count=1,
    )


def draw_grid(axes: Axes, letters: ArrayLike, cells: ArrayLike, values: ArrayLike) -> None:
    """Draw a number in each cell of a grid, the larger the darker.

    Parameters
    ----------
    axes
        Where to draw.
    letters : array (rows, columns) of one-letter strings
        The map; shown where there is no number.
    cells : array (S,) of int
        Which cells the numbers belong to, counted along the rows from the upper left.
    values : array (S,)
        At least 0.
    """
    numbers = np.asarray(values, dtype=float)
    for (x, y), number in zip(_draw_map(axes, letters, cells), numbers, strict=True):
        shade = 0.5 * number / numbers.max()  # dark enough to see, light enough to read on
        square = Rectangle((x - 0.46, y - 0.46), 0.92, 0.92)
        square.set(facecolor=ACCENT, edgecolor="none", alpha=shade)
        axes.add_patch(square)
        axes.annotate(f"{number:.2f}", (x, y), ha="center", va="center")


def draw_pushes(axes: Axes, letters: ArrayLike, cells: ArrayLike, policy: ArrayLike) -> None:
    """Draw where a policy pushes in each cell of a grid: a triangle a side, darker if likelier.

    Parameters
    ----------
    axes
        Where to draw.
    letters : array (rows, columns) of one-letter strings
        The map; shown where nothing is pushed.
    cells : array (S,) of int
        Which cells the rows of the policy belong to, counted as in `draw_grid`.
    policy : array (S, 4)
        Probabilities of pushing left, down, right and up.
    """
    corners = 0.46 * np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)])
    pushes = np.asarray(policy, dtype=float)
    for centre, shades in zip(_draw_map(axes, letters, cells), pushes, strict=True):
        for side, shade in enumerate(shades):
            ends = centre + corners[[side, (side + 1) % 4]]
            triangle = Polygon(np.vstack([centre, ends]))
            triangle.set(facecolor=ACCENT, edgecolor="none", alpha=0.06 + 0.94 * shade)
            axes.add_patch(triangle)


def _draw_map(axes: Axes, letters: ArrayLike, cells: ArrayLike) -> NDArray[np.int64]:
    """Draw the outlines and letters of a grid; return the cells' centres (S, 2) as x and y."""
    grid = np.asarray(letters)
    used = set(np.asarray(cells).tolist())
    for number, letter in enumerate(grid.ravel()):
        y, x = divmod(number, grid.shape[1])
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="none", edgecolor=FAINT))
        if number not in used:
            axes.annotate(str(letter), (x, y), ha="center", va="center", color=MUTED)
    axes.set(xlim=(-0.5, grid.shape[1] - 0.5), ylim=(grid.shape[0] - 0.5, -0.5), aspect="equal")
    axes.axis("off")
    return np.stack(np.unravel_index(np.asarray(cells), grid.shape)[::-1], axis=1)
