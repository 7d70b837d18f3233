"""Asking for the GPU says what is missing: the package, or the device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from initcore.backends import NumpyBackend, prefer_device, select, selection
from initcore.backends.selection import load
from initcore.errors import BackendError, MissingPackageError
from initcore.stream import Job, NormalDraw, Runs
from initcore.stream.keys import Stream

from tests import host_cuda


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    load.cache_clear()
    yield
    load.cache_clear()


def cupy_with(device_count: Any) -> Any:
    runtime = SimpleNamespace(getDeviceCount=device_count)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))


def test_without_cupy_the_error_holds_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'initserve\[cuda1[23]\]'"):
        select("cupy")


def test_without_a_device_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(lambda: 0))
    with pytest.raises(BackendError, match="no GPU"):
        select("cupy")


def test_without_a_driver_the_error_holds_what_cuda_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver")

    monkeypatch.setitem(sys.modules, "cupy", cupy_with(fails))
    with pytest.raises(BackendError, match=r"no usable GPU: cudaErrorInsufficientDriver"):
        select("cupy")


@pytest.mark.parametrize(("number", "device"), [(0, 0), (1, 1), (2, 2), (3, 0), (7, 1)])
def test_a_preferred_device_is_counted_round_those_that_are_visible(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, number: int, device: int
) -> None:
    monkeypatch.setattr(host_cuda.Device, "count", 3)
    monkeypatch.setattr(host_cuda.Device, "entered", set())
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(selection, "_preferred", None)
    prefer_device(number)
    backend = select("cupy")
    job = Job(NormalDraw(0.0, 1.0), Stream(1, 2, 3, 4), "F32")
    made, expected = np.empty(100, np.float32), np.empty(100, np.float32)
    runs = Runs(np.array([3], np.uint64), 100)
    backend.fill(job, runs, made)
    NumpyBackend().fill(job, runs, expected)
    np.testing.assert_array_equal(made.view(np.uint32), expected.view(np.uint32))
    assert host_cuda.Device.entered == {device}
