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
from initcore.file.hugging_face import (
    INDEX_FILE,
    WHOLE_FILE,
    WeightsFile,
    WeightsFiles,
    parse_shard_size,
    split,
    weights_files,
)
from initcore.file.progress import Progress
from initcore.file.virtual_file import VirtualFile
from initcore.generate import MAX_HEADER_BYTES

__all__ = [
    "BLOCK",
    "INDEX_FILE",
    "MAX_HEADER_BYTES",
    "WHOLE_FILE",
    "Entry",
    "Fingerprint",
    "Fingerprinter",
    "Layout",
    "Progress",
    "VirtualFile",
    "WeightsFile",
    "WeightsFiles",
    "blocks",
    "fingerprint",
    "fingerprints_between",
    "layout",
    "mixer",
    "parse_shard_size",
    "split",
    "weights_files",
]
