"""The rules of the house: who may import whom, and what a file may be."""

import ast
import importlib.metadata
import itertools
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("sensitivity", "models", "analysis", "data")

# What the modules of a room may import of the other rooms.
ALLOWED = {
    "data": (),
    "sensitivity": (),
    "models": ("sensitivity.attention", "sensitivity.layer", "data"),
    "analysis": ("sensitivity", "models", "data"),
}
# Only these compose freely: the sweep (a module, a package, or its parts) and ...
COMMANDS = {
    "models.train",
    "analysis.attention",
    "analysis.report",
    "analysis.benchmark",
    "analysis.network",
    "analysis.study",
    "analysis.tables",
}
# Typed as ``python -m analysis.tables``. All imports are absolute, so that PyTables,
# which pandas imports as ``tables``, is not shadowed.
NAMED_AFTER_A_LIBRARY = {"analysis.tables"}


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


def is_command(name: str) -> bool:
    """Whether a module is one of those that may compose all rooms."""
    if name.startswith("sensitivity.sweep"):
        return True
    return any(within(name, command) for command in COMMANDS)


def may_import(name: str, target: str) -> bool:
    """Whether the module ``name`` of a room may import ``target``."""
    room, other = name.split(".")[0], target.split(".")[0]
    if other in ("", "tests", "conftest"):
        return False  # relative, or what is not in the wheel
    if other not in ROOMS or is_command(name):
        return True
    if room != "analysis" and is_command(target):
        return False  # else composing would come in by the back door
    return room == other or any(within(target, package) for package in ALLOWED[room])


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
        ("sensitivity.bounds", "from sensitivity.sweep_sources import draw", False),
        ("sensitivity.bounds", "from tests.reference import heads", False),
        ("sensitivity.sweep", "from analysis.plots import bound_plot", True),
        ("sensitivity.sweep.sources", "from data import load_metr_la", True),
        ("sensitivity.sweep", "from tests.reference import heads", False),
        ("models.temporal", "from sensitivity.attention import attend", True),
        ("models.temporal", "from sensitivity import attention", True),
        ("models.temporal", "from sensitivity import check_bounds", False),
        ("models.temporal", "import sensitivity.bounds", False),
        ("models.temporal", "from analysis import metrics", False),
        ("models.train", "from sensitivity.bounds import check_bounds", True),
        ("models.train_step", "from sensitivity.bounds import check_bounds", False),
        ("models.training", "from analysis.tables import main", False),
        ("analysis.tables.command", "from analysis.runs import read_run", True),
        ("analysis.plots", "from sensitivity import check_bounds", True),
    ],
)
def test_the_arrows_tell_right_from_wrong(name, statement, allowed):
    targets = imports(ast.parse(statement), {"sensitivity.attention"})
    assert all(may_import(name, target) for target in targets) is allowed


def test_every_file_is_one_idea_of_at_most_300_lines():
    files = [*sources(*ROOMS, "tests").values(), ROOT / "conftest.py"]
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in files
    }
    assert {path: n for path, n in lines.items() if n > 300} == {}


def plain(statement: ast.stmt, first: bool) -> bool:
    """Whether a statement may stand in an ``__init__.py``."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return first and isinstance(statement.value.value, str)
    if isinstance(statement, ast.Assign):
        return [ast.unparse(target) for target in statement.targets] == ["__all__"]
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
