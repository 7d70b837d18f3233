"""Installs the launchers and what they import, and names what cannot be installed.

Called by `make test-launchers` with the Python of its environment. Ends with status 1, and the
names, if anything is missing: then the tests do not run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


def pip(*arguments: str) -> bool:
    """Whether pip installs all of this."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # DeepSpeed's operators are compiled where they are used, if at all.
    environment = {**os.environ, "DS_BUILD_OPS": "0"}
    return subprocess.run([*command, *arguments], env=environment).returncode == 0


def lines(name: str) -> list[str]:
    """The requirements in a file."""
    texts = [line.partition("#")[0].strip() for line in (FOLDER / name).read_text().splitlines()]
    return [text for text in texts if text]


def main() -> int:
    """Installs everything, at once if that works, one by one otherwise."""
    missing = []
    if not pip(*lines("requirements.txt")):
        missing += [one for one in lines("requirements.txt") if not pip(one)]
    # Their builds import torch, which is in this environment and not in pip's own.
    alone = ("--no-deps", "--no-build-isolation")
    missing += [one for one in lines("alone.txt") if not pip(*alone, one)]
    if not pip("--no-deps", "-e", str(ROOT)):
        missing.append("initserve itself")
    for one in missing:
        print(f"cannot be installed here: {one}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
