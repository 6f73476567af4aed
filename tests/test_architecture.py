"""The rules of the house: who may import whom, and what a file may be."""

import ast
import graphlib
import importlib.metadata
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("sensitivity", "models", "analysis", "data")

# Which other rooms the modules of a room may import: arrows go one way.
ALLOWED = {
    "data": (),
    "sensitivity": (),
    "models": ("sensitivity", "data"),
    "analysis": ("sensitivity", "models", "data"),
}
# The one that climbs, because users type ``python -m sensitivity.sweep``.
DOOR = "sensitivity.sweep"
BEHIND_THE_DOOR = ("analysis.sweep", "models.runs.entry")
# Typed, or named in the field's terms. All imports are absolute, so that PyTables,
# which pandas imports as ``tables``, and the standard library are not shadowed.
NAMED_AFTER_A_LIBRARY = {"analysis.tables", "analysis.statistics"}


def sources(*folders: str) -> dict[str, Path]:
    """Python files below these folders, by dotted module name."""
    found = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=path.name)


def imports(module: ast.Module, known: set[str]) -> set[str]:
    """What a module imports, at any depth: ``from a import b`` is a.b if known."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name in known else base)
    return found


def within(name: str, package: str) -> bool:
    """Whether a dotted name is the package or inside it."""
    return name == package or name.startswith(package + ".")


def may_import(name: str, target: str) -> bool:
    """Whether the module ``name`` of a room may import ``target``."""
    room, other = name.split(".")[0], target.split(".")[0]
    if other in ("", "tests", "conftest"):
        return False  # relative, or what is not in the wheel
    if other not in ROOMS:
        return True
    if name == DOOR:
        return any(within(target, inside) for inside in BEHIND_THE_DOOR)
    if target == DOOR or not is_open(name, target):
        return False
    return room == other or other in ALLOWED[room]


def is_open(name: str, target: str) -> bool:
    """Whether no part of ``target`` is private to a package that ``name`` is not in."""
    parts = target.split(".")
    private = [place for place, part in enumerate(parts) if part.startswith("_")]
    return all(within(name, ".".join(parts[:place])) for place in private)


def test_imports_follow_the_arrows_of_the_house():
    modules = sources(*ROOMS)
    wrong = [
        f"{name} imports {target}"
        for name, path in modules.items()
        for target in sorted(imports(tree(path), set(modules)))
        if not may_import(name, target)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "statement", "allowed"),
    [
        ("data.windows", "import sensitivity", False),
        ("data.windows", "from data.series import TrafficSeries", True),
        ("data.windows", "import numpy as np, pandas as pd", True),
        ("data.windows", "from .series import TrafficSeries", False),
        ("data.windows", "def f():\n    from models.positions import f", False),
        ("sensitivity.bounds", "import data.metr_la", False),
        ("sensitivity.bounds", "from sensitivity._inputs import run", True),
        ("sensitivity.bounds", "from models.runs.entry import start", False),
        ("sensitivity.bounds", "from tests.reference import heads", False),
        ("sensitivity.sweep", "from analysis.sweep.command import main", True),
        ("sensitivity.sweep", "from analysis.plots import bounds", False),
        ("models.temporal", "from sensitivity.attention import attend", True),
        ("models.temporal", "from sensitivity._inputs import run", False),
        ("models.temporal", "from analysis import variants", False),
        ("models.train.command", "from models.train._loop import fit", True),
        ("models.training", "from models.train._loop import fit", False),
        ("analysis.attention.command", "from analysis.sweep._points import P", False),
        ("analysis.tables.command", "from models.train.record import read_run", True),
        ("analysis.study.command", "from sensitivity.sweep import main", False),
    ],
)
def test_the_arrows_tell_right_from_wrong(name, statement, allowed):
    known = {"sensitivity.attention", "sensitivity._inputs", "analysis.plots.bounds"}
    targets = imports(ast.parse(statement), known)
    assert all(may_import(name, target) for target in targets) is allowed


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A circle of arrows, or nothing."""
    try:
        tuple(graphlib.TopologicalSorter(arrows).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def arrows_of_modules() -> dict[str, set[str]]:
    """Which module imports which, at any depth, but for names of types only."""
    modules = sources(*ROOMS)
    found = {}
    for name, path in modules.items():
        module = tree(path)
        for node in ast.walk(module):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = []
        targets = imports(module, set(modules)) & set(modules)
        found[name] = {t for t in targets if t != name and not within(name, t)}
    return found


def test_no_module_imports_in_a_circle():
    assert circle(arrows_of_modules()) == []


def test_no_room_imports_in_a_circle():
    """A package inside a room is a room too, and so are the modules beside it."""

    def room(name: str) -> str:
        return ".".join(name.split(".")[:2])

    rooms: dict[str, set[str]] = {}
    for name, targets in arrows_of_modules().items():
        own = rooms.setdefault(room(name), set())
        own |= {room(target) for target in targets} - {room(name)}
    assert circle(rooms) == []


def test_every_module_can_be_imported():
    names = [name for name in sources(*ROOMS) if not name.endswith("__main__")]
    program = "import importlib\nfor name in {!r}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.format(names)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def plain(statement: ast.stmt, first: bool) -> bool:
    """Whether a statement may stand in an ``__init__.py``."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return first
        case ast.Assign(targets=[ast.Name(id="__all__" | "_HOMES")]):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.FunctionDef(name="__getattr__" | "main"):  # imported when used
            return True
    return isinstance(statement, ast.Import | ast.ImportFrom)


def test_an_init_file_holds_only_its_docstring_imports_and_all():
    wrong = [
        f"{path.relative_to(ROOT)}, line {statement.lineno}"
        for path in sources(*ROOMS, "tests").values()
        if path.name == "__init__.py"
        for position, statement in enumerate(tree(path).body)
        if not plain(statement, position == 0)
    ]
    assert wrong == []


def library_names() -> set[str]:
    """Import names of the standard library and of all that the project installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    wanted = set()
    for requirement in [*project["dependencies"], *itertools.chain(*extras)]:
        match = re.match(r"[\w.-]+", requirement)
        assert match is not None, requirement
        wanted.add(re.sub(r"[-_.]+", "-", match[0]).lower())
    installed = importlib.metadata.packages_distributions()
    ours = {
        name
        for name, owners in installed.items()
        if wanted & {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
    }
    # Those that are optional, or come with another.
    others = {"torch", "scipy", "jaxlib", "optax", "orbax"}
    return (ours | wanted | others | set(sys.stdlib_module_names)) - {"__init__"}


def test_no_module_is_named_after_a_library():
    libraries = library_names()
    assert {"torch", "jax", "numpy", "pandas", "tables", "logging"} <= libraries
    modules = sources(*ROOMS, "tests")
    named = {name for name in modules if name.split(".")[-1] in libraries}
    assert named == NAMED_AFTER_A_LIBRARY


def test_the_version_is_written_in_pyproject_only():
    wrong = [
        f"{name}, line {node.lineno}"
        for name, path in sources(*ROOMS, "tests").items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Name)
        and node.id in ("__version__", "VERSION")
        and isinstance(node.ctx, ast.Store)
    ]
    assert wrong == []
