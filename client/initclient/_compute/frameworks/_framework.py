"""A framework: a library of arrays and a device. One file of this folder for each library."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from initcore import Layout, PlanError, Violation
from initcore.backends import Backend
from initcore.resolve import Resolved
from numpy.typing import NDArray


class Framework(Protocol):
    """A library and a device."""

    on_gpu: bool
    """Whether the cupy backend can compute on the device."""

    def check(self, layout: Layout) -> None:
        """Refuses tensors that the library cannot hold.

        Raises:
            PlanError: naming the tensors.
        """
        ...

    def make(self, backend: Backend, tensor: Resolved) -> Any | None:
        """The tensor, made on its device; None if it has to pass through host memory."""
        ...

    def take(self, array: NDArray[Any], tensor: Resolved) -> Any:
        """The tensor from its values on the host: an array of its shape and type."""
        ...


FrameworkName = Literal["cupy", "jax", "numpy", "torch"]
"""`FRAMEWORKS` for type checkers, which do not look into folders."""

_FOLDER = __name__.rpartition(".")[0]
_FILES = {module.name for module in pkgutil.iter_modules(importlib.import_module(_FOLDER).__path__)}

FRAMEWORKS = ("numpy", *sorted(name for name in _FILES - {"numpy"} if name[0] != "_"))
"""The names that `framework=` takes: NumPy, and every other file here without an underscore.

A file defines `load(device) -> Framework` and imports its library there.
"""


def framework_of(name: str, device: Any = None) -> Framework:
    """The framework of this name, with a device.

    Args:
        name: one of `FRAMEWORKS`.
        device: as `fetch` takes it.

    Raises:
        ValueError: for a name or a device that is not known.
        TypeError: for a device of another kind.
        MissingPackageError: if the framework is not installed.
        BackendError: if this machine does not have the device.
    """
    if name not in FRAMEWORKS:
        choices = ", ".join(repr(known) for known in FRAMEWORKS)
        raise ValueError(f"framework is {name!r}; give one of {choices}")
    loaded: Framework = importlib.import_module(f"{_FOLDER}.{name}").load(device)
    return loaded


def take_all(
    framework: Framework, layout: Layout, arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """The framework's arrays by name, from those on the host."""
    tensors = [entry.tensor for entry in layout.entries]
    return {tensor.name: framework.take(arrays[tensor.name], tensor) for tensor in tensors}


def refuse_unless_known(tensor: Resolved, is_known: bool, library: str) -> None:
    """Refuses a tensor whose element type the library lacks.

    Raises:
        PlanError: naming the tensor.
    """
    if not is_known:
        message = f"is {tensor.dtype.name}, which {library} does not have; use framework='numpy'"
        raise PlanError([Violation(tensor.name, "dtype", message)])
