"""fetch returns arrays of NumPy, torch, JAX and CuPy: the same bits, on the given device."""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import initclient as ic
import jax
import numpy as np
import pytest
import torch
from initclient import aio
from initclient._compute import frameworks
from initclient._compute.frameworks._framework import FRAMEWORKS
from initcore import VirtualFile, layout
from initcore.backends import load
from initcore.generate.device_arrays import fill_device, is_made_on_device
from initcore.stream.draws import Job, Runs

# torch.nn.init warns of them too.
pytestmark = pytest.mark.filterwarnings("ignore:.*zero-element tensors")

ROOT = Path(__file__).parents[2]

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
INTEGERS = ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")

PLAN = ic.Plan(
    {
        **{dtype: ic.normal((3, 5), std=0.5, dtype=dtype) for dtype in FLOATS},
        **{dtype: ic.ones((2, 3), dtype=dtype) for dtype in INTEGERS},
        "scalar": ic.constant((), 2.5, dtype="bfloat16"),
        "none": ic.zeros((0, 4)),
        "matrix": ic.orthogonal((6, 4)),
    },
    seed=7,
)
NARROW = PLAN.select(name for name in PLAN.tensors if name not in ("F64", "I64", "U64"))


def bits(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.shape, array.itemsize, array.tobytes()


def torch_bits(tensor: torch.Tensor) -> tuple[Any, ...]:
    raw = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return tuple(tensor.shape), tensor.element_size(), raw


def test_torch_has_the_bits_of_numpy(source: str) -> None:
    wanted = ic.fetch(PLAN, target=source)
    found = ic.fetch(PLAN, target=source, framework="torch")
    assert list(found) == list(wanted)
    for name, tensor in found.items():
        assert str(tensor.dtype) == f"torch.{wanted[name].dtype}"
        assert torch_bits(tensor) == bits(wanted[name])


def test_jax_has_the_bits_of_numpy(source: str) -> None:
    wanted = ic.fetch(NARROW, target=source)
    found = ic.fetch(NARROW, target=source, framework="jax", device="cpu:0")
    assert list(found) == list(wanted)
    for name, array in found.items():
        assert isinstance(array, jax.Array)
        assert array.dtype == wanted[name].dtype
        assert array.devices() == {jax.devices("cpu")[0]}
        assert bits(np.asarray(array)) == bits(wanted[name])


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_asyncio_gives_the_same(source: str, framework: str) -> None:
    wanted = ic.fetch(NARROW, target=source)
    found = asyncio.run(aio.fetch(NARROW, target=source, framework=framework))
    assert list(found) == list(wanted)
    for name, array in found.items():
        got = torch_bits(array) if framework == "torch" else bits(np.asarray(array))
        assert got == bits(wanted[name])


def test_torch_takes_what_a_server_sent_without_a_copy(target: str) -> None:
    tensors = ic.fetch({"a": ic.ones((4,)), "b": ic.zeros((4,))}, target=target, framework="torch")
    # They lie in one block of memory, as they came.
    assert tensors["b"].data_ptr() - tensors["a"].data_ptr() == tensors["a"].nbytes
    tensors["a"][0] = 3
    assert tensors["a"].tolist() == [3, 1, 1, 1]


@pytest.mark.parametrize(
    ("framework", "device", "error", "message"),
    [
        ("tensorflow", None, ValueError, "give one of 'numpy', 'cupy', 'jax', 'torch'"),
        ("numpy", "cuda", ValueError, "device is 'cuda', and NumPy has only the host"),
        ("torch", "gpu", ValueError, "device is 'gpu'; give what torch.device accepts"),
        ("torch", "meta", ValueError, "device is 'meta', which holds no values"),
        ("torch", "cuda:99", ic.BackendError, r"device is 'cuda:99', and torch finds \d+ CUDA"),
        ("jax", 3, TypeError, r"device is 3; give a jax.Device .* initclient.jax.init"),
        ("jax", "npu", ic.BackendError, "device is 'npu', and JAX answers"),
        ("jax", "cpu:999", ic.BackendError, r"device is 'cpu:999', and JAX finds \d+ of 'cpu'"),
    ],
)
def test_what_is_not_known_is_refused_with_the_choices(
    framework: str, device: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ic.fetch(PLAN, target="local", framework=framework, device=device)


@pytest.mark.parametrize("framework", ["torch", "jax", "cupy"])
def test_a_missing_package_answers_with_the_command_that_installs_it(
    framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, framework, None)
    with pytest.raises(ic.MissingPackageError, match=rf"framework='{framework}' needs .* install"):
        ic.fetch(PLAN, target="local", framework=framework)


def test_cupy_without_a_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver")

    runtime = SimpleNamespace(getDeviceCount=fails)
    fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises(ic.BackendError, match="found no usable GPU: cudaErrorInsufficientDriver"):
        ic.fetch(PLAN, target="local", framework="cupy")
    with pytest.raises(ValueError, match="device is 'gpu'; give a number, 'cuda:1'"):
        ic.fetch(PLAN, target="local", framework="cupy", device="gpu")


def test_jax_refuses_what_it_would_cut_to_32_bits() -> None:
    with pytest.raises(ic.PlanError) as caught:
        ic.fetch(PLAN, target="local", framework="jax")
    assert [violation.tensor for violation in caught.value.violations] == ["F64", "I64", "U64"]
    assert "jax_enable_x64" in str(caught.value)


class HostDevice:
    """Fills arrays as the cupy backend does, with NumPy arrays on the host."""

    name = "cupy"

    def fill_device(self, job: Job, runs: Runs, out: np.ndarray[Any, Any]) -> None:
        load("numpy").fill(job, runs, out)


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_made_on_a_device_is_what_the_file_holds(dtype: str) -> None:
    # The way from a plan to runs of samples, which is the same with and without a GPU.
    plan = ic.Plan(
        {
            "whole": ic.normal((7, 9), dtype=dtype),
            "part": ic.trunc_normal((8, 6, 5), dtype=dtype),
            "constant": ic.constant((3, 4), -1.5, dtype=dtype),
            "none": ic.normal((0, 3), dtype=dtype),
            "padded": ic.uniform((6, 4), dtype=dtype, zero_rows=(0, 3)),
            "matrix": ic.orthogonal((4, 4), dtype=dtype),
        }
    ).shard({"part": (slice(1, 7), slice(2, 5), slice(0, 3)), "padded": (slice(2, 5),)})
    file_layout = layout(plan)
    backend: Any = HostDevice()
    file = VirtualFile(file_layout, load("numpy"))
    for entry in file_layout.entries:
        tensor = entry.tensor
        out = np.full(tensor.count, 3, dtype=tensor.dtype.storage)
        if tensor.name == "matrix":
            assert not is_made_on_device(backend, tensor)
            with pytest.raises(ValueError, match="'matrix' is made on the host"):
                fill_device(backend, tensor, out)
            continue
        fill_device(backend, tensor, out)
        assert out.tobytes() == file.array(entry).tobytes(), tensor.name


def test_zero_rows_of_any_part_are_zero_on_a_device() -> None:
    whole, backend = ic.Plan({"w": ic.uniform((6, 4), zero_rows=(0, 3, 5))}, seed=7), HostDevice()
    for start in range(6):
        for stop in range(start + 1, 7):
            (entry,) = layout(whole.shard({"w": (slice(start, stop),)})).entries
            out = np.full(entry.tensor.count, 3, dtype=entry.tensor.dtype.storage)
            fill_device(backend, entry.tensor, out)
            rows = out.reshape(stop - start, 4)
            zero = [start + i for i in range(stop - start) if not rows[i].any()]
            assert zero == [row for row in (0, 3, 5) if start <= row < stop]


def test_every_framework_is_documented_and_has_an_extra() -> None:
    page = (ROOT / "docs" / "client.md").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    folder = Path(frameworks.__file__).parent
    assert set(FRAMEWORKS) == {path.stem for path in folder.glob("[a-z]*.py")}
    for name in FRAMEWORKS:
        assert f'| `"{name}"`' in page
        named = re.findall(
            r'MissingPackageError\("\w+", "(\w+)"', (folder / f"{name}.py").read_text()
        )
        assert named or name == "numpy", f"{name}.py does not say which extra brings it"
        assert set(named) <= set(extras)
