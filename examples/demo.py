"""Initial weights of a small model: computed here, then fetched from a server, to the bit.

Run it with `make demo`, or with Python where initserve[server] is installed. Its files are in a
temporary folder; with a path, it writes the weights there. It exits with an error if a single bit
differs.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import initclient as ic
import numpy as np
from safetensors import safe_open

PLAN_FILE = os.path.relpath(Path(__file__).with_name("small-gpt.yaml"))
NEXT = """\
Next: your first plan, docs/tutorial.md; your own model, docs/torch.md and docs/jax.md; one model in
every parallel layout, examples/any_layout.py; and the help of the commands:
.venv/bin/initclient --help, .venv/bin/initserver --help."""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(sys.argv[1]) if len(sys.argv) > 1 else None
        return demonstrate(Path(folder), kept)


def demonstrate(folder: Path, kept: Path | None) -> int:
    out = kept or folder / "init.safetensors"
    step("The plan: names, shapes and schemes; nothing is computed yet")
    plan = ic.load_plan(PLAN_FILE)
    run_client("describe", PLAN_FILE, "--target", "local")

    step("Weights computed in this process: no server needed")
    run_client("fetch", PLAN_FILE, "--out", str(out), "--target", "local", "--backend", "numpy")
    show_file(out)

    step("The same plan from a server")
    from_server = folder / "from-server.safetensors"
    with serving() as address:
        start = time.perf_counter()
        ic.fetch_file(plan, from_server, target=address)
        print(f"fetched from {address} in {time.perf_counter() - start:.2f} s\n")
        same = compare(out, from_server)

        step("One rank's part of one tensor from the server")
        name, rows = "h.0.mlp.fc.weight", slice(512, 1024)
        start = time.perf_counter()
        shard = ic.fetch(plan.select([name]).shard({name: (rows,)}), target=address)[name]
        seconds = time.perf_counter() - start
        whole = ic.fetch(plan.select([name]), target="local")[name]
        matches = shard.tobytes() == whole[rows].tobytes()
        print(f"{name}[512:1024]: shape {shard.shape}, {shard.dtype}, in {seconds:.3f} s")
        print(f"equal to that slice of the whole tensor: {'yes' if matches else 'NO'}")

    if not (same and matches):
        print("\nSomething differs: this is a bug, please report it.", file=sys.stderr)
        return 1
    print("\nEvery bit agrees." + (f" The weights are in {kept}." if kept else "") + f"\n\n{NEXT}")
    return 0


def step(title: str) -> None:
    print(f"\n== {title}\n", flush=True)


def run_client(*arguments: str) -> None:
    """Runs the command that a person would type."""
    print(f"$ initclient {' '.join(arguments)}\n", flush=True)
    subprocess.run([sys.executable, "-m", "initclient", *arguments], check=True)


def show_file(path: Path) -> None:
    """Opens the file with the stock safetensors library, which knows nothing of initserve."""
    with safe_open(path, framework="np") as file:
        weight = file.get_tensor("wte.weight")
        print(f"\nsafetensors opens it: {len(list(file.keys()))} tensors; wte.weight has")
        print(f"shape {weight.shape}, mean {weight.mean():+.6f}, std {weight.std():.6f}, starts")
        with np.printoptions(precision=6):
            print(weight[0, :5])


def compare(ours: Path, theirs: Path) -> bool:
    """Prints the SHA-256 of both files, and says whether they are equal."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (ours, theirs)]
    print(f"SHA-256, in process  {digests[0]}\nSHA-256, from server {digests[1]}")
    print("equal: " + ("yes" if digests[0] == digests[1] else "NO"))
    return digests[0] == digests[1]


@contextmanager
def serving() -> Iterator[str]:
    """The address of a real server process on a free port; the process is always stopped."""
    command = [sys.executable, "-m", "initserver", "--listen", "127.0.0.1:0"]
    print("$ initserver --listen 127.0.0.1:0\n", flush=True)
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        print(line, end="")
        if "listening at " not in line:
            raise SystemExit("the server did not start: " + line + server.stderr.read())
        yield line.split("listening at ")[1].split(",")[0]
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
