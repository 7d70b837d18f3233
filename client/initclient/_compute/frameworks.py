"""The libraries whose arrays `fetch` returns, and the devices that it puts them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from initcore import Layout, MissingPackageError, PlanError, Violation
from initcore.backends import Backend
from initcore.dtypes import DTYPES
from initcore.errors import BackendError
from initcore.resolve import Resolved
from numpy.typing import NDArray

from initclient._compute.gpu import default_jax_device, fill_device, make_cupy, make_jax


class Framework(Protocol):
    """A library and a device."""

    on_gpu: bool
    """Whether the device is one that the cupy backend computes on."""

    def check(self, layout: Layout) -> None:
        """Refuses what the library cannot hold.

        Raises:
            PlanError: naming the tensors.
        """
        ...

    def make(self, backend: Backend, tensor: Resolved) -> Any | None:
        """The tensor, made where it stays; None if it has to come by way of the host."""
        ...

    def take(self, array: NDArray[Any], tensor: Resolved) -> Any:
        """The tensor from its values on the host, an array of its own shape and type."""
        ...


def framework_of(name: str, device: Any = None) -> Framework:
    """The framework of this name, with a device of its own kind.

    Args:
        name: one of `FRAMEWORKS`.
        device: as `fetch` takes it.

    Raises:
        ValueError: for a name or a device that is not known.
        TypeError: for a device of another kind.
        MissingPackageError: if the framework is not installed.
        BackendError: if it has no such device here.
    """
    if name not in _LOADERS:
        choices = ", ".join(repr(known) for known in FRAMEWORKS)
        raise ValueError(f"framework is {name!r}; give one of {choices}")
    return _LOADERS[name](device)


def take_all(
    framework: Framework, layout: Layout, arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """The framework's arrays by name, from those on the host."""
    tensors = [entry.tensor for entry in layout.entries]
    return {tensor.name: framework.take(arrays[tensor.name], tensor) for tensor in tensors}


class _Numpy:
    on_gpu = False

    def __init__(self, device: Any) -> None:
        if device not in (None, "cpu"):
            raise ValueError(
                f"device is {device!r}, and NumPy has only the host; leave it out, or give "
                "framework='torch', 'jax' or 'cupy'"
            )

    def check(self, layout: Layout) -> None:
        pass

    def make(self, backend: Backend, tensor: Resolved) -> Any | None:
        return None

    def take(self, array: NDArray[Any], tensor: Resolved) -> Any:
        return array


class _Torch:
    def __init__(self, device: Any) -> None:
        try:
            import torch
        except ModuleNotFoundError as error:
            raise MissingPackageError("torch", "torch", "framework='torch'") from error
        self._torch = torch
        try:
            self._device = torch.device("cpu" if device is None else device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"device is {device!r}; give what torch.device takes, such as 'cpu', 'cuda' or "
                f"'cuda:1': {error}"
            ) from error
        if self._device.type == "meta":
            raise ValueError("device is 'meta', which holds no values; give a device with memory")
        if self._device.type == "cuda":
            count = torch.cuda.device_count()
            index = self._device.index
            if index is None:
                index = torch.cuda.current_device() if count else 0
            if index >= count:
                raise BackendError(f"device is {device!r}, and torch finds {count} CUDA devices")
            self._device = torch.device("cuda", index)
        self.on_gpu = self._device.type == "cuda"

    def check(self, layout: Layout) -> None:
        for entry in layout.entries:
            # Older releases of torch lack the wider unsigned integers.
            _refuse(entry.tensor, hasattr(self._torch, _torch_name(entry.tensor)), "torch")

    def make(self, backend: Backend, tensor: Resolved) -> Any | None:
        if not self.on_gpu:
            return None
        empty = self._torch.empty(
            tensor.shard_shape, dtype=self._dtype(tensor), device=self._device
        )
        return empty if fill_device(backend, tensor, empty) else None

    def take(self, array: NDArray[Any], tensor: Resolved) -> Any:
        # torch does not know ml_dtypes, so the bits travel as integers of the same size.
        integers = array.view(f"i{array.itemsize}")
        return self._torch.from_numpy(integers).view(self._dtype(tensor)).to(self._device)

    def _dtype(self, tensor: Resolved) -> Any:
        return getattr(self._torch, _torch_name(tensor))


class _Jax:
    def __init__(self, device: Any) -> None:
        try:
            import jax
        except ModuleNotFoundError as error:
            raise MissingPackageError("JAX", "jax", "framework='jax'") from error
        self._jax = jax
        self._device = _jax_device(jax, device)
        self.on_gpu = (self._device or default_jax_device()).platform == "gpu"

    def check(self, layout: Layout) -> None:
        tensors = [entry.tensor for entry in layout.entries]
        wrong = [too_wide(tensor.name, tensor.dtype.name) for tensor in tensors]
        if violations := [violation for violation in wrong if violation]:
            raise PlanError(violations)

    def make(self, backend: Backend, tensor: Resolved) -> Any | None:
        if not self.on_gpu:
            return None
        return make_jax(backend, tensor, self._device or default_jax_device())

    def take(self, array: NDArray[Any], tensor: Resolved) -> Any:
        return self._jax.device_put(array, self._device)


class _Cupy:
    on_gpu = True

    def __init__(self, device: Any) -> None:
        try:
            import cupy
        except ImportError as error:
            raise MissingPackageError("CuPy", "cuda13", "framework='cupy'") from error
        self._cupy = cupy
        number = _cuda_number(device)
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except Exception as error:
            raise BackendError(f"framework='cupy' found no usable GPU: {error}") from error
        self._number: int = cupy.cuda.Device().id if number is None and count else number or 0
        if self._number >= count:
            raise BackendError(f"device is {device!r}, and CuPy finds {count} CUDA devices")

    def check(self, layout: Layout) -> None:
        for entry in layout.entries:
            _refuse(entry.tensor, not entry.tensor.dtype.name.startswith("F8"), "CuPy")

    def make(self, backend: Backend, tensor: Resolved) -> Any | None:
        return self._shaped(make_cupy(backend, tensor, self._number), tensor)

    def take(self, array: NDArray[Any], tensor: Resolved) -> Any:
        with self._cupy.cuda.Device(self._number):
            flat = self._cupy.asarray(array.reshape(-1).view(tensor.dtype.storage))
        return self._shaped(flat, tensor)

    def _shaped(self, flat: Any | None, tensor: Resolved) -> Any | None:
        return None if flat is None else flat.view(tensor.dtype.numpy).reshape(tensor.shard_shape)


_LOADERS: dict[str, Callable[[Any], Framework]] = {
    "numpy": _Numpy,
    "torch": _Torch,
    "jax": _Jax,
    "cupy": _Cupy,
}

FRAMEWORKS = tuple(_LOADERS)
"""What `framework=` takes."""


def too_wide(name: str, dtype: str) -> Violation | None:
    """What is wrong with a tensor of 64 bits where JAX would cut it to 32.

    Args:
        name: the tensor's name.
        dtype: its element type, as plans name it; one that no plan may have is refused elsewhere.
    """
    import jax

    if dtype not in DTYPES or DTYPES[dtype].itemsize < 8 or jax.config.read("jax_enable_x64"):  # type: ignore[no-untyped-call]
        return None
    message = (
        f"is {dtype}, and JAX has 64-bit types switched off; use 32 bits in the plan, or say "
        'jax.config.update("jax_enable_x64", True) first'
    )
    return Violation(name, "dtype", message)


def _refuse(tensor: Resolved, is_known: bool, library: str) -> None:
    if not is_known:
        message = f"is {tensor.dtype.name}, which {library} does not know; fetch it as NumPy's"
        raise PlanError([Violation(tensor.name, "dtype", message)])


def _torch_name(tensor: Resolved) -> str:
    return str(tensor.dtype.numpy)


def _jax_device(jax: Any, device: Any) -> Any:
    """A jax.Device, or None for JAX's default."""
    if device is None or isinstance(device, jax.Device):
        return device
    if not isinstance(device, str):
        raise TypeError(
            f"device is {device!r}; give a jax.Device or a name such as 'cpu' or 'gpu:1'. For "
            "arrays over several devices, use initclient.jax.init"
        )
    platform, _, number = device.partition(":")
    try:
        found = jax.local_devices(backend=platform)
    except RuntimeError as error:
        raise BackendError(f"device is {device!r}, and JAX says: {error}") from error
    if number and not (number.isdecimal() and int(number) < len(found)):
        raise BackendError(f"device is {device!r}, and JAX finds {len(found)} of {platform!r}")
    return found[int(number or 0)]


def _cuda_number(device: Any) -> int | None:
    """CUDA's number of a device: from a number, "cuda:1" or a cupy.cuda.Device."""
    if device is None or device == "cuda":
        return None
    number = getattr(device, "id", device)
    if isinstance(number, str) and number.startswith("cuda:") and number[5:].isdecimal():
        return int(number[5:])
    if isinstance(number, int | np.integer) and not isinstance(number, bool) and number >= 0:
        return int(number)
    raise ValueError(f"device is {device!r}; give a number, 'cuda:1' or a cupy.cuda.Device")
