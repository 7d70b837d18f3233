"""Constants, and the zeros between the points of a lattice, on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from initcore import Plan, VirtualFile, constant, eye, layout
from initcore.backends import load


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64", "f8_e4m3"])
def test_large_constants_are_the_same_on_any_number_of_threads(
    dtype: str, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITSERVE_THREADS", threads)
    size = (9 << 20) + 5
    plan = Plan({"w": constant((size,), -0.75, dtype=dtype), "e": eye((1500, 3001), dtype=dtype)})
    laid_out = layout(plan)
    file = VirtualFile(laid_out, load("native"))
    one, lattice = (file.array(entry) for entry in laid_out.entries)
    assert one.shape == (size,)
    assert (one.view(f"u{one.itemsize}") == one[:1].view(f"u{one.itemsize}")).all()
    assert float(one[0]) == -0.75
    expected = np.eye(1500, 3001, dtype=np.float32).astype(lattice.dtype)
    assert lattice.tobytes() == expected.tobytes()
