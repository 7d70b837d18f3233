"""A torch model's parameters and buffers: names, shards, memory, the meta device."""

from initclient.torch._model.arrays import host_bytes
from initclient.torch._model.computed_buffers import is_computable, recompute
from initclient.torch._model.foreign_shapes import foreign_shape
from initclient.torch._model.memory import overlaps, places, same_places
from initclient.torch._model.meta import materialize, reshard
from initclient.torch._model.named_tensors import Member, class_name, members
from initclient.torch._model.processes import process_count
from initclient.torch._model.shards import Box, is_dtensor, shard_of

__all__ = [
    "Box",
    "Member",
    "class_name",
    "foreign_shape",
    "host_bytes",
    "is_computable",
    "is_dtensor",
    "materialize",
    "members",
    "overlaps",
    "places",
    "process_count",
    "recompute",
    "reshard",
    "same_places",
    "shard_of",
]
