"""Asking for the GPU says what is missing: the package, or the device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from initcore.backends import select
from initcore.backends.selection import load
from initcore.errors import BackendError, MissingPackageError


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
