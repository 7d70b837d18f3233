"""The virtual safetensors file of a plan: its layout, digest, bytes and fingerprints.

Not here: files on a disk, and downloads (both are the client's).
"""

from initcore.file.block import BLOCK
from initcore.file.file_layout import Entry, Layout, layout
from initcore.file.fingerprints import (
    Fingerprint,
    Fingerprinter,
    blocks,
    fingerprint,
    fingerprints_between,
    mixer,
)
from initcore.file.progress import Progress
from initcore.file.virtual_file import VirtualFile
from initcore.generate import MAX_HEADER_BYTES

__all__ = [
    "BLOCK",
    "MAX_HEADER_BYTES",
    "Entry",
    "Fingerprint",
    "Fingerprinter",
    "Layout",
    "Progress",
    "VirtualFile",
    "blocks",
    "fingerprint",
    "fingerprints_between",
    "layout",
    "mixer",
]
