"""The order of the rooms, what they export, what stays free of torch, and the code that each step's digest covers.

Sources are read, not imported: the whole file takes about a second.
"""

import ast
import sys
from pathlib import Path

import pytest
import yaml

from getam.utils.provenance import modules_of_step

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "getam"
# The lowest room is a package of its own, which knows nothing of getam.
LATTICE = ROOT / "csrc" / "getam_lattice"
ROOMS = ("utils", "data", "lattice", "config", "models", "method", "training", "evaluation", "cli")
# Each room, and all that it may import beside itself: rooms, or single modules of them.
MAY_IMPORT = {
    "getam_lattice": (),
    "constants": (),
    "utils": ("constants", "getam_lattice.checks"),
    "data": ("constants", "utils"),
    "lattice": ("constants", "utils", "getam_lattice"),
    "config": ("constants", "utils", "lattice.settings", "data.parts"),
    "models": ("constants", "utils", "config"),
    "method": ("constants", "utils", "lattice", "config", "models", "data.images", "data.loading"),
    "training": ("constants", "utils", "data", "lattice", "config", "models", "method"),
    "evaluation": ("constants", "utils", "data", "lattice", "config", "models", "method"),
    "cli": ("constants", *ROOMS[:-1]),
}
# Settings, descriptions and help texts appear without the seconds that torch takes.
WITHOUT_TORCH = (
    *sorted(f"config.{path.stem}" for path in (PACKAGE / "config").glob("[a-z]*.py")),
    "data.dataset",
    "evaluation.run",
    "evaluation.scores",
    "cli.command",
    "cli.options",
)


def modules() -> dict[str, Path]:
    """Dotted name below getam, or of getam_lattice, -> file, of every module that is not a package's `__init__`."""
    found = {}
    for folder, above in ((PACKAGE, PACKAGE), (LATTICE, LATTICE.parent)):
        for path in sorted(folder.rglob("*.py")):
            if path.name not in ("__init__.py", "__main__.py"):
                found[".".join(path.relative_to(above).with_suffix("").parts)] = path
    return found


MODULES = modules()


def is_package(name: str) -> bool:
    return name == "getam_lattice" or (PACKAGE.joinpath(*name.split(".")) / "__init__.py").is_file()


def imports(path: Path, at_import_time: bool = False) -> list[tuple[str, str | None]]:
    """(module, name or None) of each import in a file; at_import_time leaves out functions and TYPE_CHECKING."""
    found = []

    def visit(node: ast.AST) -> None:
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if at_import_time and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import, which digests do not follow"
            found.extend((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            found.extend((alias.name, None) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def own_imports(path: Path, at_import_time: bool = False) -> set[str]:
    """Modules of the packages, named as in MODULES, that a file imports."""
    found = set()
    for module, name in imports(path, at_import_time):
        if module.split(".")[0] in ("getam", "getam_lattice"):
            base = "" if module == "getam" else module.removeprefix("getam.")
            both = f"{base}.{name}".removeprefix(".")
            found.add(both if name and (both in MODULES or is_package(both)) else base)
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_downwards(room):
    allowed = (room, *MAY_IMPORT[room])
    for name, path in MODULES.items():
        if name.split(".")[0] == room:
            wrong = [
                other
                for other in own_imports(path)
                if not any(f"{other}.".startswith(f"{place}.") for place in allowed) and other != "_torchvision"
            ]
            assert wrong == [], f"getam.{name} imports them; getam.{room} may import {', '.join(allowed)}"


def test_every_module_is_in_a_room():
    assert {name.split(".")[0] for name in MODULES} == {*MAY_IMPORT, "_torchvision"}
    assert all(is_package(room) for room in ROOMS)


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_from_modules(name):
    # An import from a room's face would run through `__getattr__`, and the digest of a step would not see it.
    faces = [other for other in own_imports(MODULES[name]) if other not in MODULES]
    assert faces == []


def faces() -> list[str]:
    """The packages that export names, getam itself as the empty name."""
    return sorted(".".join(path.parent.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("__init__.pyi"))


def defined(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


@pytest.mark.parametrize("face", faces())
def test_every_exported_name_is_defined(face):
    folder = PACKAGE.joinpath(*face.split("."))
    for node in ast.parse((folder / "__init__.pyi").read_text()).body:
        assert isinstance(node, ast.ImportFrom)
        assert node.level == 1
        path = folder.joinpath(*node.module.split(".")).with_suffix(".py")
        for alias in node.names:
            assert alias.asname == alias.name, f"{alias.name}: type checkers take it for private unless `as` repeats it"
            assert alias.name in defined(path), f"{path} does not define {alias.name}"
            assert not (folder / f"{alias.name}.py").exists(), f"{alias.name} is also a module of this room"


def test_the_lowest_room_needs_numpy_alone():
    external = {module.split(".")[0] for path in LATTICE.glob("*.py") for module, _ in imports(path)}
    assert external - set(sys.stdlib_module_names) == {"getam_lattice", "numpy"}


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is_for(room):
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    assert len(ast.get_docstring(tree)) > 60
    # Nothing is computed in a face: no digest covers it.
    allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)
    assert all(isinstance(node, allowed) for node in tree.body)


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_torch_is_not_imported(name):
    seen, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        external = {found.split(".")[0] for found, _ in imports(MODULES[module], at_import_time=True)}
        assert not external & {"torch", "torchvision", "timm", "safetensors"}, f"through getam.{module}"
        waiting += own_imports(MODULES[module], at_import_time=True)
    assert len(seen) > 1 or not own_imports(MODULES[name], at_import_time=True)


STEPS = yaml.safe_load((ROOT / "tests" / "steps.yaml").read_text())


@pytest.mark.parametrize("step", STEPS)
def test_what_the_digest_of_a_step_covers(step):
    # A module more makes results stale by its edits, a module less lets stale results pass: tests/steps.yaml is edited
    # by hand, so that either is seen.
    covered = modules_of_step(*(f"getam.{module}" for module in step.split(" + ")))
    assert sorted(name.removeprefix("getam.") for name in covered) == sorted(STEPS[step].split())


def test_every_step_of_the_workflow_is_listed():
    digested = set()
    for path in [
        *ROOT.glob("workflow/rules/*.smk"),
        PACKAGE / "evaluation" / "run.py",
        PACKAGE / "training" / "launch.py",
    ]:
        for part in path.read_text().split("step_digest(")[1:]:
            names = [text for text in part.split(")")[0].split('"')[1::2] if text.startswith("getam.")]
            digested |= {name.removeprefix("getam.") for name in names if "{" not in name}
    listed = {module for step in STEPS for module in step.split(" + ")}
    assert digested <= listed
