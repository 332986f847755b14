"""The claims ledger tells the truth, and every way of lying in it is caught."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from _ext.cells import chapters
from _ext.ledger import Chapter, Claim, faults, known_tests, read_chapter, read_claims

ROOT = Path(__file__).resolve().parents[2]

CHAPTER = r"""# Sums

```{prf:theorem} Sum of two
:label: sum-of-two
One and one is two.
```

:::{prf:definition} Two
:label: two
The successor of one.
:::

$$
1 + 1 = 2
$$ (eq-sum)

```{code-cell} ipython3
:derives: sum-of-two
"one" + "one"
```

```{code-cell} ipython3
:claim: sum-of-two eq-sum
assert 1 + 1 == 2
```
"""
TESTS = {"tests/test_sums.py::test_sum", "tests/test_sums.py::test_three_is_not_two"}
KEYS = {"peano1889"}
SUM = Claim(
    label="sum-of-two",
    statement="One and one is two.",
    source="classical",
    cite=["peano1889"],
    chapter="sums",
    derivation="cell",
    checks=["tests/test_sums.py::test_sum[decimal]"],
    counterexample="tests/test_sums.py::test_three_is_not_two",
)
EQUATION = replace(SUM, label="eq-sum", source="ours", cite=[], derivation={"none": "a number"})


def judged(*claims: Claim, chapter: str = CHAPTER) -> list[str]:
    return faults(claims, {"sums": read_chapter(chapter)}, TESTS, KEYS)


def test_the_ledger_of_the_book_has_no_fault() -> None:
    read = {name: read_chapter(path.read_text("utf-8")) for name, path in chapters().items()}
    keys = re.findall(r"^@\w+\{([^,\s]+)", (ROOT / "chapters/references.bib").read_text(), re.M)
    claims = read_claims(ROOT / "chapters/claims.yml")
    assert faults(claims, read, known_tests(ROOT), keys) == []


def test_every_chapter_makes_a_claim() -> None:
    claims = read_claims(ROOT / "chapters/claims.yml")
    assert {claim.chapter for claim in claims} == set(chapters())


def test_a_true_ledger_has_no_fault() -> None:
    assert judged(SUM, EQUATION) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"checks": []}, "sum-of-two: no test checks it"),
        (
            {"checks": ["tests/test_sums.py::test_gone"]},
            "sum-of-two: there is no test tests/test_sums.py::test_gone",
        ),
        (
            {"derivation": "tests/test_sums.py::test_gone"},
            "sum-of-two: there is no test tests/test_sums.py::test_gone",
        ),
        (
            {"counterexample": "tests/test_sums.py::test_gone"},
            "sum-of-two: there is no test tests/test_sums.py::test_gone",
        ),
        (
            {"counterexample": {"none": ""}},
            "sum-of-two: {'none': ''} should be {none: reason}",
        ),
        ({"cite": ["peano1888"]}, "sum-of-two: unknown citation key peano1888"),
        ({"cite": []}, "sum-of-two: source classical needs a citation"),
        ({"source": "folklore"}, "sum-of-two: source folklore is none of paper, classical, ours"),
        (
            {"source": "paper"},
            "sum-of-two: `paper` gives the number of a statement of the paper, and of nothing else",
        ),
        ({"chapter": "products"}, "sum-of-two: there is no chapter products"),
    ],
)
def test_a_false_row_is_caught(change: dict[str, object], fault: str) -> None:
    assert judged(replace(SUM, **change), EQUATION) == [fault]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            ":claim: sum-of-two eq-sum",
            ":claim: eq-sum",
            "sum-of-two: sums has no cell that shows it",
        ),
        (
            "assert 1 + 1 == 2",
            "1 + 1 == 2",
            "sum-of-two: the cell at line 24 of sums asserts nothing",
        ),
        (
            ":derives: sum-of-two\n",
            "",
            "sum-of-two: sums has no cell that derives it",
        ),
    ],
)
def test_a_chapter_that_does_not_keep_its_claim_is_caught(old: str, new: str, fault: str) -> None:
    assert fault in judged(SUM, EQUATION, chapter=CHAPTER.replace(old, new))


def test_a_claim_without_its_statement_is_caught() -> None:
    other = CHAPTER.replace(":label: sum-of-two", ":label: sum").replace("(eq-sum)", "(eq)")
    assert {
        "sum-of-two: sums has no statement or equation of that label",
        "eq-sum: sums has no statement or equation of that label",
        "sums: theorem sum is not in the ledger",
    } == set(judged(SUM, EQUATION, chapter=other))


def test_an_assertion_of_numpy_asserts() -> None:
    other = CHAPTER.replace("assert 1 + 1 == 2", "np.testing.assert_allclose(1 + 1, 2)")
    assert judged(SUM, EQUATION, chapter=other) == []


@pytest.mark.parametrize("kind", ["theorem", "lemma", "proposition", "corollary"])
def test_a_theorem_outside_the_ledger_is_caught(kind: str) -> None:
    more = CHAPTER + f"\n```{{prf:{kind}}}\n:label: new-one\nMore.\n```\n"
    assert judged(SUM, EQUATION, chapter=more) == [f"sums: {kind} new-one is not in the ledger"]


def test_a_theorem_without_a_label_is_caught() -> None:
    more = CHAPTER + "\n```{prf:lemma}\nMore.\n```\n"
    assert judged(SUM, EQUATION, chapter=more) == ["sums: lemma at line 27 is not in the ledger"]


def test_a_cell_of_an_unlisted_claim_is_caught() -> None:
    assert judged(SUM) == ["sums: a cell's claim eq-sum is not in the ledger"]


def test_a_row_given_twice_is_caught() -> None:
    assert judged(SUM, SUM, EQUATION) == ["sum-of-two: listed twice"]


@pytest.mark.parametrize("entry", ["checks", "derivation", "counterexample", "source"])
def test_a_row_without_an_entry_is_refused(tmp_path: Path, entry: str) -> None:
    rows = {key: value for key, value in vars(SUM).items() if key != entry}
    (tmp_path / "claims.yml").write_text(f"[{rows}]")
    with pytest.raises(ValueError, match=f"claim sum-of-two: missing .* argument: '{entry}'"):
        read_claims(tmp_path / "claims.yml")


def test_known_tests_are_the_functions_and_methods_pytest_collects(tmp_path: Path) -> None:
    (tmp_path / "tests/book").mkdir(parents=True)
    (tmp_path / "tests/test_a.py").write_text("def helper(): ...\n\ndef test_one(): ...\n")
    (tmp_path / "tests/book/test_b.py").write_text("class TestB:\n    def test_two(self): ...\n")
    assert known_tests(tmp_path) == {
        "tests/test_a.py::test_one": 3,
        "tests/book/test_b.py::TestB::test_two": 2,
    }


def test_a_chapter_is_read_as_it_is_written() -> None:
    chapter = read_chapter(CHAPTER + "\n```{math}\n:label: eq-more\n2 = 2\n```\n")
    assert isinstance(chapter, Chapter)
    assert chapter.statements == {"sum-of-two": "theorem", "two": "definition"}
    assert chapter.equations == {"eq-sum", "eq-more"}
    assert [cell.line for cell in chapter.cells_with("claim", "eq-sum")] == [24]
