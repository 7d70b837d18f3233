"""The walls of the house: who may import whom, and what the public packages export."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "initcore": ROOT / "core" / "initcore",
    "initserver": ROOT / "server" / "initserver",
    "initclient": ROOT / "client" / "initclient",
}
FORBIDDEN = {
    "initcore": {"grpc", "grpc_status", "initserver", "initclient"},
    "initserver": {"initclient"},
    "initclient": {"initserver"},
}
OPTIONAL = {
    "numba",
    "llvmlite",
    "cupy",
    "torch",
    "jax",
    "flax",
    "grpc_health",
    "grpc_reflection",
    "prometheus_client",
    "opentelemetry",
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


def test_no_file_has_two_subjects() -> None:
    for _, path in sources():
        assert len(path.read_text().splitlines()) <= 450, path


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
