"""How long until something happens: a small fetch from the command line, a server that is ready.

    python benchmarks/coldstart.py [--quick]

Every turn is a process of its own, beside Python alone and beside `import torch`. Caches are warm:
Python's bytecode and the system's files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from _turns import Row, compared, print_part, take_turns
from serving import Server

_PLAN = """
seed: 7
tensors:
  - {name: fc.weight, shape: [1024, 1024], dtype: BF16, scheme: KAIMING_NORMAL}
  - {name: fc.bias, shape: [1024], scheme: ZEROS}
"""
_LIMITS = {"initclient fetch of a small plan": 0.7, "initserver until it is ready": 1.0}


def rows(quick: bool) -> Iterator[Row]:
    """Seconds of each start; the ratio is that of a limit to the start."""
    turns = 3 if quick else 11

    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        plan, out = Path(folder, "plan.yaml"), Path(folder, "out.safetensors")
        plan.write_text(_PLAN)

        def python(code: str) -> None:
            subprocess.run([sys.executable, "-c", code], check=True)

        def fetch() -> None:
            command = [sys.executable, "-m", "initclient", "fetch", str(plan), "--out", str(out)]
            subprocess.run(command, check=True, capture_output=True)
            out.unlink()

        def serve() -> None:
            # It stops after all turns: a stop takes as long as a start, and is not measured.
            servers.enter_context(Server("--backend", "native"))

        ways = {
            "python": lambda: python("pass"),
            "import numpy": lambda: python("import numpy"),
            "import initclient": lambda: python("import initclient"),
            "import torch": lambda: python("import torch"),
            "initclient fetch of a small plan": fetch,
            "initserver until it is ready": serve,
        }
        taken = take_turns(ways, turns)
    for name, seconds in taken.items():
        limit = _LIMITS.get(name)
        yield compared(
            seconds,
            [limit] * len(seconds) if limit else None,
            group="Cold start",
            name=name,
            unit="s",
            against="limit" if limit else "",
            reach=1.0 if limit else None,
        )


if __name__ == "__main__":
    print_part(__doc__, rows)
