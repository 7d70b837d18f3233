"""Which backend runs: the one asked for, or the fastest that works here.

`auto` is CuPy where a GPU answers, else Numba where it imports, else NumPy. Small
work stays on NumPy, which is done before Numba has been imported and has compiled.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

from initcore.backends._base import Backend
from initcore.errors import BackendError, MissingPackageError, PlanError, Violation

VARIABLE = "INITSERVE_BACKEND"
"""The environment variable that names the backend."""

# Importing Numba and loading its kernels takes about as long as NumPy takes for this many elements.
SMALL_WORK = 1 << 24


def _numpy() -> Backend:
    from initcore.backends.numpy import NumpyBackend

    return NumpyBackend()


def _numba() -> Backend:
    try:
        import numba  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("Numba", "numba", "The numba backend") from error
    from initcore.backends.numba import NumbaBackend

    return NumbaBackend()


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
    return CupyBackend(cupy)


_LOADERS: dict[str, Callable[[], Backend]] = {"numpy": _numpy, "numba": _numba, "cupy": _cupy}

BackendName = Literal["auto", "numpy", "numba", "cupy"]

BACKENDS: tuple[str, ...] = get_args(BackendName)
"""What `backend=` and INITSERVE_BACKEND take."""


@cache
def load(name: str) -> Backend:
    """The backend of this name, ready to run.

    Args:
        name: "numpy", "numba" or "cupy".

    Raises:
        MissingPackageError: if its package is not installed.
        BackendError: if it cannot run on this machine.
    """
    return _LOADERS[name]()


@cache
def _fastest() -> Backend:
    for name in ("cupy", "numba"):
        if importlib.util.find_spec(name) is None:
            continue
        try:
            return load(name)
        except (ImportError, BackendError):
            continue
    return load("numpy")


def check_backend(name: str, named_by: str = "backend") -> None:
    """Refuses a name that is not one of `BACKENDS`.

    Args:
        name: the name.
        named_by: the argument or the variable that has it, for errors.

    Raises:
        PlanError: if it is not.
    """
    if name not in BACKENDS:
        message = f"{name!r} is not known; use one of {', '.join(BACKENDS)}"
        raise PlanError([Violation("", named_by, message)])


def backend_name(given: str | None) -> str:
    """The name of the wanted backend: the given one, else INITSERVE_BACKEND, else "auto".

    Raises:
        PlanError: for a name that is not known.
    """
    if given:
        check_backend(given)
        return given
    found = os.environ.get(VARIABLE) or "auto"
    check_backend(found, VARIABLE)
    return found


def select(name: str | None = None, elements: int | None = None) -> Backend:
    """The backend to use.

    Args:
        name: one of `BACKENDS`; None means the environment variable INITSERVE_BACKEND,
            else "auto".
        elements: how many elements are wanted, if that is known: "auto" then leaves small
            work to NumPy. The bits do not depend on it.

    Raises:
        PlanError: for a name that is not known.
        MissingPackageError, BackendError: if the one asked for cannot run here.
    """
    wanted = backend_name(name)
    if wanted != "auto":
        return load(wanted)
    if elements is not None and elements < SMALL_WORK:
        return load("numpy")
    return _fastest()
