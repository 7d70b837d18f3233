"""What is measured: pairs of functions that do the same work, ours and torch's.

torch and initcore are imported by the functions, after the process was told which CPUs
it may use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

ELEMENTS = 1 << 24
SIDE = 2048


@dataclass(frozen=True)
class Workload:
    """Two ways to do one thing.

    Attributes:
        name: its name in the table.
        ours: with this project.
        theirs: with torch; None if it cannot here.
        elements: how many elements one call makes.
        target: how many times as fast as torch we want to be; None if nothing was promised.
    """

    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object] | None
    elements: int
    target: float | None


def cpu_workloads(cores: int) -> Iterator[Workload]:
    """Filling arrays that exist, then whole calls, then an orthogonal matrix."""
    import torch
    from torch.nn import init

    single = cores == 1
    # torch fills in place, so both write to memory that is there already.
    f32, bf16 = torch.empty(ELEMENTS), torch.empty(ELEMENTS, dtype=torch.bfloat16)

    def torch_normal() -> object:
        return init.normal_(f32, 0.0, 0.02)

    def torch_narrow() -> object:
        return init.trunc_normal_(f32, 0.0, 0.02, -0.04, 0.04)

    # torch uses one core for most of these, however many there are.
    normal, uniform = _normal(), _uniform()
    target = 2.0 if single else 3.6
    yield Workload("normal f32", _filler(normal, "F32"), torch_normal, ELEMENTS, target)
    target_1 = 3.0 if single else None
    yield Workload(
        "uniform f32", _filler(uniform, "F32"), lambda: init.uniform_(f32), ELEMENTS, target_1
    )
    yield Workload(
        "normal bf16",
        _filler(normal, "BF16"),
        lambda: init.normal_(bf16, 0.0, 0.02),
        ELEMENTS,
        2.8 if single else None,
    )
    target_1 = 18.0 if single else None
    narrow, default = _trunc_normal(0.02, 0.04), _trunc_normal(1.0, 2.0)
    yield Workload(
        "trunc_normal f32, std 0.02", _filler(narrow, "F32"), torch_narrow, ELEMENTS, target_1
    )
    yield Workload(
        "trunc_normal f32, default",
        _filler(default, "F32"),
        lambda: init.trunc_normal_(f32),
        ELEMENTS,
        target_1,
    )
    yield Workload(
        "normal f32, with its memory",
        _fetcher(),
        lambda: init.normal_(torch.empty(ELEMENTS), 0.0, 0.02),
        ELEMENTS,
        None,
    )
    square = torch.empty(SIDE, SIDE)
    yield Workload(
        f"orthogonal {SIDE} x {SIDE}",
        _orthogonal(),
        lambda: init.orthogonal_(square),
        SIDE * SIDE,
        1 / 1.5,
    )


def gpu_workloads() -> Iterator[Workload]:
    """The same on a GPU: filling its memory, and an array of the host through it.

    Raises:
        Exception: CuPy's, or ours, where no GPU answers.
    """
    import cupy
    import torch
    from initcore.backends import load

    backend: Any = load("cupy")
    has_torch = torch.cuda.is_available()
    for dtype, storage in (("F32", np.float32), ("BF16", np.uint16)):
        job, runs = _job(_normal(), dtype), _runs()
        device, host = cupy.empty(ELEMENTS, storage), np.empty(ELEMENTS, storage)
        theirs = to_host = None
        if has_torch:
            kind = torch.float32 if dtype == "F32" else torch.bfloat16
            values = torch.empty(ELEMENTS, dtype=kind, device="cuda")
            theirs, to_host = _on_torch_gpu(values)

        def ours(job: Any = job, runs: Any = runs, device: Any = device) -> None:
            backend.fill_device(job, runs, device)
            cupy.cuda.get_current_stream().synchronize()

        def through(job: Any = job, runs: Any = runs, host: Any = host) -> None:
            backend.fill(job, runs, host)

        yield Workload(f"normal {dtype.lower()}, on the GPU", ours, theirs, ELEMENTS, None)
        yield Workload(f"normal {dtype.lower()}, to the host", through, to_host, ELEMENTS, None)


def _on_torch_gpu(values: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    import torch

    def fill() -> None:
        torch.nn.init.normal_(values, 0.0, 0.02)
        torch.cuda.synchronize()

    def fill_and_copy() -> None:
        fill()
        values.cpu()

    return fill, fill_and_copy


def _normal() -> Any:
    from initcore.draws import NormalDraw

    return NormalDraw(0.0, float(np.float32(0.02)))


def _uniform() -> Any:
    from initcore.draws import UniformDraw

    return UniformDraw(0.5, 0.5, 0.0, float(np.nextafter(np.float32(1), np.float32(0))))


def _trunc_normal(std: float, bound: float) -> Any:
    from initcore.draws import TruncNormalDraw

    # +-2 sigma: the distribution function there, times 2^32.
    first = 97712117
    ends = (float(np.float32(x)) for x in (std, -bound, bound))
    scale, low, high = ends
    return TruncNormalDraw(first, 2**32 - 2 * first, 0.0, scale, low, high)


def _job(draw: Any, dtype: str) -> Any:
    from initcore.draws import Job
    from initcore.stream import VALUE, derive

    return Job(draw, derive(VALUE, 7, "benchmark"), dtype)


def _runs() -> Any:
    from initcore.draws import Runs

    return Runs(np.zeros(1, dtype=np.uint64), ELEMENTS)


def _filler(draw: Any, dtype: str) -> Callable[[], object]:
    from initcore.backends import load
    from initcore.dtypes import DTYPES

    backend, job, runs = load("numba"), _job(draw, dtype), _runs()
    out = np.empty(ELEMENTS, dtype=DTYPES[dtype].storage)
    return lambda: backend.fill(job, runs, out)


def _fetcher() -> Callable[[], object]:
    import initclient as ic

    plan = ic.Plan(seed=7, tensors={"w": ic.normal((ELEMENTS,), std=0.02)})
    return lambda: ic.fetch(plan, target="local", backend="numba")


def _orthogonal() -> Callable[[], object]:
    from initcore.backends import load
    from initcore.contents import Orthogonal
    from initcore.matrices import orthogonal_values

    backend, content = load("numba"), Orthogonal(SIDE, SIDE, 1.0)
    return lambda: orthogonal_values(content, 7, "benchmark", backend)
