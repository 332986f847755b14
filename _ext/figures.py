"""Show each figure of a chapter twice, drawn for light pages and for dark ones.

A figure leaves its cell as SVG in the inks of :mod:`sc_utils.figures`. Here its ground is taken
away and, for the second drawing, its inks are exchanged for their twins; the page shows the one
that suits it. A picture that does not say in words what it shows is an error.
"""

from __future__ import annotations

import base64
import io
import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

from sc_utils.figures import BY_NIGHT, INK, PAPER

logger = logging.getLogger(__name__)

GROUND = re.compile(rf'<g id="patch_1">\s*<path d="[^"]*" style="fill: {PAPER}[^"]*"/>\s*</g>')
PIXELS = re.compile(r'(?<="data:image/png;base64,)[^"]*')
TWINS = BY_NIGHT | {"#000000": BY_NIGHT[INK], "#ffffff": BY_NIGHT[PAPER]}


class Twin(nodes.image):  # type: ignore[misc]
    """One of the two drawings of a figure; ``size`` is its width and height in px."""


def by_day(svg: str) -> str:
    """Return the drawing without its ground: the page is the ground."""
    return GROUND.sub("", svg)


def by_night(svg: str) -> str:
    """Return the drawing in the inks of a dark page."""
    svg = re.sub("|".join(TWINS), lambda ink: TWINS[ink[0]], by_day(svg))
    svg = PIXELS.sub(lambda png: _pixels_by_night(png[0]), svg)
    return svg.replace("<svg ", f'<svg fill="{BY_NIGHT[INK]}" ', 1)  # SVG's default is black


def _pixels_by_night(png: str) -> str:
    picture = np.array(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"))
    colours = picture[..., :3].astype(int)
    for ink, twin in TWINS.items():
        near = np.abs(colours - _rgb(ink)).max(axis=-1) <= 3  # rounding where it is transparent
        picture[near, :3] = _rgb(twin)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _rgb(colour: str) -> np.ndarray[Any, np.dtype[np.int_]]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def show_twice(app: Sphinx, doctree: nodes.document) -> None:
    """Put a drawing by day and one by night in the place of every figure; ask for alt texts."""
    for image in list(doctree.findall(nodes.image)):
        if not image.get("alt", "").strip():
            logger.warning(
                "a picture without words: say what it shows with `mystnb: {image: {alt: ...}}` in"
                " the cell, or in the brackets of ![...]",
                location=(app.env.docname, _line(image)),
            )
        path = Path(app.env.relfn2path(image["uri"])[1])
        if path.suffix != ".svg" or "jupyter_execute" not in path.parts:
            continue
        svg = path.read_text("utf-8")
        both = nodes.container(classes=["figure-twins"])
        for mode, drawing in (("light", by_day(svg)), ("dark", by_night(svg))):
            drawn = path.with_name(f"{path.stem}-{mode}.svg")
            drawn.write_text(drawing, "utf-8")
            twin = Twin(**image.attributes)
            twin["uri"] = image["uri"].replace(path.name, drawn.name)
            twin["classes"] = [*image["classes"], f"only-{mode}"]
            twin["size"] = _size(svg)
            both += twin
        image.replace_self(both)


def _line(node: nodes.Node) -> int | None:
    """Return the nearest line of the source that is known: of the node, its cell, its section."""
    while node is not None:
        if known := [each.line for each in node.findall() if each.line]:
            return int(known[0])
        node = node.parent
    return None


def _size(svg: str) -> tuple[int, int]:
    """Return width and height in px of a drawing whose sizes are in pt."""
    size = re.search(r'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if size is None:
        raise ValueError(f"no size in the drawing {svg[:300]!r}")
    return round(float(size[1]) * 4 / 3), round(float(size[2]) * 4 / 3)


def visit_twin(translator: HTML5Translator, node: Twin) -> None:
    """Write a drawing with its size, so that nothing moves when it arrives."""
    name = translator.builder.images[node["uri"]]
    width, height = node["size"]
    drawing = {
        "src": posixpath.join(translator.builder.imgpath, quote(name)),
        "alt": node.get("alt", ""),
        "width": width,
        "height": height,
        "loading": "lazy",
    }
    translator.body.append(translator.emptytag(node, "img", "\n", **drawing))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_node(Twin, html=(visit_twin, None))
    app.add_css_file("figures.css")
    app.connect("doctree-read", show_twice, priority=400)  # before Sphinx collects the images
    return {"parallel_read_safe": True, "parallel_write_safe": True}
