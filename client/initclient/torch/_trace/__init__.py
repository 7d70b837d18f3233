"""What code of torch writes to tensors, operation by operation, and the laws of its draws."""

from initclient.torch._trace.bypasses import Bypasses
from initclient.torch._trace.current import refuse_within, tracing
from initclient.torch._trace.evaluation import Evaluation, NoValueError
from initclient.torch._trace.expressions import (
    Assembled,
    Call,
    Data,
    Drawn,
    Expression,
    Filled,
    Kept,
    Unseen,
    Unwritten,
    identity,
    text,
)
from initclient.torch._trace.generator import BEGINNING
from initclient.torch._trace.geometry import Geometry, contiguous, geometry_of
from initclient.torch._trace.initializers import watched_initializers
from initclient.torch._trace.memory import is_covered, same_bytes
from initclient.torch._trace.threads import watched_threads
from initclient.torch._trace.trace import Trace

__all__ = [
    "BEGINNING",
    "Assembled",
    "Bypasses",
    "Call",
    "Data",
    "Drawn",
    "Evaluation",
    "Expression",
    "Filled",
    "Geometry",
    "Kept",
    "NoValueError",
    "Trace",
    "Unseen",
    "Unwritten",
    "contiguous",
    "geometry_of",
    "identity",
    "is_covered",
    "refuse_within",
    "same_bytes",
    "text",
    "tracing",
    "watched_initializers",
    "watched_threads",
]
