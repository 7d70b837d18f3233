"""Files: atomic replacement, sinks, partial files, safetensors, Hugging Face's layout, Orbax."""

from initclient._files.atomic import real_file, replacing
from initclient._files.hugging_face import sharded
from initclient._files.orbax import orbax_folder, orbax_tensors
from initclient._files.outputs import Output, Outputs, one_file
from initclient._files.partial import PartialFiles
from initclient._files.safetensors import Stored, metadata_of, stored_tensors
from initclient._files.sinks import Buffer, InOrder, Scattered, Sink

__all__ = [
    "Buffer",
    "InOrder",
    "Output",
    "Outputs",
    "PartialFiles",
    "Scattered",
    "Sink",
    "Stored",
    "metadata_of",
    "one_file",
    "orbax_folder",
    "orbax_tensors",
    "real_file",
    "replacing",
    "sharded",
    "stored_tensors",
]
