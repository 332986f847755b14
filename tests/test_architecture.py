"""The rooms of `sc_utils` know only what they need: imports point downwards."""

import ast
import importlib
from pathlib import Path

import pytest

import sc_utils

PACKAGE = Path(__file__).resolve().parent.parent / "sc_utils"

# Each room and the rooms it may import.
ROOMS: dict[str, set[str]] = {
    "probabilities": set(),
    "absorption": set(),
    "figures": set(),
    "interactive": {"probabilities"},
    "prose": set(),
    "symbolic": set(),
    "conditioning": {"probabilities"},
    "intervals": {"probabilities"},
    "labels": {"conditioning", "probabilities"},
    "learning": {"logs", "probabilities"},
    "logs": {"intervals", "probabilities"},
    "mdp": {"absorption", "probabilities"},
    "networks": {"probabilities", "progress"},
    "progress": set(),
    "environments": {"mdp", "probabilities"},
    "luck": {"conditioning", "mdp", "probabilities"},
    "rounds": {"conditioning", "logs", "luck", "mdp", "probabilities", "sampling"},
    "sampling": {"absorption", "logs", "mdp", "probabilities"},
    "sweeps": {"probabilities", "progress"},
    "diagnosis": {"intervals", "pairs", "probabilities", "tallies"},
    "pairs": {"probabilities"},
    "reports": {"diagnosis", "figures"},
    "readers": {"progress", "tallies"},
    "__main__": {"diagnosis", "readers", "reports"},
    "tallies": {"logs", "probabilities"},
    "trust_region": {"conditioning", "probabilities"},
    "updates": {"conditioning", "probabilities", "trust_region"},
}
# What a room must do without, so that what it says holds for more than it was written for.
FOREIGN = {
    "symbolic": {"numpy", "scipy", "matplotlib"},
    "diagnosis": {"gymnasium", "matplotlib", "sympy"},
    "pairs": {"gymnasium", "matplotlib", "sympy"},
    "figures": {"scipy", "sympy", "gymnasium"},
    "interactive": {"scipy", "sympy", "gymnasium", "matplotlib"},
    "mdp": {"gymnasium", "matplotlib", "sympy"},
    "conditioning": {"gymnasium", "matplotlib", "scipy", "sympy"},
    "labels": {"gymnasium", "matplotlib", "scipy", "sympy"},
    "learning": {"gymnasium", "matplotlib", "sympy"},
    "networks": {"gymnasium", "matplotlib", "scipy", "sympy"},
    "reports": {"gymnasium", "numpy", "pandas", "scipy", "sympy"},
    "readers": {"scipy", "gymnasium", "matplotlib", "sympy", "pandas"},
    "__main__": {"numpy", "scipy", "gymnasium", "matplotlib", "sympy", "pyarrow", "pandas"},
    "tallies": {"scipy", "gymnasium", "matplotlib", "sympy", "pyarrow", "pandas"},
    "sweeps": {"dask", "distributed", "scipy", "gymnasium", "matplotlib", "sympy"},
    "updates": {"gymnasium", "matplotlib", "sympy"},
}


def modules() -> dict[str, ast.Module]:
    return {
        path.stem: ast.parse(path.read_text("utf-8"))
        for path in PACKAGE.glob("*.py")
        if path.stem != "__init__"
    }


def imports(tree: ast.Module) -> set[str]:
    """The modules a room imports, wherever in it: ``sc_utils.mdp``, ``numpy``, ``scipy.sparse``."""
    named_only = {
        inner for node in ast.walk(tree) if is_for_types(node) for inner in ast.walk(node)
    }
    found = set()
    for node in set(ast.walk(tree)) - named_only:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            names = [alias.name for alias in node.names]
            found |= {f"{source}.{name}" for name in names} if source == "sc_utils" else {source}
    return found


def is_for_types(node: ast.AST) -> bool:
    """Whether it is an ``if TYPE_CHECKING`` block: a type in a signature is no arrow."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def rooms_of(found: set[str]) -> set[str]:
    return {name.split(".")[1] for name in found if name.startswith("sc_utils.")}


def test_every_room_is_on_the_plan() -> None:
    assert set(modules()) == set(ROOMS)
    assert not [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    found = imports(modules()[room])
    assert not [name for name in found if name.startswith(".")], "relative import"
    assert "sc_utils" not in found
    assert rooms_of(found) <= ROOMS[room]


def test_the_plan_has_no_arrow_that_is_not_used() -> None:
    used = {room: rooms_of(imports(tree)) for room, tree in modules().items()}
    assert used == ROOMS


def test_the_plan_has_a_ground_and_no_circle() -> None:
    standing: set[str] = set()
    while built := {room for room, below in ROOMS.items() if below <= standing} - standing:
        standing |= built
    assert standing == set(ROOMS)


@pytest.mark.parametrize("room", FOREIGN)
def test_a_room_does_without(room: str) -> None:
    packages = {name.partition(".")[0] for name in imports(modules()[room])}
    assert not packages & FOREIGN[room]


def test_the_front_door_offers_what_the_rooms_define() -> None:
    front = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    public = set(ROOMS) - {
        "__main__",
        "absorption",
        "figures",
        "interactive",
        "networks",
        "pairs",
        "probabilities",
        "progress",
        "prose",
        "symbolic",
    }
    assert rooms_of(imports(front)) == public
    for room in public:
        module = importlib.import_module(f"sc_utils.{room}")
        offered = {
            name for name in sc_utils.__all__ if vars(sc_utils)[name].__module__ == module.__name__
        }
        assert offered == set(module.__all__)


def test_figures_are_drawn_on_axes_that_are_given() -> None:
    assert "matplotlib.pyplot" not in imports(modules()["figures"])


@pytest.mark.parametrize("room", ROOMS)
def test_randomness_is_handed_in(room: str) -> None:
    calls = [node.func for node in ast.walk(modules()[room]) if isinstance(node, ast.Call)]
    made = {ast.unparse(func) for func in calls} & {"np.random.default_rng", "np.random.seed"}
    assert not made
