"""What code of JAX does to arrays, operation by operation: traced programs and known values."""

from initclient.jax._trace.exact import agree, exactly, noted
from initclient.jax._trace.knowing import evaluate, known
from initclient.jax._trace.liveness import Liveness, called_with_constants
from initclient.jax._trace.sources import is_of_jax, source_of
from initclient.jax._trace.tracing import Traced, traced
from initclient.jax._trace.values import (
    SMALL,
    Known,
    Random,
    Unknown,
    Value,
    core_of,
    is_key,
    number,
    single,
    single_of_all,
    unread,
)

__all__ = [
    "SMALL",
    "Known",
    "Liveness",
    "Random",
    "Traced",
    "Unknown",
    "Value",
    "agree",
    "called_with_constants",
    "core_of",
    "evaluate",
    "exactly",
    "is_key",
    "is_of_jax",
    "known",
    "noted",
    "number",
    "single",
    "single_of_all",
    "source_of",
    "traced",
    "unread",
]
