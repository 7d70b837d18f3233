"""Builds the native library: with the package, as `make native`, and for all platforms.

The C++ source in core/initcore/backends/source becomes one shared library without dependencies,
which ctypes loads: a wheel of a platform serves all its Pythons. Hatchling runs `NativeHook` when
it builds a wheel or an editable installation. The compiler is $CXX, else c++, g++ or clang++, else
the one of the package ziglang; without any the wheel has no library, and says so.

    python hatch_build.py            the library for this machine, into the source tree
    python hatch_build.py wheels     a wheel for each platform, into dist/, by ziglang

INITSERVE_WHEEL names the platform that a wheel is for: a key of `PLATFORMS`, or "pure" for a wheel
without the library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
SOURCE = ROOT / "core" / "initcore" / "backends" / "source"
FOLDER = ROOT / "core" / "initcore" / "backends" / "native"

PLATFORMS = {
    # The tag of the wheel: what ziglang calls the platform.
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "musllinux_1_2_aarch64": "aarch64-linux-musl",
    "macosx_11_0_x86_64": "x86_64-macos.11.0",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
}

FLAGS = (
    *("-x", "c++", "-std=c++17", "-O3", "-g0"),
    # What the bits need: no fused operations. The other two let loops with square roots and
    # with comparisons become vectors; no value depends on them.
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    # Words are stored 64 bits at a time and read 32 bits at a time.
    "-fno-strict-aliasing",
    # No library of C++.
    *("-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"),
)

# Per target: the level of the psABI and more. Prefetching for writing is a hint, which older
# processors of v3 pass over. Compilers stop at 256 bits unless they are asked for more, since some
# processors slow down for wider vectors, which does not pay where these are rare; here nearly all
# instructions are vectors.
X86 = {
    "v2": ("-march=x86-64-v2",),
    "v3": ("-march=x86-64-v3", "-mprfchw"),
    "v4": ("-march=x86-64-v4", "-mprfchw", "-mprefer-vector-width=512"),
}


class BuildError(RuntimeError):
    """The compiler refused the source; the message holds its words."""


def compiler() -> list[str] | None:
    """The command of a C++ compiler; None if there is none."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    return ziglang() if importlib.util.find_spec("ziglang") else None


def ziglang() -> list[str]:
    """The command of PyPI's compiler."""
    return [sys.executable, "-m", "ziglang", "c++"]


def library_name(system: str) -> str:
    """The file that core/initcore/backends/native/_library.py looks for."""
    return {"darwin": "libinitserve.dylib", "win32": "initserve.dll"}.get(system, "libinitserve.so")


def digest_of_sources() -> str:
    """The SHA-256 of all that the library is built from, this file included."""
    files = [Path(__file__), *sorted(p for p in SOURCE.rglob("*") if p.suffix in (".h", ".cpp"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def build(
    folder: Path, command: list[str], zig_target: str | None = None, more: tuple[str, ...] = ()
) -> Path:
    """Builds the library into a folder, in one step: no reader finds half a file.

    Args:
        folder: where to put it.
        command: the compiler's.
        zig_target: the platform to build for, as ziglang names it; None is this machine.
        more: further options, such as those of sanitizers.

    Raises:
        BuildError: if the compiler fails.
    """
    machine, system = platform.machine().lower(), sys.platform
    if zig_target:
        machine, system, *_ = zig_target.split("-")
        system = {"windows": "win32"}.get(system, "darwin" if "macos" in system else system)
        command = [*command, "-target", zig_target]
    is_zig = "ziglang" in command or Path(command[0]).name == "zig"
    targets = dict(X86) if machine in ("x86_64", "amd64") else {"plain": ()}
    if machine in ("aarch64", "arm64"):
        targets = {"aarch64": ()}
    flags = [*command, *FLAGS, *more, *(() if system == "win32" else ("-fPIC",))]
    with tempfile.TemporaryDirectory() as scratch:
        objects, steps = [], []
        for name, options in targets.items():
            if is_zig:  # which spells processors its own way
                options = tuple(o.replace("x86-64-", "x86_64_") for o in options)
            defined = [*options, f"-DTARGET={name}"]
            steps.append([*flags, *defined, "-c", str(SOURCE / "cpu" / "kernels.cpp")])
        defined = [f'-DSOURCES="{digest_of_sources()}"']
        steps.append([*flags, *defined, "-c", str(SOURCE / "cpu" / "library.cpp")])
        for number, step in enumerate(steps):
            objects.append(str(Path(scratch) / f"{number}.o"))
            step += ["-o", objects[-1]]
        _run_together(steps)
        # The few functions of C that compilers call, such as memcpy, are in every process.
        alone = ["-nostdlib", "-Wl,-s"] if system == "linux" and not more else ["-nostdlib++"]
        if more and not is_zig:
            alone = []
        built = Path(scratch) / library_name(system)
        _run_together([[*command, "-shared", *more, *alone, *objects, "-o", str(built)]])
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{built.name}.{os.getpid()}"
        shutil.copyfile(built, unfinished)
        return Path(unfinished.replace(folder / built.name))


def _run_together(steps: list[list[str]]) -> None:
    running = [
        subprocess.Popen(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for step in steps
    ]
    said = [process.communicate()[0] for process in running]
    for step, process, text in zip(steps, running, said, strict=True):
        if process.returncode:
            raise BuildError(f"{shlex.join(step)}\n{text}")


def wheels(folder: Path) -> None:
    """Builds a wheel for each platform and one for all others, and looks at Linux's.

    auditwheel finds the platform that the wheel's name says, capstone no fused operations.
    """
    from tests.disassembly import FUSED, elf_listing

    for tag in (*PLATFORMS, "pure"):
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
        subprocess.run(
            [*command, str(ROOT)], check=True, env={**os.environ, "INITSERVE_WHEEL": tag}
        )
        if "linux" in tag:
            (wheel,) = folder.glob(f"*-{tag}.whl")
            seen = subprocess.run(
                [sys.executable, "-m", "auditwheel", "show", str(wheel)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            if tag not in " ".join(seen.split()):
                raise SystemExit(f"{wheel.name} is not what its name says: {seen}")
            with tempfile.TemporaryDirectory() as scratch:
                member = f"initcore/backends/native/{library_name('linux')}"
                library = Path(zipfile.ZipFile(wheel).extract(member, scratch))
                if fused := FUSED.search(elf_listing(library)):
                    raise SystemExit(f"{wheel.name} has fused operations: {fused[0]}")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program, or by the tests
    BuildHookInterface = object


class NativeHook(BuildHookInterface):  # type: ignore[misc]
    """Puts the library into wheels, and beside the source of an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the library before the wheel is written."""
        self._scratch: Path | None = None
        tag = os.environ.get("INITSERVE_WHEEL")
        if tag == "pure":
            return
        if tag and tag not in PLATFORMS:
            raise ValueError(f"INITSERVE_WHEEL is {tag!r}; use one of {', '.join(PLATFORMS)}, pure")
        command = ziglang() if tag else compiler()
        if command is None:
            self.app.display_warning(
                "No C++ compiler was found (set CXX, or install g++, clang++, or ziglang from "
                "PyPI): initserve is built without its library, and large work will be slow."
            )
            return
        if version == "editable":
            build(FOLDER, command)
        else:
            self._scratch = Path(tempfile.mkdtemp())
            built = build(self._scratch, command, PLATFORMS.get(tag or ""))
            build_data["force_include"][str(built)] = f"initcore/backends/native/{built.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag or _this_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what was built for the wheel."""
        if self._scratch:
            shutil.rmtree(self._scratch)


def _this_platform() -> str:
    name = sysconfig.get_platform().replace("universal2", platform.machine())
    return name.replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    if sys.argv[1:] == ["wheels"]:
        wheels(ROOT / "dist")
    elif not sys.argv[1:]:
        found = compiler()
        if found is None:
            raise SystemExit("no C++ compiler: install g++ or clang++, or pip install ziglang")
        print(build(FOLDER, found))
    else:
        raise SystemExit(__doc__)
