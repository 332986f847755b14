"""The inks can be told apart by every eye and printer; a figure is the same file every time."""

import base64
import io
import itertools
import re
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from PIL import Image

from _ext.figures import by_day, by_night
from sc_utils import figures

INKS = [figures.ACCENT, figures.SUCCESS, figures.FAILURE, figures.RIVAL, figures.BEHAVIOUR]
BY_DAY = dict(zip(INKS, INKS, strict=True))
PAGES = pytest.mark.parametrize(
    ("ink", "paper"),
    [
        (BY_DAY | {figures.INK: figures.INK, figures.MUTED: figures.MUTED}, figures.PAPER),
        (figures.BY_NIGHT, figures.BY_NIGHT[figures.PAPER]),
    ],
    ids=["day", "night"],
)

# How eyes without one kind of cone see linear sRGB (Machado, Oliveira and Fernandes 2009, table 1).
EYES = {
    "all cones": np.eye(3),
    "no long": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no medium": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no short": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> np.ndarray:
    c = np.array(colors.to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson's perceptual coordinates of linear sRGB."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    opponent = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return opponent @ np.cbrt(cones @ np.clip(rgb, 0, None))


@PAGES
def test_lines_stand_out_from_the_page_and_words_can_be_read(
    ink: dict[str, str], paper: str
) -> None:
    """WCAG 2.2: 3 for graphics, 4.5 for text."""
    assert all(contrast(ink[colour], paper) >= 3 for colour in INKS)
    assert all(contrast(ink[words], paper) >= 4.5 for words in (figures.INK, figures.MUTED))


@PAGES
@pytest.mark.parametrize("eyes", EYES)
def test_every_eye_tells_the_inks_apart(ink: dict[str, str], paper: str, eyes: str) -> None:
    """0.02 is just noticeable in Oklab, 0.08 is easily seen."""
    seen = [oklab(np.array(EYES[eyes]) @ linear(ink[colour])) for colour in INKS]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(distances) >= 0.08


@PAGES
def test_a_grey_printer_tells_the_inks_apart(ink: dict[str, str], paper: str) -> None:
    """By at least five of the hundred steps of CIE lightness."""
    lightness = sorted(116 * np.cbrt(luminance(ink[colour])) - 16 for colour in INKS)
    assert min(np.diff(lightness)) >= 5


def test_every_ink_has_a_twin_and_no_twin_is_an_ink() -> None:
    inks = {value for name, value in vars(figures).items() if name.isupper() and _is_ink(value)}
    assert inks == set(figures.BY_NIGHT)
    assert not inks & set(figures.BY_NIGHT.values())


def _is_ink(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"#[0-9a-f]{6}", value) is not None


@pytest.fixture(autouse=True)
def book_style() -> Iterator[None]:
    with mpl.rc_context():
        figures.use_book_style()
        yield


def drawing(points: int = 10) -> str:
    """A figure with a bit of everything, as a cell would leave it."""
    figure = Figure()
    axes = figure.add_subplot(title="Title", xlabel=r"$\chi^2$", ylabel="rate")
    for k in range(5):
        axes.plot([0, 1], [k, k + 1], label=str(k))
    axes.bar([0.2, 0.3], [2, 3], width=0.1, color=figures.RIVAL, hatch="/")
    axes.fill_between([0, 1], [0, 0], [1, 2], color=figures.FAINT)
    axes.text(0.5, 0.5, "black", color="k")
    axes.grid()
    axes.legend()
    rng = np.random.default_rng(0)
    figures.cloud(axes, rng.random(points), rng.random(points), color=figures.SUCCESS)
    file = io.StringIO()
    FigureCanvasSVG(figure).print_figure(
        file, format="svg", bbox_inches="tight", metadata={"Date": None}
    )
    return file.getvalue()


def colours(svg: str) -> set[str]:
    return set(re.findall(r"#[0-9a-f]{6}\b", svg))


def test_the_same_figure_is_the_same_file() -> None:
    assert drawing() == drawing()
    assert "<dc:date>" not in drawing()


def test_nothing_is_drawn_in_a_colour_that_is_no_ink() -> None:
    assert colours(drawing()) <= set(figures.BY_NIGHT)


def test_by_day_only_the_ground_is_gone() -> None:
    svg = drawing()
    ground = re.search(r'<g id="patch_1">.*?</g>', svg, re.DOTALL)
    assert ground is not None
    assert figures.PAPER in ground[0]
    assert by_day(svg) == svg.replace(ground[0], "")


def test_by_night_every_ink_is_its_twin() -> None:
    day, night = by_day(drawing()), by_night(drawing())
    assert {figures.BY_NIGHT[ink] for ink in colours(day)} <= colours(night)
    assert not colours(night) & set(figures.BY_NIGHT)


def test_black_words_can_be_read_by_night() -> None:
    """Matplotlib leaves black out of the file, since it is SVG's default."""
    assert f'<svg fill="{figures.BY_NIGHT[figures.INK]}"' in by_night(drawing())


def pixels(svg: str) -> np.ndarray:
    (png,) = re.findall(r"data:image/png;base64,([^\"]*)", svg)
    return np.array(Image.open(io.BytesIO(base64.b64decode(png))))


def test_a_large_cloud_is_pixels_and_a_small_one_is_not() -> None:
    assert "data:image/png" not in drawing(figures.CLOUD)
    assert "data:image/png" in drawing(figures.CLOUD + 1)


def test_by_night_the_pixels_of_a_cloud_are_the_twin_of_its_ink() -> None:
    picture = pixels(by_night(drawing(figures.CLOUD + 1)))
    strong = picture[picture[..., 3] > 64]
    twin = 255 * np.array(colors.to_rgb(figures.BY_NIGHT[figures.SUCCESS]))
    assert len(strong) > 1000
    assert np.abs(strong[:, :3] - twin).max() <= 3


MAP = [["S", "F", "H"], ["F", "F", "G"]]
CELLS = [0, 1, 3, 4]


@pytest.fixture
def axes() -> Axes:
    return Figure().subplots()


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_a_shift_says_where_it_ends(axes: Axes) -> None:
    figures.draw_shift(axes, ["one", "two"], [0.5, 0.25], [0.75, 1.0])
    assert words(axes) == ["0.750", "1.000"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]


def test_a_grid_has_its_numbers_in_place_and_the_larger_are_darker(axes: Axes) -> None:
    figures.draw_grid(axes, MAP, CELLS, [0.25, 0.5, 1.0, 2.0])
    assert sorted(words(axes)) == ["0.25", "0.50", "1.00", "2.00", "G", "H"]
    places = {text.get_text(): text.xy for text in axes.texts}
    assert tuple(places["1.00"]) == (0, 1)
    assert tuple(places["G"]) == (2, 1)
    shades = [patch.get_alpha() for patch in axes.patches if patch.get_alpha() is not None]
    np.testing.assert_allclose(shades, 0.5 * np.array([0.125, 0.25, 0.5, 1.0]))


def test_pushes_are_triangles_on_the_side_of_the_push(axes: Axes) -> None:
    figures.draw_pushes(axes, MAP, CELLS, np.tile([0.1, 0.2, 0.3, 0.4], (4, 1)))
    triangles = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    middles = np.array([patch.get_xy()[:3].mean(axis=0) for patch in triangles[:4]])  # of cell 0
    np.testing.assert_array_equal(np.sign(middles.round(6)), [(-1, 0), (0, 1), (1, 0), (0, -1)])
    shades = [patch.get_alpha() for patch in triangles[:4]]
    np.testing.assert_allclose(shades, 0.06 + 0.94 * np.array([0.1, 0.2, 0.3, 0.4]))


def test_outside_a_notebook_only_the_style_is_set() -> None:
    assert mpl.rcParams["svg.hashsalt"] == "success-conditioning"
    assert mpl.rcParams["text.color"] == figures.INK
