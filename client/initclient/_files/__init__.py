"""Files: atomic replacement, sinks, partial files, safetensors, Hugging Face's layout."""

from initclient._files.atomic import real_file, replacing
from initclient._files.hugging_face import parse_shard_size, sharded
from initclient._files.outputs import Outputs, one_file
from initclient._files.partial import PartialFiles
from initclient._files.safetensors import Stored, metadata_of, stored_tensors
from initclient._files.sinks import Buffer, Scattered, Sink

__all__ = [
    "Buffer",
    "Outputs",
    "PartialFiles",
    "Scattered",
    "Sink",
    "Stored",
    "metadata_of",
    "one_file",
    "parse_shard_size",
    "real_file",
    "replacing",
    "sharded",
    "stored_tensors",
]
