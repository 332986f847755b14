"""Mend the pages that the theme writes: names, landmarks, disclosures, scripts too many.

Sphinx renders every page through its template bridge. Ours renders as Sphinx's own does, then
copies the page tag by tag and rewrites the few tags that :meth:`Mended.mend` answers for.
"""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser
from typing import Any, NamedTuple

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.jinja2glue import BuiltinTemplateLoader

Attributes = dict[str, str | None]

# The identifier of every theorem's body, of every exercise's and of every solution's.
BODIES = {"proof-content", "exercise-content", "solution-content"}

# Before the first paint; the theme's own script asks for the reader's preference only after it.
RESOLVE_THEME = (
    'if (document.documentElement.dataset.theme === "auto") document.documentElement.dataset.theme'
    ' = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";'
)

# Fetched at once, so that the text need not change its face, and its length, after the first paint.
FONTS = ("source-serif-4.woff2", "source-serif-4-italic.woff2")


class Renamed(NamedTuple):
    """An open element under another name: its old name, its depth among those, its new name."""

    old: str
    depth: int
    new: str


def start(tag: str, attributes: Attributes) -> str:
    """Write a start tag.

    >>> start("button", {"type": "button", "disabled": None})
    '<button type="button" disabled>'
    """
    parts = (name if v is None else f'{name}="{escape(v)}"' for name, v in attributes.items())
    return f"<{' '.join((tag, *parts))}>"


def without(attributes: Attributes, *names: str) -> Attributes:
    """Return the attributes but for the named ones."""
    return {name: value for name, value in attributes.items() if name not in names}


class Mended(HTMLParser):
    """A page as the theme wrote it, but for the tags that ``mend`` answers for.

    >>> str(Mended('<div class="dropdown admonition"><p class="admonition-title">T</p>x</div>'))
    '<details class="dropdown admonition"><summary class="admonition-title">T</summary>x</details>'
    >>> str(Mended('<div class="proof admonition" id="proof"><p>Proof. Expand.</p></div>'))
    '<div class="proof admonition"><p class="admonition-title">Proof</p><p>Expand.</p></div>'
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=False)
        self.written: list[str] = []
        self.depth: dict[str, int] = {}
        self.renamed: list[Renamed] = []
        self.title_due = False  # of a disclosure that was just opened
        self.word_due = ""  # that opens a text and now stands in the title
        self.dropping = False  # within a script that is left out
        self.feed(page)
        self.close()

    def __str__(self) -> str:
        return "".join(self.written)

    def mend(self, tag: str, attributes: Attributes) -> tuple[str, Attributes]:
        """Return the tag and the attributes to write."""
        classes = set((attributes.get("class") or "").split())
        name = attributes.get("id") or ""
        match tag:
            case "html":
                return tag, attributes | {"data-theme": "light"}  # until a script says otherwise
            case "div" if {"admonition", "dropdown"} <= classes:
                # Opens without a script and by keyboard; a search in the page looks inside.
                self.title_due = True
                return "details", attributes
            case "p" if self.title_due and "admonition-title" in classes:
                self.title_due = False
                return "summary", attributes
            case "a" if any(element.new == "summary" for element in self.renamed):
                return "span", {}  # a link within what opens and shuts could not be told apart
            case "summary":  # of a hidden cell: the label would hide the words that are seen
                return tag, without(attributes, "aria-label")
            case "p" if "admonition-title" in classes and classes & {"collapsed", "expanded"}:
                return "span", attributes  # inside that summary, which may hold no paragraph
            case "section" if name in BODIES:
                return "div", without(attributes, "id")
            case "button" if "search-button-field" in classes:
                return tag, without(attributes, "aria-label")
            case "button" if "theme-switch-button" in classes:
                return tag, attributes | {"aria-label": "Theme", "data-bs-title": "Theme"}
            case "i" if classes & {"fa-solid", "fas", "fab"}:  # an icon: the name is its button's
                return tag, without(attributes, "title") | {"aria-hidden": "true"}
            case "div" if classes & {"citation", "citation-list"}:
                return tag, without(attributes, "role")  # one is deprecated, one is not a list
            case "div" if name == "pst-primary-sidebar":
                return tag, attributes | {"role": "complementary", "aria-label": "Book"}
        return tag, attributes

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.depth[tag] = self.depth.get(tag, 0) + 1
        # The icons are drawn by the style sheets' fonts: the script only draws them again.
        source = attributes.get("src") or ""
        self.dropping = tag == "script" and "scripts/fontawesome.js" in source
        if self.dropping:
            return
        proof = attributes.get("id") == "proof"  # every proof's
        new, mended = self.mend(tag, without(attributes, "id") if proof else attributes)
        if new != tag:
            self.renamed.append(Renamed(tag, self.depth[tag], new))
        if new == tag and mended == attributes:
            self.written.append(self.get_starttag_text() or "")
        else:
            self.written.append(start(new, mended))
        if proof:
            self.word_due = "Proof. "
            title, self.title_due = "summary" if self.title_due else "p", False
            self.written.append(f'<{title} class="admonition-title">Proof</{title}>')

    def handle_endtag(self, tag: str) -> None:
        if self.renamed and self.renamed[-1][:2] == (tag, self.depth.get(tag)):
            self.written.append(f"</{self.renamed.pop().new}>")
        elif not self.dropping:
            self.written.append(f"</{tag}>")
        self.dropping = False
        self.depth[tag] = self.depth.get(tag, 0) - 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.written.append(self.get_starttag_text() or "")

    def handle_data(self, data: str) -> None:
        if self.word_due and data.startswith(self.word_due):
            data, self.word_due = data.removeprefix(self.word_due), ""
        self.written.append(data)

    def handle_entityref(self, name: str) -> None:
        self.written.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.written.append(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        self.written.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self.written.append(f"<!{decl}>")


class Templates(BuiltinTemplateLoader):
    """Sphinx's own templates, their pages mended."""

    def render(self, template: str, context: dict[str, Any]) -> str:  # type: ignore[override]
        """Render a page."""
        return str(Mended(super().render(template, context)))


def use_templates(app: Sphinx, config: Config) -> None:
    """Make the builder render with :class:`Templates`."""
    config.template_bridge = f"{__name__}.{Templates.__name__}"


def preload_fonts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Name the fonts in a page's head, before the style sheet that asks for them."""
    for font in FONTS:
        url = context["pathto"](f"_static/fonts/{font}", resource=True)
        link = f'<link rel="preload" as="font" type="font/woff2" crossorigin="" href="{url}">'
        context["metatags"] = context.get("metatags", "") + link + "\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_js_file(None, body=RESOLVE_THEME)
    app.connect("config-inited", use_templates)
    app.connect("html-page-context", preload_fonts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
