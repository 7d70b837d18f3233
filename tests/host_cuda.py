"""A stand-in for CuPy without a GPU: the CUDA source, built by a host C++ compiler.

`Cupy(directory)` has what `initcore.backends.cupy` uses of the cupy module, and no more.
It is as strict as a GPU where that can hide a mistake:

- device memory is apart from host memory: NumPy refuses a device array, and a kernel
  refuses a host array;
- what is queued on a stream happens when the stream is synchronized, not before;
- new memory holds garbage, a write outside of an array is found, and so is a vector store
  that is not aligned;
- the lanes of a warp run one after another between two __syncwarp, upwards or downwards
  (`library.host_backwards`), and shared memory holds garbage when a block begins;
- kernel arguments must have exactly the types of the kernel's parameters.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from initcore.backends.cupy import cuda_source

HOST_SOURCE = Path(__file__).parent / "cuda_host" / "host.cpp"

GUARD = 512  # bytes on either side of device memory, also its alignment
GARBAGE = 0xA5


def compiler() -> list[str]:
    """The command of a C++ compiler: $CXX, else one on PATH, else the one of ziglang."""
    if "CXX" in os.environ:
        return shlex.split(os.environ["CXX"])
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    raise RuntimeError("no C++ compiler: install g++ or clang++, or pip install ziglang")


def build(directory: Path) -> ctypes.CDLL:
    """The CUDA source as a library of the host, built into a directory."""
    library = directory / "libinitserve_host_cuda.so"
    (directory / "initserve.cu").write_text(cuda_source(), "utf-8")
    command = [
        *compiler(),
        *("-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC"),
        *("-I", str(directory), str(HOST_SOURCE), "-o", str(library)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    return ctypes.CDLL(str(library))


class Memory:
    """Device memory, with a guard on either side."""

    def __init__(self, size: int) -> None:
        self.size = size
        raw = np.full(size + 3 * GUARD, GARBAGE, dtype=np.uint8)
        skip = -raw.ctypes.data % GUARD
        self._bytes = raw[skip : skip + size + 2 * GUARD]
        self.inside = self._bytes[GUARD : GUARD + size]

    def check(self) -> None:
        for guard in (self._bytes[:GUARD], self._bytes[GUARD + self.size :]):
            assert (guard == GARBAGE).all(), "a kernel wrote outside of its memory"


class DeviceArray:
    """A contiguous 1-D array in device memory."""

    flags = SimpleNamespace(c_contiguous=True)

    def __init__(self, cupy: Cupy, memory: Memory, values: np.ndarray) -> None:
        self._cupy, self.memory, self.values = cupy, memory, values
        self.dtype, self.shape = values.dtype, values.shape

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("device memory is not host memory; use get()")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> DeviceArray:
        assert isinstance(index, slice)
        assert index.step is None
        return DeviceArray(self._cupy, self.memory, self.values[index])

    def view(self, dtype: Any) -> DeviceArray:
        return DeviceArray(self._cupy, self.memory, self.values.view(dtype))

    def get(
        self,
        stream: Stream | None = None,
        out: np.ndarray | None = None,
        blocking: bool = True,
    ) -> np.ndarray:
        target = np.empty_like(self.values) if out is None else out
        assert isinstance(target, np.ndarray)
        assert target.dtype == self.dtype
        assert target.shape == self.shape
        stream = stream or self._cupy.current()
        stream.do(lambda: target.__setitem__(slice(None), self.values))
        if blocking:
            stream.synchronize()
        return target


class Stream:
    """Work in order, done when it is waited for."""

    def __init__(self, cupy: Cupy) -> None:
        self._cupy = cupy
        self._queue: list[Callable[[], None]] = []

    def __enter__(self) -> Stream:
        self._cupy.streams().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._cupy.streams().pop() is self

    def do(self, work: Callable[[], None]) -> None:
        self._queue.append(work)

    def synchronize(self) -> None:
        work, self._queue = self._queue, []
        for step in work:
            step()


_U32, _U64, _F32 = np.uint32, np.uint64, np.float32
# starts, start, length, count; d0 .. d3; first, width; centre, scale, low, high; out
_SIGNATURE: tuple[Any, ...] = (
    *(DeviceArray, _U64, _U64, _U64),
    *(_U32,) * 4,
    *(_U32, _U64),
    *(_F32,) * 4,
    DeviceArray,
)
# steps, length, values, count, out
_APPLY_SIGNATURE: tuple[Any, ...] = (DeviceArray, _U64, DeviceArray, _U64, DeviceArray)
_CTYPES = {_U32: ctypes.c_uint32, _U64: ctypes.c_uint64, _F32: ctypes.c_float}


class Kernel:
    """A kernel of the host's library, run by its `launch` or `launch_apply`."""

    def __init__(self, cupy: Cupy, name: str) -> None:
        self._cupy = cupy
        self._entry = ctypes.cast(getattr(cupy.library, name), ctypes.c_void_p)
        applies = name.startswith("initserve_apply_")
        self._signature = _APPLY_SIGNATURE if applies else _SIGNATURE
        self._launch = cupy.library.launch_apply if applies else cupy.library.launch

    def __call__(self, grid: tuple[int], block: tuple[int], args: tuple[Any, ...]) -> None:
        (blocks,), (threads,) = grid, block
        assert 1 <= blocks < 1 << 31
        assert 1 <= threads <= 1024
        assert len(args) == len(self._signature)
        passed: list[Any] = []
        for value, expected in zip(args, self._signature, strict=True):
            if expected is DeviceArray:
                null = type(value) is np.uint64 and value == 0
                if not null and not isinstance(value, DeviceArray):
                    raise TypeError(f"a kernel takes device arrays, not {type(value)}")
                passed.append(ctypes.c_void_p(0 if null else value.values.ctypes.data))
            elif type(value) is not expected:
                raise TypeError(f"a kernel parameter is {expected}, not {type(value)}")
            else:
                passed.append(_CTYPES[expected](value.item()))

        def run() -> None:
            wrong = self._launch(
                self._entry, ctypes.c_uint32(blocks), ctypes.c_uint32(threads), *passed
            )
            assert wrong != 1, "a vector store was not aligned"
            assert wrong != 2, "lanes of a warp wait for others that have ended"
            for value in args:
                if isinstance(value, DeviceArray):
                    value.memory.check()

        self._cupy.launches += 1
        self._cupy.current().do(run)


class Module:
    """Stands for cupy.RawModule."""

    def __init__(self, cupy: Cupy, code: str, options: tuple[str, ...]) -> None:
        assert code == cuda_source(), "this stand-in was built of another source"
        assert "--fmad=false" in options
        self._cupy = cupy

    def compile(self) -> None:
        pass

    def get_function(self, name: str) -> Kernel:
        return Kernel(self._cupy, name)


class Device:
    """Stands for cupy.cuda.Device. `entered` holds those that any code has made current."""

    count = 1
    entered: ClassVar[set[int]] = set()

    def __init__(self, device: int = 0) -> None:
        assert 0 <= device < self.count
        self.id = device

    def __enter__(self) -> Device:
        self.entered.add(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Cupy:
    """Stands for the module cupy.

    Attributes:
        library: the CUDA source as a library, with the functions of cuda_host/host.cpp.
        launches: how many kernels have been started.
    """

    def __init__(self, directory: Path) -> None:
        self.library = build(directory)
        self.launches = 0
        self._local = threading.local()
        self.cuda = SimpleNamespace(
            Device=Device,
            runtime=SimpleNamespace(getDeviceCount=lambda: Device.count),
            Stream=lambda non_blocking: Stream(self),
            alloc_pinned_memory=bytearray,
        )

    def RawModule(self, *, code: str, options: tuple[str, ...]) -> Module:  # noqa: N802
        return Module(self, code, options)

    def empty(self, size: int, dtype: Any) -> DeviceArray:
        memory = Memory(size * np.dtype(dtype).itemsize)
        return DeviceArray(self, memory, memory.inside.view(dtype))

    def asarray(self, values: np.ndarray) -> DeviceArray:
        assert isinstance(values, np.ndarray)
        array = self.empty(len(values), values.dtype)
        array.values[:] = values
        return array

    def streams(self) -> list[Stream]:
        """The streams entered by this thread, below them the default stream."""
        if not hasattr(self._local, "streams"):
            self._local.streams = [Stream(self)]
        return self._local.streams

    def current(self) -> Stream:
        return self.streams()[-1]
