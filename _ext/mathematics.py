"""Typeset the mathematics when the site is built: SVG for the eye, MathML for the ear.

A page then needs neither a script nor another host, and nothing moves while it loads. MathJax 3
runs inside V8 in this process; no Node, no browser. The glyphs a page uses are drawn once, at its
top, in the colour of the text around them, and every formula refers to them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
RENDERER = "build_time"
CLASSES = "math notranslate nohighlight"
BUNDLE = ["loader", "core", "adaptors/liteDOM", "input/tex-full", "output/svg"]
BUNDLE += ["output/svg/fonts/tex"]
WIDE = 30  # ex: what a narrow telephone shows of a line
PUNCTUATION = re.compile(r"[.,;:!?)]+")
GLYPH = re.compile(r'<path id="MJX-\d+-([^"]+)" d="([^"]*)"></path>')


class TeXError(ValueError):
    """TeX that MathJax cannot read."""


@dataclass(frozen=True)
class Formula:
    """A typeset formula: its parts in HTML, its width in ex, and the outlines of its glyphs."""

    svg: str
    mathml: str
    width: float
    descent: str
    glyphs: dict[str, str]


class Typesetter:
    """MathJax with a set of macros, and a memory of what it has typeset."""

    def __init__(self, macros: dict[str, str], memory: Path) -> None:
        self._macros = macros
        self._memory = memory
        self._engine: MiniRacer | None = None
        self._used: dict[str, Formula] = {}
        release = importlib.metadata.version("sphinx-mathjax-offline")
        basis = [
            release,
            json.dumps(macros),
            *(p.read_text() for p in sorted(HERE.glob("math*.*"))),
        ]
        self._key = hashlib.sha256("\0".join(basis).encode()).hexdigest()
        self._known: dict[str, Formula] = {}
        if memory.exists():
            stored = json.loads(memory.read_text("utf-8"))
            if stored["key"] == self._key:
                self._known = {k: Formula(**v) for k, v in stored["formulas"].items()}

    def __call__(self, tex: str, *, display: bool) -> Formula:
        """Typeset ``tex``, on a line of its own if ``display``.

        Raises
        ------
        TeXError
            With MathJax's reason, if it cannot be read.
        """
        name = f"{'display' if display else 'inline'} {tex}"
        if name not in self._used:
            self._used[name] = self._known.get(name) or self._typeset(tex, display)
        return self._used[name]

    def glyphs(self, names: set[str]) -> str:
        """Return the definitions of the glyphs of these names."""
        outlines: dict[str, str] = {}
        for formula in self._used.values():
            outlines |= formula.glyphs
        return "".join(f'<path id="{name}" d="{outlines[name]}"/>' for name in sorted(names))

    def close(self) -> None:
        """Remember for the next build what this one used, and let go of V8."""
        if self._engine is not None:
            self._engine.close()
        formulas = {name: asdict(formula) for name, formula in sorted(self._used.items())}
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        self._memory.write_text(json.dumps({"key": self._key, "formulas": formulas}), "utf-8")

    def _typeset(self, tex: str, display: bool) -> Formula:
        if self._engine is None:
            self._engine = MiniRacer()
            for script in BUNDLE:
                path = f"sphinx-mathjax-offline/static/mathjax/{script}.js"
                source = importlib.metadata.distribution("sphinx-mathjax-offline").locate_file(path)
                self._engine.eval(Path(str(source)).read_text("utf-8"))
            self._engine.eval((HERE / "mathematics.js").read_text("utf-8"))
            self._engine.eval(f"const typeset = typesetter({json.dumps(self._macros)})")
        result = self._engine.call("typeset", tex, display)
        if "error" in result:
            raise TeXError(result["error"])
        return _formula(**result)


def _formula(svg: str, mathml: str) -> Formula:
    glyphs = dict(GLYPH.findall(svg))
    size = re.search(r'<svg style="vertical-align: ([^;"]+);?" [^>]*?width="([\d.]+)ex"', svg)
    if size is None:
        raise TeXError(r"no fixed width (\tag is not for this book: number equations with a label)")
    svg = re.sub(r"<defs>.*?</defs>", "", svg, count=1)
    svg = re.sub(r' (data-[\w-]+|xmlns(:xlink)?|role)="[^"]*"', "", svg)
    svg = re.sub(r'xlink:href="#MJX-\d+-', 'href="#', svg)
    svg = svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
    svg = re.sub(r"></(use|path|rect|line)>", "/>", svg)
    mathml = re.sub(r"\n\s*", "", mathml)
    mathml = re.sub(r' (data-[\w-]+)="[^"]*"', "", mathml)
    return Formula(svg, mathml, float(size[2]), size[1], glyphs)


def _displayed(tex: str) -> str:
    """Return the source of a displayed formula as Sphinx means it: blank lines part its rows."""
    rows = [
        rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part
        for part in tex.split("\n\n")
        if part.strip()
    ]
    joined = r" \\ ".join(rows)
    return joined if len(rows) == 1 else rf"\begin{{aligned}}{joined}\end{{aligned}}"


def _html(formula: Formula, name: str, *, display: bool) -> str:
    """Return the formula in HTML; one that may not fit scrolls in a box of its own."""
    parts = f'{formula.svg}<span class="math-spoken">{formula.mathml}</span>'
    if formula.width <= WIDE:
        return f'<span class="math-box">{parts}</span>'
    style = "" if display else f' style="vertical-align: {formula.descent}"'
    return (
        f'<span class="math-box math-wide" role="group" aria-label="{name}" tabindex="0"{style}>'
        f"{parts}</span>"
    )


class Mathematics:
    """What Sphinx calls while it builds."""

    typeset: Typesetter

    def start(self, app: Sphinx, config: Config) -> None:
        """Take over the mathematics of the HTML pages."""
        notation = Path(app.srcdir) / "chapters" / "notation.yml"
        table = yaml.safe_load(notation.read_text("utf-8")) if notation.exists() else {}
        memory = Path(app.outdir).parent / ".mathematics.json"
        self.typeset = Typesetter(table.get("macros", {}), memory)
        config.html_math_renderer = RENDERER
        config.html_static_path.append(str(HERE / "static"))

    def join_punctuation(self, app: Sphinx, doctree: nodes.document, page: str) -> None:
        """Keep a comma or a full stop on the line of the formula before it."""
        if app.builder.format != "html":
            return
        for node in list(doctree.findall(nodes.math)):
            after = node.next_node(descend=False, siblings=True)
            mark = PUNCTUATION.match(after.astext()) if isinstance(after, nodes.Text) else None
            if mark and not self._is_wide(node):
                # By its place: `replace` would take the first text that reads the same.
                node.parent[node.parent.index(node) + 1] = nodes.Text(after.astext()[mark.end() :])
                pair = nodes.inline(classes=["math-joint"])
                node.replace_self(pair)
                pair += [node, nodes.Text(mark[0])]

    def _is_wide(self, node: nodes.math) -> bool:
        try:
            return self.typeset(node.astext(), display=False).width > WIDE
        except TeXError:
            return True

    def visit_inline(self, translator: HTML5Translator, node: nodes.math) -> None:
        """Write a formula in the line."""
        html = self._html(translator, node, node.astext(), _("Formula"))
        translator.body.append(translator.starttag(node, "span", "", CLASS=CLASSES))
        translator.body.append(f"{html}</span>")
        raise nodes.SkipNode

    def visit_block(self, translator: HTML5Translator, node: nodes.math_block) -> None:
        """Write a formula on a line of its own, with its number if it has one."""
        tex = node.astext() if node["nowrap"] else _displayed(node.astext())
        name = _("Formula")
        translator.body.append(translator.starttag(node, "div", "", CLASS=CLASSES))
        if node["number"]:
            number = get_node_equation_number(translator, node)
            name = _("Equation %s") % number
            translator.body.append(f'<span class="eqno">({number})')
            translator.add_permalink_ref(node, _("Link to this equation"))
            translator.body.append("</span>")
        translator.body.append(f"{self._html(translator, node, tex, name)}</div>\n")
        raise nodes.SkipNode

    def _html(self, translator: HTML5Translator, node: nodes.Element, tex: str, name: str) -> str:
        display = isinstance(node, nodes.math_block)
        try:
            return _html(self.typeset(tex, display=display), name, display=display)
        except TeXError as error:
            logger.warning("TeX: %s: %s", error, node.astext(), location=node)
            return f"<code>{translator.encode(node.astext())}</code>"

    def add_glyphs(
        self, app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
    ) -> None:
        """Put the outlines that the page's formulas refer to at its top."""
        used = set(re.findall(r'<use [^>]*?href="#([^"]+)"', context.get("body", "")))
        if used:
            defs = f"<defs>{self.typeset.glyphs(used)}</defs>"
            svg = f'<svg class="math-glyphs" aria-hidden="true">{defs}</svg>'
            context["body"] = svg + context["body"]

    def finish(self, app: Sphinx, exception: Exception | None) -> None:
        """Keep the formulas for the next build."""
        self.typeset.close()


def refuse_in_title(app: Sphinx, doctree: nodes.document) -> None:
    """Warn of mathematics in a page's title: it travels to menus and tabs, which show text only."""
    title = next(doctree.findall(nodes.title), None)
    if title is not None and next(title.findall(nodes.math), None) is not None:
        logger.warning(
            "a page's title is shown where mathematics is not; use words", location=title
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    mathematics = Mathematics()
    app.add_html_math_renderer(
        RENDERER, (mathematics.visit_inline, None), (mathematics.visit_block, None)
    )
    app.add_css_file("mathematics.css")
    app.connect("config-inited", mathematics.start)
    app.connect("doctree-read", refuse_in_title)
    app.connect("doctree-resolved", mathematics.join_punctuation)
    app.connect("html-page-context", mathematics.add_glyphs)
    app.connect("build-finished", mathematics.finish)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
