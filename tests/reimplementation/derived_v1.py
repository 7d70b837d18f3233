"""Section 15 of docs/stream-v1.md, written again from the page alone: functions and norms.

Plain Python floats: each operation is one IEEE double operation.
"""

import math
import struct
from collections.abc import Callable

LOG2E = float.fromhex("0x1.71547652b82fep+0")
HIGH, LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
HALF_ROOT = float.fromhex("0x1.6a09e667f3bcdp-1")


def polynomial(x: float, terms: list[float]) -> float:
    """terms[0] + x * (terms[1] + x * (...)), the innermost first."""
    value = terms[-1]
    for term in reversed(terms[:-1]):
        value = value * x + term
    return value


E_TERMS = [1.0 / math.factorial(n) for n in range(2, 17)]
L_TERMS = [1.0 / (2 * k + 1) for k in range(1, 13)]


def power(k: float) -> float:
    return math.ldexp(1.0, int(k))


def exp(x: float) -> float:
    x = min(max(x, -800.0), 800.0)
    k = float(math.floor(x * LOG2E + 0.5))
    r = (x - k * HIGH) - k * LOW
    half = float(math.floor(k * 0.5))
    return (1.0 + (r + r * r * polynomial(r, E_TERMS))) * power(half) * power(k - half)


def expm1(x: float) -> float:
    return x + x * x * polynomial(x, E_TERMS) if abs(x) < 0.5 else exp(x) - 1.0


def log(x: float) -> float:
    m, e = math.frexp(x)
    if m < HALF_ROOT:
        m, e = m + m, e - 1
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    s = s + s
    return e * HIGH + ((s + s * (z * polynomial(z, L_TERMS))) + e * LOW)


def log1p(x: float) -> float:
    u = 1.0 + x
    return x if u == 1.0 else log(u) + (x - (u - 1.0)) / u


FUNCTIONS: dict[str, Callable[[float], float]] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "sqrt": math.sqrt,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1.0 / x,
    "abs": abs,
    "softplus": lambda x: (x if x > 0.0 else 0.0) + log1p(exp(-abs(x))),
    "inverse_softplus": lambda y: y + log(-expm1(-y)),
}


def applied(name: str, x: float, a: float | None, b: float | None) -> float:
    if name == "add":
        assert a is not None
        return x + a
    if name == "multiply":
        assert a is not None
        return x * a
    if name == "clamp":
        if a is not None and x < a:
            x = a
        return b if b is not None and x > b else x
    return FUNCTIONS[name](x)


def norm(values: list[float]) -> float:
    total = 0.0
    for start in range(0, len(values), 2**16):
        group = [value * value for value in values[start : start + 2**16]]
        group += [0.0] * (2**16 - len(group))
        while len(group) > 1:
            half = len(group) // 2
            group = [group[i] + group[half + i] for i in range(half)]
        total = total + group[0]
    return math.sqrt(total)


def double(element: bytes, dtype: str) -> float:
    """The value of an element."""
    if dtype in ("F64", "F32", "F16"):
        return float(struct.unpack({"F64": "<d", "F32": "<f", "F16": "<e"}[dtype], element)[0])
    if dtype == "BF16":
        return float(struct.unpack("<f", b"\0\0" + element)[0])
    if dtype == "F8_E5M2":
        return float(struct.unpack("<e", b"\0" + element)[0])
    bits = element[0]
    exponent, mantissa = bits >> 3 & 15, bits & 7
    size = mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    return -size if bits & 128 else size
