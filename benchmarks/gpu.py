"""The GPU's part, in one call: python benchmarks/gpu.py [--quick]. Skips where there is none.

Fill rates of the CUDA backend beside the device's own fill and copy rates, torch's and CuPy's
generators; arrays of the host through the GPU; and what a served fetch saves when a GPU generates.
Prints a table and writes benchmarks/results/gpu.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import workloads
from _turns import RESULTS, Machine, Row, Way, compared, print_rows, table, take_turns


def missing() -> str:
    """Why nothing can be measured here; "" if something can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed: pip install 'initserve[cuda12]'"
    from initcore.backends import load
    from initcore.errors import BackendError, MissingPackageError

    try:
        load("cupy")
    except (BackendError, MissingPackageError) as error:
        return str(error)
    return ""


def fills(elements: int, turns: int) -> Iterator[Row]:
    """Arrays that stay on the device."""
    import cupy
    from initcore.backends import load

    backend: Any = load("cupy")
    torch = _torch_with_cuda()
    stream = cupy.cuda.get_current_stream()

    def waited(work: Callable[[], object]) -> Way:
        def way() -> None:
            work()
            stream.synchronize()
            if torch:
                torch.cuda.synchronize()

        return way

    draws = {
        "normal": workloads.normal(),
        "uniform": workloads.uniform(),
        "trunc_normal": workloads.trunc_normal(0.02, 0.04),
    }
    runs = workloads.one_run(elements)
    for name, draw in draws.items():
        for dtype, storage in (("F32", np.float32), ("BF16", np.uint16)):
            out, other = cupy.empty(elements, storage), cupy.empty(elements, storage)
            job = workloads.job(draw, dtype)
            ways: dict[str, Way] = {
                "ours": waited(lambda job=job, out=out: backend.fill_device(job, runs, out)),
                "device fill": waited(lambda out=out: out.fill(1)),
                "device copy": waited(lambda out=out, other=other: cupy.copyto(other, out)),
            }
            if dtype == "F32" and name != "trunc_normal":
                generator = cupy.random.default_rng(7)
                made = generator.standard_normal if name == "normal" else generator.random
                ways["CuPy"] = waited(
                    lambda made=made, out=out: made(elements, dtype=np.float32, out=out)
                )
            if torch:
                kind = torch.float32 if dtype == "F32" else torch.bfloat16
                held = torch.empty(elements, dtype=kind, device="cuda")
                theirs = {
                    "normal": lambda held=held: held.normal_(0.0, 0.02),
                    "uniform": lambda held=held: held.uniform_(),
                    "trunc_normal": lambda held=held: torch.nn.init.trunc_normal_(
                        held, 0.0, 0.02, -0.04, 0.04
                    ),
                }
                ways["torch"] = waited(theirs[name])
            taken = take_turns(ways, turns, warm_up=3)
            for against in ways:
                if against != "ours":
                    reach = {"device fill": 0.5, "torch": 1.0} if name == "normal" else {}
                    yield compared(
                        taken["ours"],
                        taken[against],
                        scale=1e9 / elements,
                        group="On the GPU",
                        name=f"{name} {dtype.lower()}",
                        where="GPU",
                        against=against,
                        reach=reach.get(against) if dtype == "F32" else None,
                    )
            del out, other, ways
            cupy.get_default_memory_pool().free_all_blocks()


def to_the_host(elements: int, turns: int) -> Iterator[Row]:
    """Arrays of the host: through the GPU, by the CPU, and by torch on the GPU with a copy."""
    torch = _torch_with_cuda()
    for dtype in ("F32", "BF16"):
        ways = {
            name: workloads.filler(name, workloads.normal(), dtype, elements)
            for name in ("cupy", "native")
        }
        if torch:
            kind = torch.float32 if dtype == "F32" else torch.bfloat16
            held = torch.empty(elements, dtype=kind, device="cuda")
            host = torch.empty(elements, dtype=kind)

            def copied(held: Any = held, host: Any = host) -> None:
                host.copy_(held.normal_(0.0, 0.02))

            ways["torch, with a copy"] = copied
        taken = take_turns(ways, turns)
        for against in ways:
            if against != "cupy":
                yield compared(
                    taken["cupy"],
                    taken[against],
                    scale=1e9 / elements,
                    group="Into memory of the host",
                    name=f"normal {dtype.lower()}",
                    where="GPU",
                    against=against,
                )


def served(mebibytes: int, turns: int) -> Iterator[Row]:
    """A fetch from a server whose chunks a GPU makes, beside one whose chunks the CPU makes."""
    from serving import Clients, Server

    with (
        Server("--backend", "cupy", "--cache-bytes", "0") as gpu,
        Server("--backend", "native", "--cache-bytes", "0") as cpu,
        Clients(1) as clients,
    ):
        seeds = iter(range(10_000))

        def way(server: Any) -> Way:
            order = {"what": "fetch", "target": server.target, "mebibytes": mebibytes}
            return lambda: clients.fetch(1, **order, seed=next(seeds), new_memory=False)

        used: dict[str, float] = {}
        taken = take_turns({"cupy": way(gpu), "native": way(cpu)}, turns)
        for name, server in (("cupy", gpu), ("native", cpu)):
            used[name] = server.processor_seconds()
        about: dict[str, Any] = {"name": f"{mebibytes} MiB normal bf16", "against": "native"}
        group = "A served fetch"
        yield compared(
            taken["cupy"], taken["native"], unit="s", group=group, where="seconds", **about
        )
        yield compared(
            [used["cupy"]], [used["native"]], unit="s", group=group, where="CPU", **about
        )


def _torch_with_cuda() -> Any:
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch if torch.cuda.is_available() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns, less work")
    parser.add_argument("--json", action="store_true", help="rows as JSON, and no file")
    options = parser.parse_args()
    reason = missing()
    if reason:
        if options.json:
            print_rows([])
        else:
            print(f"skipped, no GPU to measure: {reason}")
        return
    machine = Machine()
    elements, turns = (1 << 26, 5) if options.quick else (1 << 28, 15)
    rows = [
        *fills(elements, turns),
        *to_the_host(elements // 4, turns),
        *served(128 if options.quick else 512, 3 if options.quick else 7),
    ]
    if options.json:
        print_rows(rows)
        return
    print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    about = machine.report() | {"gpu": _name()}
    text = json.dumps({"machine": about, "rows": [asdict(row) for row in rows]}, indent=1)
    (RESULTS / "gpu.json").write_text(text + "\n")


def _name() -> str:
    import cupy

    return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())


if __name__ == "__main__":
    main()
