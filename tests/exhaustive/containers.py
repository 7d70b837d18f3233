"""Installs a wheel where there is Python alone, and compares the bits that it makes.

    make wheels
    sudo python tests/exhaustive/containers.py dist

Three roots of Debian 12, each with Python and no compiler: x86-64; the same, mounted read-only and
without a network; and aarch64, which qemu-user runs. In each: pip installs the wheel of that
platform without an index, then a first process fetches examples/small-gpt.yaml. The SHA-256 of the
weights must be equal everywhere, and equal to NumPy's on this machine. It prints how long each step
took, and takes five minutes, most of them in the emulator.

Needs Linux on x86-64, root, debootstrap (apt install debootstrap), and for aarch64
qemu-user-static with binfmt_misc mounted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "examples" / "small-gpt.yaml"
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
PYTHON = "3.11"  # of the suite

FETCH = """
import time
began = time.perf_counter()
import hashlib, sys, warnings
warnings.simplefilter("error")
import initclient as ic
from initcore.backends import select
plan = ic.load_plan("/small-gpt.yaml")
weights = ic.fetch(plan, target="local", backend=sys.argv[1])
total = hashlib.sha256()
for name in sorted(weights):
    total.update(name.encode() + weights[name].tobytes())
print(total.hexdigest(), select(None if sys.argv[1] == "auto" else sys.argv[1]).name,
      f"{time.perf_counter() - began:.2f}")
"""


@dataclass(frozen=True)
class Platform:
    """A root: its name, Debian's and pip's names of the machine, and whether it is read-only."""

    name: str
    debian: str
    pip: str
    read_only: bool = False


PLATFORMS = (
    Platform("x86-64", "amd64", "x86_64"),
    Platform("x86-64, read-only, no network", "amd64", "x86_64", read_only=True),
    Platform("aarch64 under qemu", "arm64", "aarch64"),
)


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("wheels", type=Path, help="the folder of `make wheels`")
    parser.add_argument("--roots", type=Path, help="keep the roots there, and use those that are")
    options = parser.parse_args()
    for needed in ("debootstrap", "chroot", "unshare"):
        if not shutil.which(needed):
            parser.error(f"{needed} is missing: apt install debootstrap qemu-user-static")
    expected = here()
    print(f"{'this machine, NumPy':32} {expected}")
    with tempfile.TemporaryDirectory() as scratch:
        roots = options.roots or Path(scratch)
        found = [measured(platform, options.wheels, roots) for platform in PLATFORMS]
    return int({expected} != set(found))


def here() -> str:
    """The SHA-256 of the weights by NumPy, in this Python."""
    script = FETCH.replace("/small-gpt.yaml", str(PLAN))
    return run([sys.executable, "-c", script, "numpy"]).split()[0]


def measured(platform: Platform, wheels: Path, roots: Path) -> str:
    """Installs and fetches in one root; prints a line; returns the SHA-256 of the weights."""
    root = made_root(platform.debian, roots)
    for compiler in ("cc", "gcc", "g++", "c++", "clang"):
        assert not (root / "usr/bin" / compiler).exists(), f"{root} has {compiler}"
    house, target = root / "wheels", root / "opt" / "initserve"
    for folder in (house, target):
        shutil.rmtree(folder, ignore_errors=True)
    download(platform, wheels, house)
    shutil.copy(PLAN, root / "small-gpt.yaml")
    began = time.perf_counter()
    run(["chroot", str(root), "python3", "-m", "venv", "/opt/initserve"])
    pip = ["/opt/initserve/bin/pip", "install", "-q", "--no-index", "--find-links=/wheels"]
    run(["chroot", str(root), *pip, "initserve"])
    installed = time.perf_counter() - began
    # As a container runs it: the code is compiled when the image is built.
    run(["chroot", str(root), "/opt/initserve/bin/python", "-m", "compileall", "-q", "/opt"])
    fetch = ["/opt/initserve/bin/python", "-c", FETCH, "auto"]
    if platform.read_only:
        script = (
            f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && exec chroot {root} "
            '"$@"'
        )
        refused = f"mount --bind {root} {root}; mount -o remount,ro,bind {root}; touch {root}/x"
        touched = subprocess.run(["unshare", "-m", "sh", "-c", refused], capture_output=True)
        assert touched.returncode, "the root is not read-only"
        answer = run(["unshare", "-m", "-n", "sh", "-c", script, "sh", *fetch])
    else:
        answer = run(["chroot", str(root), *fetch])
    digest, engine, seconds = answer.split()
    print(
        f"{platform.name:32} {digest}  backend {engine}; install {installed:.1f} s, "
        f"imports and first fetch {seconds} s",
        flush=True,
    )
    assert engine == "native", f"{platform.name} used {engine}"
    return digest


def made_root(machine: str, roots: Path) -> Path:
    """A root of Debian with Python and no compiler."""
    root = roots / machine
    if not (root / "usr/bin/python3").exists():
        run(
            [
                *("debootstrap", f"--arch={machine}", "--variant=minbase"),
                *("--include=python3,python3-venv", SUITE, str(root), MIRROR),
            ]
        )
    return root


def download(platform: Platform, wheels: Path, house: Path) -> None:
    """The wheel for a platform and those of its dependencies."""
    names = [f"manylinux_2_{minor}_{platform.pip}" for minor in range(17, 37)]
    tags = [
        word for tag in (*names, f"manylinux2014_{platform.pip}") for word in ("--platform", tag)
    ]
    run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", *tags),
            *("--python-version", PYTHON, "--dest", str(house), str(wheel_of(platform, wheels))),
        ]
    )


def wheel_of(platform: Platform, wheels: Path) -> Path:
    """The wheel of `make wheels` for glibc on a machine."""
    found = sorted(wheels.glob(f"initserve-*-manylinux*_{platform.pip}.whl"))
    if len(found) != 1:
        sys.exit(f"{wheels} has {len(found)} wheels for {platform.pip}; run `make wheels`")
    return found[0]


def run(command: list[str]) -> str:
    """What a command prints; its error if it fails."""
    # In a root, no setting of this machine.
    inside = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    env = dict(os.environ) if command[0] == sys.executable else inside
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        sys.exit(
            f"{' '.join(command[:6])} ... ended with {done.returncode}:\n{done.stderr[-3000:]}"
        )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
