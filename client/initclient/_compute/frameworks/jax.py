"""JAX's arrays, on one device."""

from __future__ import annotations

from typing import Any

from initcore import BackendError, Layout, MissingPackageError, PlanError, Violation
from initcore.backends import Backend
from initcore.dtypes import DTYPES
from initcore.resolve import Resolved
from numpy.typing import NDArray

from initclient._compute.frameworks._gpu import default_jax_device, make_jax


class Jax:
    """JAX and a device of it."""

    def __init__(self, device: Any) -> None:
        try:
            import jax
        except ModuleNotFoundError as error:
            raise MissingPackageError("JAX", "jax", "framework='jax'") from error
        refuse_tracing("fetch(framework='jax')")
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


def load(device: Any) -> Jax:
    """JAX with a device: a jax.Device, or a name such as "gpu:1"."""
    return Jax(device)


def refuse_tracing(call: str) -> None:
    """Refuses to make arrays while JAX traces, when nothing has values.

    Args:
        call: what the user called.

    Raises:
        RuntimeError: under jit, eval_shape and other transformations that trace.
    """
    import jax

    if isinstance(jax.numpy.zeros(()), jax.core.Tracer):
        raise RuntimeError(
            f"{call} is called under jax.jit, or another transformation that traces; call it "
            "outside jit, and pass its arrays into the function as arguments"
        )


def too_wide(name: str, dtype: str) -> Violation | None:
    """The violation of a 64-bit tensor where JAX would truncate it to 32 bits.

    Args:
        name: the tensor's name.
        dtype: its element type, as plans name it; an unknown one is refused elsewhere.
    """
    import jax

    # The attribute, unlike `read`, knows of the context manager `jax.enable_x64`.
    wide: bool = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    if dtype not in DTYPES or DTYPES[dtype].itemsize < 8 or wide:
        return None
    message = (
        f"is {dtype}, and JAX has 64-bit types switched off; use 32 bits in the plan, or call "
        'jax.config.update("jax_enable_x64", True) first'
    )
    return Violation(name, "dtype", message)


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
        raise BackendError(f"device is {device!r}, and JAX answers: {error}") from error
    if number and not (number.isdecimal() and int(number) < len(found)):
        raise BackendError(f"device is {device!r}, and JAX finds {len(found)} of {platform!r}")
    return found[int(number or 0)]
