"""On a GPU: what torch, JAX and CuPy get was made there, and has the bits of the host.

Skipped where there is no CUDA device.
"""

from __future__ import annotations

from typing import Any

import initclient as ic
import numpy as np
import pytest

from tests.gpu.test_on_device import MISSING

if MISSING:
    pytest.skip(f"no CUDA device: {MISSING}", allow_module_level=True)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:.*zero-element tensors"),
]

PLAN = ic.Plan(
    {
        "normal": ic.normal((129, 33)),
        "bf16": ic.uniform((64, 7), dtype="bfloat16"),
        "constant": ic.constant((5,), -1.5, dtype="float16"),
        "matrix": ic.orthogonal((16, 8)),
        "scalar": ic.normal(()),
        "none": ic.zeros((0, 4)),
        "padded": ic.normal((6, 4), zero_rows=(0, 3)),
        "counter": ic.ones((3,), dtype="int32"),
    },
    seed=7,
).shard({"normal": (slice(3, 101), slice(5, 30))})


def on_host(array: Any) -> np.ndarray:
    if hasattr(array, "get"):
        return array.get()
    if hasattr(array, "cpu"):
        import torch

        integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
        return array.cpu().view(integers[array.element_size()]).numpy()
    return np.asarray(array)


@pytest.mark.parametrize("backend", ["cupy", "numpy"])
@pytest.mark.parametrize(
    ("framework", "device"), [("cupy", None), ("torch", "cuda"), ("jax", "gpu")]
)
def test_every_framework_has_the_bits_of_the_host(
    framework: str, device: str | None, backend: str
) -> None:
    pytest.importorskip(framework)
    try:
        found = ic.fetch(PLAN, target="local", backend=backend, framework=framework, device=device)
    except ic.BackendError as error:
        pytest.skip(f"{framework} sees no GPU: {error}")
    wanted = ic.fetch(PLAN, target="local", backend="numpy")
    for name, array in found.items():
        assert tuple(array.shape) == wanted[name].shape
        assert on_host(array).tobytes() == wanted[name].tobytes(), name


def test_a_strided_torch_tensor_is_filled_in_place() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    from initclient._compute.frameworks._gpu import fill_device
    from initcore import layout
    from initcore.backends import load

    plan = ic.Plan({"w": ic.normal((6, 4), dtype="bfloat16")}, seed=3)
    whole = torch.zeros((4, 6), dtype=torch.bfloat16, device="cuda")
    (entry,) = layout(plan).entries
    assert fill_device(load("cupy"), entry.tensor, whole.T)
    wanted = ic.fetch(plan, target="local", backend="numpy")["w"]
    assert on_host(whole.T.contiguous()).tobytes() == wanted.tobytes()
    assert not fill_device(load("numpy"), entry.tensor, whole.T)
