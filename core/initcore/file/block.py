"""The unit in which files are made, fetched and recorded."""

from __future__ import annotations

BLOCK = 8 << 20
"""Bytes of a file that are made together, that a stream's range begins at a multiple of, and that
a partial file records as one. A multiple of every chunk that servers make, so that servers that
keep chunks for several readers keep the same ones."""
