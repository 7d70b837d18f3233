"""The walls of the house: which room imports which, who may import whom, what packages export.

`python tests/test_walls.py` prints the map that CONTRIBUTING.md shows.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "initcore": ROOT / "core" / "initcore",
    "initserver": ROOT / "server" / "initserver",
    "initclient": ROOT / "client" / "initclient",
}

# The map of the house. A room is a folder, or files at the top of a package (TOP). It may import
# the rooms of its row, which all stand above it: so there is no circle.
MAP = {
    "initcore": {
        "ground": "",
        "machine": "",
        "stream": "ground",
        "plan": "ground",
        "resolve": "ground stream plan",
        "wire": "ground plan resolve",
        "backends.native": "ground machine stream",
        "backends": "ground stream backends.native",
        "generate": "ground machine stream plan resolve backends",
        "file": "ground machine stream plan resolve backends.native backends generate",
        "show": "ground resolve file",
        "report": "ground stream resolve backends generate file show",
        "face": "ground plan wire generate file",
    },
    "initserver": {
        "config": "",
        "net": "config",
        "share": "",
        "wire": "config share",
        "values": "config share wire",
        "models": "config net wire",
        "rpc": "config net share wire values models",
        "hub": "config net share wire values models rpc",
        "observe": "values rpc",
        "process": "config net models rpc hub observe",
        "face": "config net process",
        "command": "config net observe process",
    },
    "initclient": {
        "ground": "",
        "_machine": "",
        "_laws": "",
        "_laws.surroundings": "_laws",
        "_plan": "ground",
        "_source": "ground _plan",
        "_files": "_machine",
        "_compute.frameworks": "",
        "_compute": "_machine _source _files _compute.frameworks",
        "_transport": "ground _machine _plan _source _files _compute",
        "_models": "ground _plan _source _transport",
        "_checking": "ground _machine _plan _source _files _transport",
        "_inspect": "ground _machine _plan _source _files _compute _transport _models",
        "recipes": "ground _plan",
        "torch._layouts": "",
        "torch._model": "torch._layouts",
        "torch._checking": "ground _machine _plan _source _models _checking torch._layouts "
        "torch._model",
        "torch._trace": "_laws",
        "torch._record": "_laws _laws.surroundings torch._model torch._trace",
        "torch._planning": "ground _plan recipes torch._layouts torch._model torch._checking "
        "torch._record",
        "torch": "ground _machine _plan _source _compute _transport _models torch._layouts "
        "torch._model torch._checking torch._record torch._planning",
        "jax._trace": "_laws _laws.surroundings",
        "jax._record": "_laws _laws.surroundings jax._trace",
        "jax": "ground _machine _plan _source _compute _transport _models _checking jax._trace "
        "jax._record",
        "verbs": "ground _machine _plan _source _files _compute _transport _models _checking "
        "_inspect recipes torch._checking",
        "face": "ground _plan _source _models _checking _inspect verbs",
        "_commands.terminal": "ground",
        "_commands._folders": "_files",
        "_commands._mount": "_machine _source _files _transport _commands._folders",
        "_commands": "ground _plan _source _files _models _checking _inspect recipes torch verbs "
        "_commands.terminal _commands._folders _commands._mount",
        "command": "ground _commands _commands.terminal",
    },
}

# Files at the top of a package, by their rooms. All others are verbs.
TOP = {
    "__init__": "face",
    "__main__": "command",
    "cli": "command",
    "errors": "ground",
    "dtypes": "ground",
    "_version": "ground",
    "_exceptions": "ground",
}

# Files that other rooms import beside the face: the inner loops take the constants of the quantile
# and NumPy's words, the public face of recipes has no place for the names that frameworks need,
# and the one list of all builders is exported as it is.
DEEP = {
    "initcore.plan.builders",
    "initclient.recipes._binding",
    "initclient.recipes._recipe",
    "initcore.stream.quantile",
    "initcore.backends._base",
    "initcore.backends.cupy",
    "initcore.backends.numpy",
}

FORBIDDEN = {
    "initcore": {"grpc", "grpc_status", "initserver", "initclient"},
    "initserver": {"initclient"},
    "initclient": {"initserver"},
}
OPTIONAL = {
    "cupy",
    "torch",
    "jax",
    "flax",
    "grpc_health",
    "grpc_reflection",
    "prometheus_client",
    "opentelemetry",
    "aiohttp",
}
# rich and yaml are always installed, but too slow to load where nobody asked for them.
LATE = OPTIONAL | {"rich", "yaml"}


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def sources() -> list[tuple[str, Path]]:
    return [(name, path) for name, root in PACKAGES.items() for path in root.rglob("*.py")]


@pytest.mark.parametrize(
    ("package", "path"), [pytest.param(*s, id=str(s[1].relative_to(ROOT))) for s in sources()]
)
def test_no_module_reaches_over_a_wall(package: str, path: Path) -> None:
    assert not imports(ast.parse(path.read_text())) & FORBIDDEN[package]


def test_the_walls_have_something_to_hold() -> None:
    assert {package for package, _ in sources()} == set(PACKAGES)


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stdout.split()}


@pytest.mark.parametrize("package", ["initcore", "initclient", "initserver"])
def test_importing_a_package_loads_no_optional_one(package: str) -> None:
    loaded = loaded_by(f"import {package}")
    assert package in loaded
    # The server's own extra is no option for the server.
    own = {"grpc_health", "grpc_reflection"} if package == "initserver" else set()
    assert not loaded & (LATE - own)


def test_the_mathematics_loads_no_grpc() -> None:
    assert "grpc" not in loaded_by("import initcore, initcore.backends.selection")


def test_every_file_opens_with_a_sentence() -> None:
    for _, path in sources():
        assert ast.get_docstring(ast.parse(path.read_text())), path


def modules() -> dict[str, Path]:
    """Every module of the product, by its dotted name."""
    found = {}
    for package, path in sources():
        parts = [package, *path.relative_to(PACKAGES[package]).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room_of(module: str) -> tuple[str, str]:
    """The package and the room of a module."""
    package, _, inner = module.partition(".")
    if MODULES[module].name == "__init__.py":
        return package, inner or "face"
    folder, _, name = inner.rpartition(".")
    return package, folder or TOP.get(name, "verbs")


def arrows(module: str) -> Iterator[tuple[str, bool]]:
    """The modules of its own package that a module imports, and whether it does so late.

    Imports within functions and for type checking count like all others.
    """
    package = module.partition(".")[0]
    tree = ast.parse(MODULES[module].read_text())
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import; write the package's name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [name if name in MODULES else str(node.module) for name in names]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            continue
        for target in targets:
            if target in MODULES and target.partition(".")[0] == package:
                yield target, id(node) in late


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_the_rooms_that_the_map_allows(module: str) -> None:
    package, room = room_of(module)
    allowed = MAP[package][room].split()
    for target, _ in arrows(module):
        other = room_of(target)[1]
        assert other in (room, *allowed), (
            f"{module} imports {target}: room {room!r} may import {allowed or 'no other room'}. "
            f"Move the code, or add {other!r} to the row of {room!r} in MAP, if {other!r} stands "
            "above it"
        )


@pytest.mark.parametrize("module", MODULES)
def test_rooms_take_names_from_faces(module: str) -> None:
    package, room = room_of(module)
    for target, is_late in arrows(module):
        other = room_of(target)[1]
        is_face = target == f"{package}.{other}" or other in TOP.values() or other == "verbs"
        assert other == room or is_late or is_face or target in DEEP, (
            f"{module} imports {target}, a file of another room; take the name from the room's "
            f"face, {package}.{other}"
        )


@pytest.mark.parametrize("package", MAP)
def test_the_map_has_no_circle_and_nothing_that_is_not_there(package: str) -> None:
    rows = MAP[package]
    assert set(rows) == {room_of(m)[1] for m in MODULES if m.partition(".")[0] == package}
    above: list[str] = []
    for room, allowed in rows.items():
        assert set(allowed.split()) <= set(above), f"{room} imports a room below it"
        above.append(room)
    drawn = {
        (room_of(module)[1], room_of(target)[1])
        for module in MODULES
        if module.partition(".")[0] == package
        for target, _ in arrows(module)
    }
    allowed_arrows = {(room, other) for room in rows for other in rows[room].split()}
    stale = sorted(allowed_arrows - drawn)
    assert not stale, f"no import needs these arrows any more; take them from MAP: {stale}"


def test_every_room_has_a_sentence_and_a_locked_face() -> None:
    for module, path in MODULES.items():
        if path.name != "__init__.py" or "." not in module:
            continue
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), module
        imported = {
            alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module != "__future__"
            for alias in node.names
            if f"{node.module}.{alias.name}" not in MODULES and alias.name != "*"
        }
        lists = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        public = module.startswith("initclient") and "._" not in module
        assert public or imported <= set(*lists), f"{module} has names that are not in __all__"


def test_rooms_and_files_stay_small() -> None:
    for package, root in PACKAGES.items():
        files = list(root.glob("*.py"))
        folders = [path for path in root.iterdir() if (path / "__init__.py").exists()]
        most_files, most_folders = (10, 14) if package == "initclient" else (4, 10)
        assert len(files) <= most_files, f"{package} has {len(files)} files at its top"
        assert len(folders) <= most_folders, f"{package} has {len(folders)} rooms at its top"
        for folder in {path.parent for path in root.rglob("*.py")} - {root}:
            count = len(list(folder.glob("*.py")))
            assert count <= 14, f"{folder.relative_to(ROOT)} has {count} files"
    for path in MODULES.values():
        lines = len(path.read_text().splitlines())
        assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines, so two subjects"


def map_text() -> str:
    """The map as CONTRIBUTING.md shows it: each room, its sentence, and the rooms it imports."""
    lines = []
    for package, rows in MAP.items():
        lines.append(f"{PACKAGES[package].relative_to(ROOT)}/")
        for room, allowed in rows.items():
            module = f"{package}.{room}"
            if module in MODULES:
                docstring = ast.get_docstring(ast.parse(MODULES[module].read_text())) or ""
                says = docstring.split("\n\n")[0].replace("\n", " ").rstrip(".")
            else:
                says = TOP_SAYS[room]
            lines.append(f"  {room:<18} {says}")
            if allowed:
                lines.append(f"  {'':<18} imports {allowed.replace(' ', ', ')}")
        lines.append("")
    return "\n".join(lines).rstrip()


TOP_SAYS = {
    "ground": "errors; in core also element types and the version",
    "verbs": "the public verbs, and Client and Local, which have them as methods",
    "face": "the public names",
    "command": "the command line",
}


def test_contributing_shows_the_map() -> None:
    assert map_text() in (ROOT / "CONTRIBUTING.md").read_text(), (
        "CONTRIBUTING.md shows another map: put there what `python tests/test_walls.py` prints"
    )


EXPORTS = {
    "STREAM_VERSION",
    "BackendError",
    "CheckpointError",
    "Checkpoints",
    "Entry",
    "Fingerprint",
    "Layout",
    "MissingPackageError",
    "Plan",
    "PlanError",
    "Tensor",
    "Violation",
    "VirtualFile",
    "__version__",
    "calculate_gain",
    "dump_plan",
    "fingerprint",
    "layout",
    "load_plan",
    "with_pretrained",
}


def test_the_exports_of_the_mathematics() -> None:
    """A builder for each scheme, and these."""
    import initcore
    from initcore.plan import SCHEMES

    assert sorted(initcore.__all__) == sorted([*SCHEMES, *EXPORTS])
    assert all(hasattr(initcore, name) for name in initcore.__all__)


def test_every_scheme_has_a_builder_a_formula_and_a_place_on_the_wire() -> None:
    from initcore.plan import builders
    from initcore.plan.schemes import ARGUMENTS, SCHEMES
    from initcore.resolve.formulas import FORMULAS
    from initserve.v1 import plan_pb2

    wire = {name.lower() for name in plan_pb2.Scheme.keys()} - {"scheme_unspecified"}  # noqa: SIM118
    assert set(SCHEMES) == set(builders.__all__) == wire
    # What draws nothing itself has no formula.
    assert set(FORMULAS) == {name for name, scheme in SCHEMES.items() if scheme.draws}
    assert set(ARGUMENTS) <= set(plan_pb2.Tensor.DESCRIPTOR.fields_by_name)
    assert {name for scheme in SCHEMES.values() for name in scheme.arguments} == set(ARGUMENTS)


def test_builders_have_the_defaults_of_the_table() -> None:
    import inspect

    import initcore
    from initcore.plan.schemes import REQUIRED, SCHEMES

    for name, scheme in SCHEMES.items():
        parameters = inspect.signature(getattr(initcore, name)).parameters
        given = {k: p.default for k, p in parameters.items() if k not in ("shape", "common")}
        defaults = {
            k: inspect.Parameter.empty if v is REQUIRED else v for k, v in scheme.arguments.items()
        }
        assert given == defaults, name


if __name__ == "__main__":
    print(map_text())
