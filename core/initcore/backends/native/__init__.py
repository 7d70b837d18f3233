"""The native backend: stream v1 as compiled C++, on all CPUs, with the reference's bits."""

from __future__ import annotations

from initcore.backends.native._backend import NativeBackend
from initcore.backends.native._fingerprint import mix
from initcore.backends.native._library import NoLibraryError, WrongBitsError
from initcore.backends.native._steps import packed_steps

__all__ = ["NativeBackend", "NoLibraryError", "WrongBitsError", "mix", "packed_steps"]
