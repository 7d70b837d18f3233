"""What is measured of generation: functions that do the same work, ours and others'.

torch and initcore are imported by the functions, after the process was told which CPUs
it may use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Way = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Fill:
    """Ways to fill memory that is there already.

    Attributes:
        name: of the row.
        ours: this project's native backend.
        torch: torch.nn.init.
        numpy: NumPy's Generator; None where it has no such distribution.
        fill: the memory filled with a constant; None if another row has it.
        fetch: ours with its memory, by the public function.
        jax: the name of what JAX does instead.
        reach: ratios that the project wants to reach, by what it is compared with.
    """

    name: str
    ours: Way
    torch: Way
    fetch: Way
    numpy: Way | None = None
    fill: Way | None = None
    jax: str = ""
    reach: Mapping[str, float] = field(default_factory=dict)


def fills(cores: int, elements: int) -> Iterator[Fill]:
    """Every scheme that draws, in the element types that are used most."""
    import initclient as ic
    import torch
    from torch.nn import init

    single = cores == 1
    f32 = torch.empty(elements)
    bf16 = torch.empty(elements, dtype=torch.bfloat16)
    there = np.empty(elements, dtype=np.float32)
    there16 = np.empty(elements, dtype=np.uint16)
    generator = np.random.default_rng(7)
    jax_reach = {} if single else {"JAX": 12.0}

    def fetch(tensor: Any) -> Way:
        plan = ic.Plan({"w": tensor}, 7)
        return lambda: ic.fetch(plan, target="local", backend="native")

    yield Fill(
        name="normal f32",
        ours=filler("native", normal(), "F32", elements),
        torch=lambda: init.normal_(f32, 0.0, 0.02),
        numpy=lambda: generator.standard_normal(out=there, dtype=np.float32),
        fill=lambda: there.fill(1),
        fetch=fetch(ic.normal((elements,), std=0.02)),
        jax="normal f32",
        reach={"torch": 2.5 if single else 5.0, **jax_reach},
    )
    yield Fill(
        name="normal bf16",
        ours=filler("native", normal(), "BF16", elements),
        torch=lambda: init.normal_(bf16, 0.0, 0.02),
        fill=lambda: there16.fill(1),
        fetch=fetch(ic.normal((elements,), std=0.02, dtype="bfloat16")),
        jax="normal bf16",
        reach={"torch": 3.5} if single else {},
    )
    yield Fill(
        name="uniform f32",
        ours=filler("native", uniform(), "F32", elements),
        torch=lambda: init.uniform_(f32),
        numpy=lambda: generator.random(out=there, dtype=np.float32),
        fetch=fetch(ic.uniform((elements,))),
        jax="uniform f32",
        reach={"torch": 4.5} if single else {},
    )
    yield Fill(
        name="uniform bf16",
        ours=filler("native", uniform(), "BF16", elements),
        torch=lambda: init.uniform_(bf16),
        fetch=fetch(ic.uniform((elements,), dtype="bfloat16")),
    )
    yield Fill(
        name="trunc_normal f32, std 0.02",
        ours=filler("native", trunc_normal(0.02, 0.04), "F32", elements),
        torch=lambda: init.trunc_normal_(f32, 0.0, 0.02, -0.04, 0.04),
        fetch=fetch(ic.trunc_normal((elements,), 0.0, 0.02, -0.04, 0.04)),
        reach={"torch": 25.0} if single else {},
    )
    yield Fill(
        name="trunc_normal f32, default",
        ours=filler("native", trunc_normal(1.0, 2.0), "F32", elements),
        torch=lambda: init.trunc_normal_(f32),
        fetch=fetch(ic.trunc_normal((elements,))),
        jax="trunc_normal f32",
        reach={"torch": 25.0} if single else {},
    )


@dataclass(frozen=True)
class Whole:
    """Ways to make a tensor of one scheme and element type in memory that is there.

    Attributes:
        name: of the row.
        elements: how many it has.
        ours: by the plan, as the service does.
        torch: torch.nn.init; None where it has no such scheme or cannot write the type.
    """

    name: str
    elements: int
    ours: Way
    torch: Way | None


def wholes(elements: int) -> Iterator[Whole]:
    """The other element types and schemes; orthogonal matrices have a table of their own."""
    import initclient as ic
    import torch
    from torch.nn import init

    rows = elements // 2048
    flat, matrix, kernel = (elements,), (rows, 2048), (elements // 9 // 512, 512, 3, 3)
    cases: list[tuple[str, Any, Callable[[Any], object] | None]] = []
    for dtype in ("f16", "f64", "f8_e4m3"):
        # torch draws no float8.
        cases += [
            (f"normal {dtype}", ic.normal(flat, std=0.02, dtype=dtype), init.normal_),
            (f"uniform {dtype}", ic.uniform(flat, dtype=dtype), init.uniform_),
        ]
    cases += [
        ("xavier_uniform f32", ic.xavier_uniform(matrix), init.xavier_uniform_),
        ("kaiming_normal bf16", ic.kaiming_normal(matrix, dtype="bf16"), init.kaiming_normal_),
        ("dirac f32", ic.dirac(kernel), init.dirac_),
        ("sparse f32", ic.sparse(matrix, 0.1), lambda tensor: init.sparse_(tensor, 0.1)),
        ("hadamard f32", ic.hadamard(matrix), None),
    ]
    kinds = {"F16": torch.float16, "F64": torch.float64, "BF16": torch.bfloat16}
    for name, tensor, theirs in cases:
        ours, dtype, shape = _whole(tensor)
        torchs = None
        if theirs is not None and not dtype.startswith("F8"):
            held = torch.empty(shape, dtype=kinds.get(dtype, torch.float32))
            torchs = lambda theirs=theirs, held=held: theirs(held)  # noqa: E731
        yield Whole(name, math.prod(shape), ours, torchs)


def constants(elements: int) -> Iterator[Whole]:
    """Tensors for which nothing is computed: memory is the limit."""
    import initclient as ic
    import torch
    from torch.nn import init

    shape = (elements // 2048, 2048)
    for name, tensor, theirs in (
        ("constant f32", ic.constant(shape, 0.5), lambda held: init.constant_(held, 0.5)),
        ("zeros f32", ic.zeros(shape), init.zeros_),
        ("eye f32", ic.eye(shape), init.eye_),
    ):
        ours, _, _ = _whole(tensor)
        held = torch.empty(shape)
        size = f"{4 * elements >> 20} MiB"
        way = lambda theirs=theirs, held=held: theirs(held)  # noqa: E731
        yield Whole(f"{name}, {size}", elements, ours, way)


def _whole(tensor: Any) -> tuple[Way, str, tuple[int, ...]]:
    """A function that makes all of a tensor; its element type and shape."""
    import initclient as ic
    from initcore import VirtualFile, layout
    from initcore.backends import load

    laid_out, backend = layout(ic.Plan({"w": tensor}, 7)), load("native")
    (entry,) = laid_out.entries
    out = np.empty(entry.tensor.count, dtype=entry.tensor.dtype.storage)
    # A file of its own each time: what it keeps of a sparse matrix would be there the next time.
    return (
        lambda: VirtualFile(laid_out, backend).fill(entry, out),
        entry.tensor.dtype.name,
        entry.tensor.shape,
    )


def normal() -> Any:
    from initcore.stream.draws import NormalDraw

    return NormalDraw(0.0, float(np.float32(0.02)))


def uniform() -> Any:
    from initcore.stream.draws import UniformDraw

    return UniformDraw(0.5, 0.5, 0.0, float(np.nextafter(np.float32(1), np.float32(0))))


def trunc_normal(std: float, bound: float) -> Any:
    from initcore.stream.draws import TruncNormalDraw

    # +-2 sigma: the distribution function there, times 2^32.
    first = 97712117
    scale, low, high = (float(np.float32(x)) for x in (std, -bound, bound))
    return TruncNormalDraw(first, 2**32 - 2 * first, 0.0, scale, low, high)


def job(draw: Any, dtype: str) -> Any:
    from initcore.stream.draws import Job
    from initcore.stream.keys import VALUE, derive

    return Job(draw, derive(VALUE, 7, "benchmark"), dtype)


def one_run(elements: int) -> Any:
    from initcore.stream.draws import Runs

    return Runs(np.zeros(1, dtype=np.uint64), elements)


def filler(backend: str, draw: Any, dtype: str, elements: int) -> Way:
    """A function that fills an array that is there."""
    from initcore.backends import load
    from initcore.dtypes import DTYPES

    chosen, what, runs = load(backend), job(draw, dtype), one_run(elements)
    out = np.empty(elements, dtype=DTYPES[dtype].storage)
    return lambda: chosen.fill(what, runs, out)


def orthogonal(side: int) -> Callable[[], Any]:
    """A function that returns a square orthogonal matrix."""
    from initcore.backends import load
    from initcore.generate.matrices import orthogonal_values
    from initcore.resolve.contents import Orthogonal

    backend, content = load("native"), Orthogonal(side, side, 1.0)
    return lambda: orthogonal_values(content, 7, "benchmark", backend)
