"""The random stream of docs/stream-v1.md: keys, draws, the normal quantile, the normal
distribution function, elementary functions and rounding.

Not here: Philox and loops over many elements (`backends`), and which draw a scheme takes
(`resolve`).
"""

from initcore.stream.draws import (
    Draw,
    Job,
    NormalDraw,
    Pieces,
    Runs,
    TruncNormalDraw,
    UniformDraw,
    WordDraw,
)
from initcore.stream.functions import Step, apply_function, apply_steps, sum_of_squares
from initcore.stream.keys import MASK, VALUE, Stream, derive, derive_all
from initcore.stream.normal_cdf import scaled_normal_cdf
from initcore.stream.quantile import Scratch, normal_quantile
from initcore.stream.rounding import (
    encode_doubles,
    encode_samples,
    encode_scalar,
    fits,
    round_scalar,
    to_float32,
)

__all__ = [
    "MASK",
    "VALUE",
    "Draw",
    "Job",
    "NormalDraw",
    "Pieces",
    "Runs",
    "Scratch",
    "Step",
    "Stream",
    "TruncNormalDraw",
    "UniformDraw",
    "WordDraw",
    "apply_function",
    "apply_steps",
    "derive",
    "derive_all",
    "encode_doubles",
    "encode_samples",
    "encode_scalar",
    "fits",
    "normal_quantile",
    "round_scalar",
    "scaled_normal_cdf",
    "sum_of_squares",
    "to_float32",
]
