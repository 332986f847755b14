"""The claims ledger: what the book says, and why to believe it.

`chapters/claims.yml` lists the claims. This module holds the list to the chapters, the tests and
the bibliography (`faults`), and renders it (``{claims-ledger}``) with links to every theorem, cell
and test. A code cell joins a claim by its metadata: ``:claim: label`` (it checks the claim, with
an ``assert``) or ``:derives: label`` (it derives it).
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from _ext.cells import Cell, read_cells

SOURCES = {"paper": "primary", "classical": "secondary", "ours": "success"}  # and their badges
CLAIMING = {"theorem", "lemma", "proposition", "corollary"}  # examples may be claims
LINKS = {"claim": "cell", "derives": "derivation"}  # cell metadata -> prefix of the cell's anchor

PROOF_DIRECTIVE = re.compile(r"\s*[`:]{3,}\{prf:(\w+)\}")
EQUATION_LABEL = re.compile(r"\s*\$\$\s*\(([\w-]+)\)\s*$")
OPTION = re.compile(r"\s*:[\w-]+:")
LABEL_OPTION = re.compile(r"\s*:label:\s*(\S+)")


@dataclass(frozen=True)
class Claim:
    """One row of the ledger; `derivation` and `counterexample` may be ``{"none": reason}``."""

    label: str
    statement: str
    source: str
    chapter: str
    checks: list[str]
    derivation: str | dict[str, str]
    counterexample: str | dict[str, str]
    cite: list[str]
    paper: str = ""


@dataclass(frozen=True)
class Chapter:
    """What the ledger sees of a chapter: its cells, its statements and its labelled equations."""

    cells: list[Cell]
    statements: dict[str, str]  # label -> kind of `prf:` directive; without a label, its line
    equations: set[str]

    def cells_with(self, key: str, label: str) -> list[Cell]:
        """Return the cells whose metadata `key` names `label`."""
        return [cell for cell in self.cells if label in cell.names(key)]


def read_claims(path: Path) -> list[Claim]:
    """Read the ledger; a row with a missing or unknown entry is refused by its label."""
    claims = []
    for row in yaml.safe_load(path.read_text(encoding="utf-8")):
        try:
            claims.append(Claim(**row))
        except TypeError as error:
            reason = str(error).removeprefix("Claim.__init__() ")
            raise ValueError(f"{path.name}: claim {row.get('label')}: {reason}") from None
    return claims


def read_chapter(text: str) -> Chapter:
    """Read a chapter's cells and labels."""
    statements: dict[str, str] = {}
    equations: set[str] = set()
    lines = text.splitlines()
    for row, line in enumerate(lines):
        label = _label(lines[row + 1 :])
        if directive := PROOF_DIRECTIVE.match(line):
            statements[label or f"at line {row + 1}"] = directive[1]
        elif "{math}" in line and label:
            equations.add(label)
        elif equation := EQUATION_LABEL.match(line):
            equations.add(equation[1])
    return Chapter(read_cells(text), statements, equations)


def known_tests(root: Path) -> dict[str, int]:
    """Return every test function under `root`/tests by its pytest id, with its line."""
    found = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for scope, body in [("", tree.body), *((f"{c.name}::", c.body) for c in _classes(tree))]:
            for item in body:
                if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
                    found[f"{path.relative_to(root)}::{scope}{item.name}"] = item.lineno
    return found


def faults(
    claims: Iterable[Claim],
    chapters: Mapping[str, Chapter],
    tests: Iterable[str],
    keys: Iterable[str],
) -> list[str]:
    """Return everything that keeps the ledger from being true, one sentence each.

    Parameters
    ----------
    claims
        The rows of the ledger.
    chapters
        The chapters by name (``imitating_success``), as `read_chapter` sees them.
    tests
        The pytest ids that exist.
    keys
        The citation keys of the bibliography.
    """
    claims, tests, keys = list(claims), set(tests), set(keys)
    labels = [claim.label for claim in claims]
    found = [
        f"{label}: listed twice" for label in sorted({x for x in labels if labels.count(x) > 1})
    ]
    for claim in claims:
        chapter = chapters.get(claim.chapter)
        reasons = [*_faults_of_row(claim, tests, keys)]
        if chapter is None:
            reasons.append(f"there is no chapter {claim.chapter}")
        else:
            reasons += _faults_in_chapter(claim, chapter)
        found += [f"{claim.label}: {reason}" for reason in reasons]
    for name, chapter in chapters.items():
        unlisted = {
            label: f"{kind} {label}"
            for label, kind in chapter.statements.items()
            if kind in CLAIMING
        }
        for cell in chapter.cells:
            for key in LINKS:
                unlisted |= {label: f"a cell's {key} {label}" for label in cell.names(key)}
        found += [
            f"{name}: {what} is not in the ledger"
            for label, what in unlisted.items()
            if label not in labels
        ]
    return found


def _faults_of_row(claim: Claim, tests: set[str], keys: set[str]) -> Iterator[str]:
    if claim.source not in SOURCES:
        yield f"source {claim.source} is none of {', '.join(SOURCES)}"
    if claim.source != "ours" and not claim.cite:
        yield f"source {claim.source} needs a citation"
    if (claim.source == "paper") != bool(claim.paper):
        yield "`paper` gives the number of a statement of the paper, and of nothing else"
    yield from (f"unknown citation key {key}" for key in claim.cite if key not in keys)
    if not claim.checks:
        yield "no test checks it"
    named = [*claim.checks, claim.derivation, claim.counterexample]
    for item in named:
        if isinstance(item, dict):
            if list(item) != ["none"] or not item["none"]:
                yield f"{item} should be {{none: reason}}"
        elif item != "cell" and item.partition("[")[0] not in tests:
            yield f"there is no test {item}"


def _faults_in_chapter(claim: Claim, chapter: Chapter) -> Iterator[str]:
    if claim.label not in chapter.statements and claim.label not in chapter.equations:
        yield f"{claim.chapter} has no statement or equation of that label"
    cells = chapter.cells_with("claim", claim.label)
    if not cells:
        yield f"{claim.chapter} has no cell that shows it"
    for cell in cells:
        if not _asserts(cell.source):
            yield f"the cell at line {cell.line} of {claim.chapter} asserts nothing"
    if claim.derivation == "cell" and not chapter.cells_with("derives", claim.label):
        yield f"{claim.chapter} has no cell that derives it"


def _asserts(source: str) -> bool:
    """Whether a cell has an ``assert``, or calls such as ``np.testing.assert_allclose``."""
    code = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and ".testing.assert_" in ast.unparse(node.func))
        for node in ast.walk(ast.parse(code))
    )


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [item for item in tree.body if isinstance(item, ast.ClassDef)]


def _label(options: Iterable[str]) -> str | None:
    """Return the ``:label:`` among the option lines that open a directive's body."""
    for line in options:
        if found := LABEL_OPTION.match(line):
            return found[1]
        if not OPTION.match(line):
            break
    return None


class ClaimsLedger(SphinxDirective):
    """Render the ledger, chapter by chapter, one card a claim."""

    def run(self) -> list[nodes.Node]:
        """Return a rubric per chapter and a card per claim, each anchored ``claim-<label>``."""
        self.env.note_reread()
        root = Path(self.env.srcdir)
        claims = read_claims(root / "chapters/claims.yml")
        tests = known_tests(root)
        repository = self.config.html_theme_options.get("repository_url", "")
        rendered: list[nodes.Node] = []
        for name in dict.fromkeys(claim.chapter for claim in claims):
            chapter = read_chapter((root / f"chapters/{name}.md").read_text(encoding="utf-8"))
            rendered += self._parse([f":::{{rubric}} {{doc}}`/chapters/{name}`", ":::"]).children
            for claim in claims:
                if claim.chapter == name:
                    card = self._parse(_card(claim, chapter, tests, repository))
                    _anchor(self.env, card, f"claim-{claim.label}")
                    rendered.append(card)
        return rendered

    def _parse(self, lines: list[str]) -> nodes.container:
        content = nodes.container()
        self.state.nested_parse(StringList(lines, source="chapters/claims.yml"), 0, content)
        return content


def _card(claim: Claim, chapter: Chapter, tests: Mapping[str, int], repository: str) -> list[str]:
    """Return the Markdown of one claim: where it comes from, what it says, why to believe it."""

    def cells(key: str) -> str:
        anchors = _cell_anchors(key, claim.label, len(chapter.cells_with(key, claim.label)))
        return ", ".join(f"{{ref}}`cell {n} <{name}>`" for n, name in enumerate(anchors, start=1))

    def evidence(item: str | dict[str, str]) -> str:
        if isinstance(item, dict):
            return f"none: {item['none']}"
        if item == "cell":
            return cells("derives")
        path, _, name = item.partition("::")
        line = tests[item.partition("[")[0]]
        return f"[`{name}`]({repository}/blob/main/{path}#L{line})"

    reference = "prf:ref" if claim.label in chapter.statements else "eq"
    origin = f"{{bdg-{SOURCES[claim.source]}-line}}`{claim.source}` {claim.paper}"
    if claim.cite:
        origin += f" {{cite}}`{','.join(claim.cite)}`"
    return [
        "::::{card}",
        ":class-card: claim",
        "",
        ":::{card-header}",
        f"{{{reference}}}`{claim.label}` {origin}",
        ":::",
        claim.statement,
        ":::{card-footer}",
        f"- Shown: {cells('claim')}",
        f"- Derived: {evidence(claim.derivation)}",
        f"- Checked: {', '.join(map(evidence, claim.checks))}",
        f"- Breaks: {evidence(claim.counterexample)}",
        ":::",
        "::::",
    ]


def link_cells(app: Sphinx, doctree: nodes.document) -> None:
    """Anchor the cells that check or derive a claim, and lead from each check to the ledger."""
    seen: Counter[tuple[str, str]] = Counter()
    for container in list(doctree.findall(nodes.container)):
        if container.get("nb_element") != "cell_code":
            continue
        cell = Cell(0, "", container["cell_metadata"])
        for key in LINKS:
            for label in cell.names(key):
                seen[key, label] += 1
                _anchor(app.env, container, _cell_anchors(key, label, seen[key, label])[-1])
        if labels := cell.names("claim"):
            place = container.parent.index(container) + 1
            container.parent.insert(place, _way_to_ledger(labels, app.env.docname))


def _way_to_ledger(labels: list[str], docname: str) -> nodes.paragraph:
    paragraph = nodes.paragraph("", "Claim in the ledger: ", classes=["claim-link"])
    for number, label in enumerate(labels):
        paragraph += nodes.Text(", " if number else "")
        paragraph += addnodes.pending_xref(
            "",
            nodes.inline("", label),
            refdomain="std",
            reftype="ref",
            reftarget=f"claim-{label}",
            refexplicit=True,
            refdoc=docname,
            refwarn=True,
        )
    return paragraph


def _cell_anchors(key: str, label: str, count: int) -> list[str]:
    """Name the anchors of the `count` cells that carry `label`: cell-x, cell-x-2, ..."""
    return [f"{LINKS[key]}-{label}" + f"-{n}" * (n > 1) for n in range(1, count + 1)]


def _anchor(env: BuildEnvironment, node: nodes.Element, name: str) -> None:
    node["ids"].append(name)
    env.get_domain("std").data["anonlabels"][name] = env.docname, name


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the links from the chapters."""
    app.add_directive("claims-ledger", ClaimsLedger)
    app.connect("doctree-read", link_cells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
