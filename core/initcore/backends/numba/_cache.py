"""Numba's cache in a container whose files are read-only.

An image is built with the compiled code beside this package. Numba uses a cache folder only if
it is writable, so it would compile again in every container. `SeededCacheLocator` keeps the
cache in NUMBA_CACHE_DIR, a writable folder, and copies there the compiled code beside the
package. Numba loads the class by name, from NUMBA_CACHE_LOCATOR_CLASSES.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from numba.core.caching import UserProvidedCacheLocator


class SeededCacheLocator(UserProvidedCacheLocator):
    """The folder that NUMBA_CACHE_DIR names, with the files beside the package copied to it.

    Code for another CPU or another version of the sources is not taken: Numba compares both
    and compiles, into the same folder.
    """

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        """The locator, or None where NUMBA_CACHE_DIR is not set or cannot be written."""
        locator = super().from_function(py_func, py_file)
        if locator is not None:
            folder = Path(locator.get_cache_path())
            for seed in (Path(py_file).parent / "__pycache__").glob("*.nb[ci]"):
                _copy(seed, folder / seed.name)
        return locator


def _copy(seed: Path, copy: Path) -> None:
    if copy.exists():
        return
    # Atomically: the workers of a server start at the same time.
    unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
    try:
        shutil.copyfile(seed, unfinished)
        unfinished.replace(copy)
    except OSError:
        # Full, or gone: Numba compiles.
        unfinished.unlink(missing_ok=True)
