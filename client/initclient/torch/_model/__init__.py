"""A torch model's parameters and buffers: names, layouts, memory, the meta device, own code."""

from initclient.torch._model.arrays import dtype_name, host_bytes
from initclient.torch._model.computed_buffers import is_computable, recompute
from initclient.torch._model.memory import overlaps, places, same_places, views_on_meta
from initclient.torch._model.meta import materialize, reshard
from initclient.torch._model.named_tensors import Member, class_name, members, named
from initclient.torch._model.own_code import OwnCode, initializes_itself, initializes_when_called
from initclient.torch._model.plain_attributes import left_on_meta
from initclient.torch._model.processes import process_count, process_rank

__all__ = [
    "Member",
    "OwnCode",
    "class_name",
    "dtype_name",
    "host_bytes",
    "initializes_itself",
    "initializes_when_called",
    "is_computable",
    "left_on_meta",
    "materialize",
    "members",
    "named",
    "overlaps",
    "places",
    "process_count",
    "process_rank",
    "recompute",
    "reshard",
    "same_places",
    "views_on_meta",
]
