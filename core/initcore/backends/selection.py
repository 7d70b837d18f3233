"""Which backend runs: the one asked for, or the fastest that works here.

`auto` is CuPy where a GPU answers, else the native library where it is installed, else NumPy. Small
work does not go to CuPy: the others are done before it has been imported.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

from initcore.backends._base import Backend
from initcore.errors import BackendError, MissingPackageError, PlanError, Violation

VARIABLE = "INITSERVE_BACKEND"
"""The environment variable that names the backend."""

# Importing CuPy takes longer than the CPU takes for this many elements. Without the native library
# NumPy takes half a second for them.
SMALL_WORK = 1 << 24

_SLOW = (
    "this installation of initserve has no compiled library, so NumPy draws large tensors, which "
    "takes more than ten times as long. To get the library: pip install --force-reinstall "
    "--only-binary :all: initserve, or install from source where a C++ compiler is found. To use "
    "NumPy without this warning: backend='numpy' or INITSERVE_BACKEND=numpy"
)


def _numpy() -> Backend:
    from initcore.backends.numpy import NumpyBackend

    return NumpyBackend()


def _native() -> Backend:
    from initcore.backends.native import NativeBackend

    return NativeBackend()


# The GPU that `prefer_device` asks for.
_preferred: int | None = None


def prefer_device(number: int) -> None:
    """Has the cupy backend of this process use one GPU of several, once it is loaded.

    Without it, that is the device that is CuPy's current one.

    Args:
        number: which, counted round the devices that this process sees (CUDA_VISIBLE_DEVICES).
    """
    global _preferred
    _preferred = number


def _cupy() -> Backend:
    try:
        import cupy
    except ImportError as error:
        raise MissingPackageError("CuPy", "cuda13", "The cupy backend") from error
    from initcore.backends.cupy import CupyBackend

    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise BackendError(f"The cupy backend found no usable GPU: {error}") from error
    if devices == 0:
        raise BackendError("The cupy backend found no GPU")
    return CupyBackend(cupy, device=None if _preferred is None else _preferred % devices)


_RENAMED = {"numba": "native"}
"""Names of backends that are gone: the backend that each now stands for."""

_LOADERS: dict[str, Callable[[], Backend]] = {
    "numpy": _numpy,
    "native": _native,
    "cupy": _cupy,
}

BackendName = Literal["auto", "numpy", "native", "numba", "cupy"]

BACKENDS: tuple[str, ...] = get_args(BackendName)
"""What `backend=` and INITSERVE_BACKEND take."""

OFFERED_BACKENDS = tuple(name for name in BACKENDS if name not in _RENAMED)
"""Those that help and errors list: all but the names of earlier releases."""


@cache
def load(name: str) -> Backend:
    """The backend of this name, ready to run.

    Args:
        name: "numpy", "native" or "cupy".

    Raises:
        MissingPackageError: if its package is not installed.
        BackendError: if it cannot run on this machine.
    """
    current = _current(name)
    return _LOADERS[name]() if current == name else load(current)


def _works(name: str) -> bool:
    """Whether a backend that needs a package of its name can be loaded."""
    if importlib.util.find_spec(name) is None:
        return False
    try:
        load(name)
    except (ImportError, BackendError):
        return False
    return True


@cache
def _native_works() -> bool:
    """Whether the native library can be used; warns if it gives wrong bits.

    Raises:
        BackendError: if INITSERVE_CPU_TARGET names a target that does not run here.
    """
    from initcore.backends.native import NoLibraryError, WrongBitsError

    try:
        load("native")
    except NoLibraryError:
        return False
    except WrongBitsError as error:
        warnings.warn(f"{error}. It is not used", RuntimeWarning, stacklevel=4)
        return False
    return True


def fastest_on_cpu() -> Backend:
    """The native backend where it works, else NumPy."""
    return load("native" if _native_works() else "numpy")


@cache
def _fastest(small: bool) -> Backend:
    if not small and _works("cupy"):
        return load("cupy")
    found = fastest_on_cpu()
    if found.name == "numpy" and not small:
        warnings.warn(_SLOW, RuntimeWarning, stacklevel=4)
    return found


def check_backend(name: str, named_by: str = "backend") -> None:
    """Refuses a name that is not one of `BACKENDS`.

    Args:
        name: the name.
        named_by: the argument or the variable that has it, for errors.

    Raises:
        PlanError: if it is not.
    """
    if name not in BACKENDS:
        message = f"{name!r} is not known; use one of {', '.join(OFFERED_BACKENDS)}"
        raise PlanError([Violation("", named_by, message)])


def backend_name(given: str | None) -> str:
    """The name of the wanted backend: the given one, else INITSERVE_BACKEND, else "auto".

    For a name of earlier releases, the name of the backend that took its place, with a warning.

    Raises:
        PlanError: for a name that is not known.
    """
    if given:
        check_backend(given)
        return _current(given)
    found = os.environ.get(VARIABLE) or "auto"
    check_backend(found, VARIABLE)
    return _current(found, VARIABLE)


def _current(name: str, named_by: str = "backend") -> str:
    """The name, or the one that took its place."""
    current = _RENAMED.get(name)
    if current is None:
        return name
    text = (
        f"{named_by}={name!r} is deprecated and means {current!r}: compiled code has taken Numba's "
        f"place, with the same bits; write {current!r}, or leave the backend to 'auto'"
    )
    # For the people who run a program, so not a DeprecationWarning, which Python hides from them.
    warnings.warn(text, FutureWarning, stacklevel=3)
    return current


def select(name: str | None = None, elements: int | None = None) -> Backend:
    """The backend to use.

    Args:
        name: one of `BACKENDS`; None means the environment variable INITSERVE_BACKEND,
            else "auto".
        elements: how many elements are wanted, if that is known: "auto" then leaves small
            work to the CPU. The bits do not depend on it.

    Raises:
        PlanError: for a name that is not known.
        MissingPackageError, BackendError: if the one asked for cannot run here.
    """
    wanted = backend_name(name)
    if wanted != "auto":
        return load(wanted)
    return _fastest(elements is not None and elements < SMALL_WORK)
