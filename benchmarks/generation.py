"""Generation beside torch, NumPy, JAX and a plain fill of memory; see README.md here.

python benchmarks/generation.py [--quick]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import workloads
from _turns import Row, Way, compared, cpus, in_a_process, print_rows, table, take_turns


def against_libraries(cores: int, elements: int, turns: int) -> Iterator[Row]:
    """Each scheme and element type, in this process, which was started for so many cores."""
    where = f"{cores} core{'s' if cores > 1 else ''}"
    jax = _jax_ways(elements)
    for work in workloads.fills(cores, elements):
        ways: dict[str, Way] = {"ours": work.ours, "torch": work.torch}
        if work.numpy:
            ways["NumPy"] = work.numpy
        if work.fill:
            ways["memory fill"] = work.fill
        taken = take_turns(ways, turns)
        if work.jax in jax:
            # JAX has no way to write into an array that is there, so ours makes one, too. In
            # turns of their own, since JAX's threads are busy a while longer than its work.
            pair = {"ours, with its memory": work.fetch, "JAX": jax[work.jax]}
            taken |= take_turns(pair, turns)
        for other in ("torch", "NumPy", "memory fill", "JAX"):
            if other not in taken:
                continue
            mine = "ours, with its memory" if other == "JAX" else "ours"
            yield compared(
                taken[mine],
                taken[other],
                scale=1e9 / elements,
                group=f"Generation, beside {other}",
                name=work.name,
                where=where,
                against=other,
                reach=work.reach.get(other),
            )


def _jax_ways(elements: int) -> dict[str, Way]:
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return {}
    key = jax.random.key(7)

    def way(draw: Callable[..., Any], *arguments: Any) -> Way:
        made = jax.jit(lambda k: draw(k, *arguments))
        return lambda: made(key).block_until_ready()

    shape = (elements,)
    return {
        "normal f32": way(jax.random.normal, shape),
        "normal bf16": way(jax.random.normal, shape, jnp.bfloat16),
        "uniform f32": way(jax.random.uniform, shape),
        "trunc_normal f32": way(jax.random.truncated_normal, -2.0, 2.0, shape),
    }


def by_size(turns: int, largest: int) -> Iterator[Row]:
    """Nanoseconds an element from a thousand elements to `largest`, whole calls and fills."""
    import torch

    for exponent in range(3, 10):
        count = 10**exponent
        if count > largest:
            break
        held = torch.empty(count, dtype=torch.bfloat16)
        ways = {
            "native": workloads.filler("native", workloads.normal(), "BF16", count),
            "torch": lambda held=held: torch.nn.init.normal_(held, 0.0, 0.02),
        }
        if count <= 10**7:
            ways["NumPy"] = workloads.filler("numpy", workloads.normal(), "BF16", count)
        repeats = max(1, 10**6 // count)
        ways = {name: _repeated(way, repeats) for name, way in ways.items()}
        taken = take_turns(ways, turns if count < 10**9 else 2)
        for backend in ("native", "NumPy"):
            if backend in taken:
                yield compared(
                    taken[backend],
                    taken["torch"],
                    scale=1e9 / count / repeats,
                    group="Generation by size, normal bf16",
                    name=f"1e{exponent} elements, {backend}",
                    where=f"{len(cpus())} cores",
                    against="torch",
                )


def _repeated(way: Way, times: int) -> Way:
    def repeated() -> None:
        for _ in range(times):
            way()

    return repeated


def slices(turns: int, rows: int) -> Iterator[Row]:
    """Whole fetches of shards with as many elements: of some rows, and of some columns."""
    import initclient as ic

    columns = 4096

    def way(shape: tuple[int, int], part: tuple[slice, slice], backend: str) -> Way:
        plan = ic.Plan({"w": ic.normal(shape, std=0.02)}, 7).shard({"w": part})
        return lambda: ic.fetch(plan, target="local", backend=backend)

    for backend, widths in (("native", (1, 2, 3, 4, 8, 16, 64, 1024)), ("numpy", (1, 2, 4, 64))):
        count = rows if backend == "native" else rows // 8
        whole = way((count // columns, columns), (slice(None), slice(None)), backend)
        ways = {"row shard": whole}
        for width in widths:
            # Column 5: not where a Philox counter begins.
            part = slice(None), slice(5, 5 + width)
            ways[f"{width}"] = way((count // width, columns), part, backend)
        taken = take_turns(ways, turns)
        for width in widths:
            yield compared(
                taken[f"{width}"],
                taken["row shard"],
                scale=1e9 / count,
                group="Column shards beside row shards of as many elements, normal f32",
                name=f"{width} wide, {backend}",
                where=f"{os.environ.get('INITSERVE_THREADS', len(cpus()))} cores",
                against="row shard",
                reach=0.25 if width == 1 and backend == "native" else None,
            )


def backends(turns: int, elements: int) -> Iterator[Row]:
    """The NumPy backend beside the native one, on one core each."""
    for name, draw in (("normal", workloads.normal()), ("uniform", workloads.uniform())):
        for dtype in ("F32", "BF16"):
            ways = {
                "numpy": workloads.filler("numpy", draw, dtype, elements),
                "native": workloads.filler("native", draw, dtype, elements),
            }
            taken = take_turns(ways, turns)
            yield compared(
                taken["numpy"],
                taken["native"],
                scale=1e9 / elements,
                group="The NumPy backend beside the native one",
                name=f"{name} {dtype.lower()}",
                where="1 core",
                against="native",
                reach=1 / 12,
            )


def schemes(turns: int, elements: int) -> Iterator[Row]:
    """The schemes and element types that the first table leaves out."""
    for work in workloads.wholes(elements):
        yield _beside_torch(work, turns, "Other schemes and element types, beside torch")


def constants(turns: int, elements: int) -> Iterator[Row]:
    """Tensors of one value, in sizes about that of a CPU's last cache and far beyond it."""
    for size in (elements // 2, 4 * elements):
        for work in workloads.constants(size):
            yield _beside_torch(work, 3 * turns, "Constants, beside torch", reach=1.0)


def _beside_torch(work: workloads.Whole, turns: int, group: str, reach: float | None = None) -> Row:
    ways: dict[str, Way] = {"ours": work.ours}
    if work.torch:
        ways["torch"] = work.torch
    taken = take_turns(ways, turns)
    cores = len(cpus())
    return compared(
        taken["ours"],
        taken.get("torch"),
        scale=1e9 / work.elements,
        group=group,
        name=work.name,
        where=f"{cores} core{'s' * (cores > 1)}",
        against="torch" if work.torch else "",
        reach=reach,
    )


def new_memory(turns: int, elements: int) -> Iterator[Row]:
    """A fetch, which makes its memory, beside torch and beside that memory alone."""
    import initclient as ic
    import torch

    plan = ic.Plan({"w": ic.normal((elements,), std=0.02)}, 7)
    taken = take_turns(
        {
            "fetch": lambda: ic.fetch(plan, target="local", backend="native"),
            "torch": lambda: torch.empty(elements).normal_(0.0, 0.02),
            # By all threads, with the pages that the system gives by itself.
            "new memory, filled with one value": lambda: torch.empty(elements).fill_(1.0),
        },
        turns,
    )
    for name in ("fetch", "new memory, filled with one value"):
        yield compared(
            taken[name],
            taken["torch"],
            scale=1e9 / elements,
            group="Into new memory, beside torch.empty().normal_()",
            name=f"normal f32, {elements * 4 >> 20} MiB" if name == "fetch" else name,
            where=f"{len(cpus())} cores",
            against="torch",
            reach=1.5 if name == "fetch" else None,
        )


def orthogonal(turns: int, side: int) -> Iterator[Row]:
    """A square matrix beside torch's, and how far both are from orthogonal."""
    import torch

    ours = workloads.orthogonal(side)
    square = torch.empty(side, side)
    ways = {"ours": ours, "torch": lambda: torch.nn.init.orthogonal_(square)}
    taken = take_turns(ways, turns)
    about: dict[str, Any] = {"name": f"{side} x {side}", "where": f"{len(cpus())} cores"}
    yield compared(
        taken["ours"],
        taken["torch"],
        group="orthogonal",
        unit="s",
        against="torch",
        reach=1.0,
        **about,
    )
    mine, theirs = (_defect(values) for values in (np.asarray(ours()), square.numpy()))
    yield compared(
        [mine],
        [theirs],
        scale=1e9,
        group="orthogonal: largest entry of |Q'Q - I|, in 1e-9",
        unit="1e-9",
        against="torch",
        reach=20.0,
        **about,
    )


def _defect(q: np.ndarray[Any, Any]) -> float:
    wide = q.astype(np.float64)
    return float(np.abs(wide.T @ wide - np.eye(len(q))).max())


def rows(part: str, quick: bool) -> list[Row]:
    """One part of the measurements."""
    elements = 1 << (22 if quick else 24)
    turns = 3 if quick else 11
    match part.split(":"):
        case ["fills", cores]:
            import torch

            torch.set_num_threads(int(cores))
            return list(against_libraries(int(cores), elements, turns))
        case ["constants"]:
            return list(constants(turns, elements))
        case ["schemes"]:
            return list(schemes(turns, elements // 2))
        case ["sizes"]:
            return list(by_size(turns, 10**7 if quick else 10**9))
        case ["slices"]:
            return list(slices(turns, elements // 2))
        case ["backends"]:
            return list(backends(turns, elements // 4))
        case ["memory"]:
            return list(new_memory(3 if quick else 7, elements << (2 if quick else 4)))
        case ["orthogonal", side]:
            return list(orthogonal(3 if quick else 5, int(side)))
    raise SystemExit(f"no part {part!r}")


def measure(quick: bool) -> list[Row]:
    """Everything, each part in a process of its own."""
    parts = [("fills:1", 1), ("backends", 1), ("slices", 1), ("sizes", None)]
    if len(cpus()) > 1:
        parts.insert(1, ("fills:2", 2))
    parts += [
        ("schemes", None),
        ("memory", None),
        ("orthogonal:2048", None),
        *([] if quick else [("orthogonal:4096", None)]),
    ]
    more = ["--quick"] if quick else []
    found = []
    for part, cores in parts:
        found += in_a_process("generation.py", "--part", part, *more, cores=cores)
    for cores in sorted({1, len(cpus())}):
        # For milliseconds after an operation torch's threads spin on the CPUs that our turn wants.
        found += in_a_process(
            *("generation.py", "--part", "constants", *more),
            cores=cores,
            variables={"OMP_WAIT_POLICY": "passive"},
        )
    return [Row(**row) for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns, less work")
    parser.add_argument("--part", help="one part, its rows as JSON")
    options = parser.parse_args()
    if options.part:
        print_rows(rows(options.part, options.quick))
    else:
        print(table(measure(options.quick)))


if __name__ == "__main__":
    main()
