"""What the service tells whoever measures it. The metrics implement this; tests do too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Observer(Protocol):
    """Hears what the service does. Called from many threads; must be quick and never raise."""

    def chunk_made(self, seconds: float, nbytes: int, elements: Mapping[str, int]) -> None:
        """Bytes of a file were generated.

        Args:
            seconds: how long it took, on one thread.
            nbytes: how many bytes.
            elements: how many elements of each scheme, by the scheme's name in capitals.
        """

    def chunk_shared(self) -> None:
        """A chunk was taken from the cache, or from another call that was making it."""

    def cache_bytes(self, nbytes: int) -> None:
        """The cache of chunks now holds this many bytes."""

    def chunk_evicted(self) -> None:
        """A chunk left the cache to make room."""

    def stream_started(self) -> None:
        """A Fetch was let in."""

    def stream_ended(self) -> None:
        """A Fetch that was let in has ended, in whatever way."""

    def sent(self, nbytes: int) -> None:
        """Bytes of a file were handed to the transport."""


class NullObserver:
    """Listens to nothing."""

    def chunk_made(self, seconds: float, nbytes: int, elements: Mapping[str, int]) -> None:
        """Ignored."""

    def chunk_shared(self) -> None:
        """Ignored."""

    def cache_bytes(self, nbytes: int) -> None:
        """Ignored."""

    def chunk_evicted(self) -> None:
        """Ignored."""

    def stream_started(self) -> None:
        """Ignored."""

    def stream_ended(self) -> None:
        """Ignored."""

    def sent(self, nbytes: int) -> None:
        """Ignored."""
