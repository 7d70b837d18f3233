"""torch's tensors, on any of its devices."""

from __future__ import annotations

from typing import Any

from initcore import BackendError, Layout, MissingPackageError
from initcore.backends import Backend
from initcore.resolve import Resolved
from numpy.typing import NDArray

from initclient._compute.frameworks._framework import refuse_unless_known
from initclient._compute.frameworks._gpu import fill_device


class Torch:
    """torch and a device of it."""

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
                f"device is {device!r}; give what torch.device accepts, such as 'cpu', 'cuda' or "
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
            refuse_unless_known(
                entry.tensor, hasattr(self._torch, _torch_name(entry.tensor)), "torch"
            )

    def make(self, backend: Backend, tensor: Resolved) -> Any | None:
        if not self.on_gpu:
            return None
        empty = self._torch.empty(
            tensor.shard_shape, dtype=self._dtype(tensor), device=self._device
        )
        return empty if fill_device(backend, tensor, empty) else None

    def take(self, array: NDArray[Any], tensor: Resolved) -> Any:
        # As integers of the same size, since torch lacks ml_dtypes' types.
        integers = array.view(f"i{array.itemsize}")
        return self._torch.from_numpy(integers).view(self._dtype(tensor)).to(self._device)

    def _dtype(self, tensor: Resolved) -> Any:
        return getattr(self._torch, _torch_name(tensor))


def load(device: Any) -> Torch:
    """torch with a device, as torch.device accepts it."""
    return Torch(device)


def _torch_name(tensor: Resolved) -> str:
    return str(tensor.dtype.numpy)
