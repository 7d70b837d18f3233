"""The wheel stands alone: built, installed into an empty environment, it serves and fetches."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from initcore import VirtualFile, dump_plan, layout
from initcore.backends import load

import hatch_build
from tests import plans

ROOT = Path(__file__).parent.parent
# One build and two installations from the package index.
pytestmark = pytest.mark.timeout(600)


def build(folder: Path, **environment: str) -> tuple[Path, str]:
    """A wheel of the source tree, and what the build printed."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    (built,) = folder.glob("*.whl")
    return built, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = hatch_build.compiler()
    assert compiler
    # -I: pip's environment for builds hides other packages from the Pythons started in it.
    if compiler[1:2] == ["-m"]:
        compiler.insert(1, "-I")
    return build(tmp_path_factory.mktemp("dist"), CXX=shlex.join(compiler))[0]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel and what it requires, no extras."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install(python, str(wheel))
    return python


def install(python: Path, what: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", what]
    subprocess.run(command, check=True, capture_output=True, cwd=python.parent)


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the environment's Python away from the source tree, with warnings as errors."""
    return subprocess.run(
        [str(python), "-W", "error", *arguments],
        capture_output=True,
        text=True,
        cwd=python.parent,
        timeout=120,
        check=False,
    )


def test_the_wheel_holds_everything(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for needed in (
        "initserve/v1/plan_pb2.py",
        "initserve/v1/plan_pb2.pyi",
        "initserve/v1/service_pb2_grpc.py",
        "initserve/v1/plan.proto",
        "initcore/backends/source/cuda/initserve.cu",
        "initcore/backends/source/words.h",
        "initcore/py.typed",
        "initserver/py.typed",
        "initclient/py.typed",
        "initclient/recipes/gpt2.yaml",
    ):
        assert needed in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests", "docs", "examples")) for name in names)


def test_one_wheel_of_a_platform_serves_all_pythons(wheel: Path, python: Path) -> None:
    assert re.search(r"-py3-none-(linux|macosx|win)\w+\.whl$", wheel.name)
    library = hatch_build.library_name(sys.platform)
    assert f"initcore/backends/native/{library}" in zipfile.ZipFile(wheel).namelist()
    code = (
        "from initcore.backends import select; print([select(None, n).name for n in (1, 1 << 30)])"
    )
    assert run(python, "-c", code).stdout.strip() == "['native', 'native']"


def test_without_a_compiler_the_wheel_is_pure_and_the_build_says_so(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    built, said = build(tmp_path / "dist", PATH=str(empty), CXX="")
    assert built.name.endswith("-py3-none-any.whl")
    assert "No C++ compiler was found" in said
    assert not any(n.endswith((".so", ".dylib", ".dll")) for n in zipfile.ZipFile(built).namelist())


def test_the_plain_installation_is_light(python: Path) -> None:
    code = "from importlib.metadata import distributions as d; print(*(p.name for p in d()))"
    names = {name.lower().replace("_", "-") for name in run(python, "-c", code).stdout.split()}
    assert "initserve" in names
    assert names <= {
        "initserve",
        "numpy",
        "ml-dtypes",
        "safetensors",
        "protobuf",
        "grpcio",
        "grpcio-status",
        "googleapis-common-protos",
        "typing-extensions",
        "google-crc32c",
        "pyyaml",
        "rich",
        "markdown-it-py",
        "mdurl",
        "pygments",
        "pip",
        "setuptools",
    }


def test_missing_extras_answer_with_the_install_command(python: Path) -> None:
    server = run(python, "-m", "initserver")
    assert server.returncode != 0
    assert "pip install 'initserve[server]'" in server.stderr
    assert "Traceback" not in server.stderr
    code = "import initcore.backends as b; b.load('cupy')"
    assert "pip install 'initserve[cuda13]'" in run(python, "-c", code).stderr


def test_it_serves_and_fetches(wheel: Path, python: Path, tmp_path: Path) -> None:
    plan = plans.every_scheme()
    dump_plan(plan, tmp_path / "plan.yaml")
    expected = VirtualFile(layout(plan), load("numpy"))
    digest = hashlib.sha256(expected.read(0, expected.size)).hexdigest()

    out = tmp_path / "local.safetensors"
    fetch = ["-m", "initclient", "fetch", str(tmp_path / "plan.yaml"), "--out"]
    done = run(python, *fetch, str(out))
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(out.read_bytes()).hexdigest() == digest

    install(python, f"{wheel}[server]")
    server = subprocess.Popen(
        [str(python), "-m", "initserver", "--listen", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=python.parent,
    )
    try:
        assert server.stderr is not None
        address = next(
            word.rstrip(",;")
            for line in server.stderr
            for word in line.split()
            if word.startswith("127.0.0.1:")
        )
        remote = tmp_path / "remote.safetensors"
        done = run(python, *fetch, str(remote), "--target", address)
        assert done.returncode == 0, done.stderr
        assert remote.read_bytes() == out.read_bytes()
    finally:
        server.terminate()
        server.communicate(timeout=30)
