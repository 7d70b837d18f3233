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
    Unseen,
    Unwritten,
    law_text,
    text,
)
from initclient.torch._trace.generator import BEGINNING
from initclient.torch._trace.geometry import Bounds, Geometry, contiguous, geometry_of
from initclient.torch._trace.initializers import watched_initializers
from initclient.torch._trace.laws import (
    Applied,
    Constant,
    Derived,
    Dirac,
    Eye,
    Law,
    Normal,
    Orthogonal,
    Other,
    Sparse,
    Truncated,
    Uniform,
    Values,
    through_clamp,
    through_erfinv,
    through_function,
)
from initclient.torch._trace.memory import is_covered, same_bytes
from initclient.torch._trace.sources import Line, Source
from initclient.torch._trace.trace import Trace

__all__ = [
    "BEGINNING",
    "Applied",
    "Assembled",
    "Bounds",
    "Bypasses",
    "Call",
    "Constant",
    "Data",
    "Derived",
    "Dirac",
    "Drawn",
    "Evaluation",
    "Expression",
    "Eye",
    "Filled",
    "Geometry",
    "Law",
    "Line",
    "NoValueError",
    "Normal",
    "Orthogonal",
    "Other",
    "Source",
    "Sparse",
    "Trace",
    "Truncated",
    "Uniform",
    "Unseen",
    "Unwritten",
    "Values",
    "contiguous",
    "geometry_of",
    "is_covered",
    "law_text",
    "refuse_within",
    "same_bytes",
    "text",
    "through_clamp",
    "through_erfinv",
    "through_function",
    "tracing",
    "watched_initializers",
]
